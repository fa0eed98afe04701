"""Engine settings on the page: saved, added to the command line, and used by the next engine."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import leave, needs_browser, show, wait_for
from engine_helpers import engine, spec, studio, wait_until_ended
from page_helpers import open_page
from studio_app import Application

from ovi_studio.core.errors import JobError
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.store import Store
from ovi_studio.runtime import options, settings
from ovi_studio.runtime.options import RuntimeOptions, installed_attentions
from ovi_studio.runtime.settings import EngineSettings, read_settings, save_settings


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with studio(tmp_path / "outputs", monkeypatch) as store:
        yield store


def test_settings_are_saved_and_the_command_line_takes_precedence(store: Store) -> None:
    assert read_settings(store.database) == EngineSettings()
    save_settings(store.database, EngineSettings(RuntimeOptions(offloaded=True, tf32=True), previews=False))
    kept = read_settings(store.database)
    assert kept == EngineSettings(RuntimeOptions(offloaded=True, tf32=True), previews=False)
    given = RuntimeOptions(attention="flash2", compilation=True, tf32=False)
    assert given.over(kept.options) == replace(given, offloaded=True)


@pytest.mark.parametrize(
    ("given", "chosen", "found"),
    [(None, None, None), (None, True, True), (None, False, False), (False, True, False), (True, False, True)],
)
def test_compilation_is_decided_by_the_command_line_then_the_page_then_what_works(
    given: bool | None, chosen: bool | None, found: bool | None
) -> None:
    assert RuntimeOptions(compilation=given).over(RuntimeOptions(compilation=chosen)).compilation is found


def test_settings_of_an_earlier_version_are_read(store: Store) -> None:
    kept = {"attention": "native", "compilation": None, "tf32": False, "offloaded": True, "previews": False}
    store.database.put_setting("engine", kept | {"weights": "int8", "memory": "auto"})
    read = read_settings(store.database)
    assert read == EngineSettings(
        RuntimeOptions(offloaded=True, attention="native", weights="int8", tf32=False), previews=False
    )


def test_an_attention_that_is_not_installed_is_refused_and_one_that_was_removed_is_forgotten(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert installed_attentions()[0] == "native"
    monkeypatch.setattr(options, "installed_attentions", lambda: ["native"])
    monkeypatch.setattr(settings, "installed_attentions", lambda: ["native"])
    with pytest.raises(JobError, match="'flash3' is not installed here; choose one of native"):
        EngineSettings(RuntimeOptions(attention="flash3"))
    for gone in ("flash3", "one of a later version"):
        store.database.put_setting("engine", {"attention": gone, "offloaded": True, "of a later version": 1})
        assert read_settings(store.database) == EngineSettings(RuntimeOptions(offloaded=True))


def test_an_engine_starts_with_the_saved_settings(store: Store) -> None:
    save_settings(store.database, EngineSettings(RuntimeOptions(offloaded=True)))
    store.add([spec()])
    with engine(store):
        wait_until_ended(store)
    assert "starts with --ckpt-dir" in store.paths.log.read_text()
    assert "--cpu-offload" in store.paths.log.read_text()


@needs_browser
def test_saved_settings_restart_the_engine_and_are_shown_after_a_reload(
    application: Application, chromium: Any
) -> None:
    log = StudioPaths.of(application.outputs).log
    page = open_page(application, chromium)
    show(page, "System")
    offload = page.get_by_label("Keep models in host memory while they are not in use")
    offload.wait_for()
    assert not offload.is_checked()
    offload.check()
    page.click("#save-settings")
    page.wait_for_selector("text=Saved. The engine restarts")
    wait_for(lambda: "--cpu-offload" in log.read_text(), 120)
    page.reload()
    show(page, "System")
    page.wait_for_function(
        "[...document.querySelectorAll('#settings label')].some("
        "(label) => label.innerText.includes('host memory') && label.querySelector('input')?.checked)"
    )
    leave(page)
