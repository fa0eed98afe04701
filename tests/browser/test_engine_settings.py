"""What people choose for the engine on the page: kept, added to the command line, and used by the next engine."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import needs_browser, show, wait_for
from engine_helpers import engine, spec, studio, wait_until_ended
from page_helpers import open_page
from studio_app import Application

from ovi_studio.core.errors import JobError
from ovi_studio.engine.supervisor import engine_command
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.store import Store
from ovi_studio.runtime.options import add_engine_options, maker_options
from ovi_studio.runtime.runner import MakerOptions
from ovi_studio.runtime.settings import EngineSettings, attentions, keep_settings, read_settings


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with studio(tmp_path / "outputs", monkeypatch) as store:
        yield store


def test_settings_are_kept_and_the_command_line_comes_first(store: Store) -> None:
    assert read_settings(store.database) == EngineSettings()
    keep_settings(store.database, EngineSettings(offloaded=True, previews=False))
    kept = read_settings(store.database)
    assert (kept.offloaded, kept.compilation, kept.previews) == (True, None, False)
    options = kept.added_to(MakerOptions(Path("x"), attention="flash2", compiled=True))
    assert options == MakerOptions(Path("x"), attention="flash2", compiled=True, offloaded=True)


@pytest.mark.parametrize(
    ("given", "chosen", "found"),
    [(None, None, None), (None, True, True), (None, False, False), (False, True, False), (True, False, True)],
)
def test_compiling_is_the_command_lines_choice_then_the_pages_then_what_works(
    given: bool | None, chosen: bool | None, found: bool | None
) -> None:
    settings = EngineSettings(compilation=chosen)
    assert settings.added_to(MakerOptions(Path("x"), compiled=given)).compiled is found


def test_an_engine_is_started_with_every_option(tmp_path: Path) -> None:
    options = MakerOptions(tmp_path, "flash2", compiled=False, offloaded=True, weights="int8", memory="12", tf32=True)
    command = engine_command(StudioPaths.of(tmp_path), options)
    parser = argparse.ArgumentParser()
    add_engine_options(parser)
    read = maker_options(parser.parse_args(command[command.index("ovi_studio.engine") + 1 : command.index("--maker")]))
    assert read == options


def test_an_attention_that_is_not_installed_is_refused_and_one_that_was_removed_is_forgotten(store: Store) -> None:
    assert attentions()[0] == "native"
    with pytest.raises(JobError, match="no attention 'nonsense' here"):
        EngineSettings(attention="nonsense")
    store.database.put_setting("engine", {"attention": "nonsense", "offloaded": True, "of a later version": 1})
    assert read_settings(store.database) == EngineSettings(offloaded=True)


def test_an_engine_starts_with_what_was_chosen(store: Store) -> None:
    keep_settings(store.database, EngineSettings(offloaded=True))
    store.add([spec()])
    with engine(store):
        wait_until_ended(store)
    assert "offloaded=True" in store.paths.log.read_text()


@needs_browser
def test_saved_settings_restart_the_engine_and_are_shown_after_a_reload(
    application: Application, chromium: Any
) -> None:
    log = StudioPaths.of(application.outputs).log
    page = open_page(application, chromium)
    show(page, "System")
    offload = page.get_by_label("Keep models in host memory while they are not used")
    offload.wait_for()
    assert not offload.is_checked()
    offload.check()
    page.click("#save-settings")
    page.wait_for_selector("text=Saved. The engine starts anew")
    wait_for(lambda: "offloaded=True" in log.read_text(), 120)
    page.reload()
    show(page, "System")
    page.wait_for_function(
        "[...document.querySelectorAll('#settings label')].some("
        "(label) => label.innerText.includes('host memory') && label.querySelector('input')?.checked)"
    )
    page.close()
