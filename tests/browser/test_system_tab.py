"""The System tab in a real browser, with downloads from a local hub."""

import json
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from browser import HOSTILE, PHONE, fits_width, is_unharmed, needs_browser, show
from hub_server import HubServer
from tab_server import Tab

from ovi_studio.checkpoints import download
from ovi_studio.checkpoints.background import DownloadPhase, Downloads
from ovi_studio.checkpoints.layout import take_inventory
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import published_variants
from ovi_studio.services.doctor import CheckResult, CheckState, DoctorReport
from ovi_studio.services.studio import Studio
from ovi_studio.web.tabs.system import views
from ovi_studio.web.tabs.system.tab import build_system

NAME = "720x720_5s"
LARGE = 4_000_000


TAB = ("System", lambda studio, *_: build_system(studio))


@pytest.fixture
def studio(tab: Tab) -> Studio:
    return tab.studio


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with every file of one published variant, small but in the right format."""
    for files in published_variants()[NAME].files.values():
        for file in files:
            path = tmp_path / file.repository / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path)
    monkeypatch.setattr(download, "RETRY_WAITS", (0.0,))
    monkeypatch.setattr(download, "MARGIN", 0)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    huggingface_hub.close_session()
    with HubServer(tmp_path) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
    huggingface_hub.close_session()


def _write(path: Path) -> None:
    if path.suffix == ".safetensors":
        header = json.dumps({"weight": {"dtype": "U8", "shape": [LARGE], "data_offsets": [0, LARGE]}}).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(LARGE))
    elif path.suffix in (".pth", ".pt"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data.pkl", b"x" * 1000)
    else:
        path.write_text('{"a": 1}', encoding="utf-8")


@needs_browser
def test_restarting_the_engine_says_when_it_happens(tab: Tab, chromium: Any) -> None:
    page = tab.open(chromium)
    page.get_by_role("button", name="Restart the engine", exact=True).click()
    page.wait_for_selector("text=The engine restarts after its current step.")


@needs_browser
def test_results_log_engine_and_folders_are_shown_as_text(tab: Tab, chromium: Any, studio: Studio) -> None:
    studio.paths.log.write_text("".join(f"line {number} {HOSTILE}\n" for number in range(300)), encoding="utf-8")
    page = tab.open(chromium)
    page.wait_for_selector("#doctor .findings", timeout=120_000)
    log = page.locator("#engine-log pre").inner_text()
    assert "line 299 <script>" in log
    assert len(log.splitlines()) == 200
    assert str(studio.paths.outputs) in page.locator("#places").inner_text()
    assert page.locator("#engine-state .badge").inner_text()
    assert page.locator("#usage .bar").count() == 3
    assert page.locator(".model").count() == len(published_variants())
    assert "CC-BY-NC-4.0" in page.locator("#models").inner_text()
    page.set_viewport_size(dict(zip(("width", "height"), PHONE, strict=True)))
    assert fits_width(page)
    assert is_unharmed(page)
    page.close()


@needs_browser
def test_a_download_shows_its_progress_on_every_page_and_completes(
    tab: Tab, chromium: Any, studio: Studio, hub: HubServer
) -> None:
    hub.faults.stall_after = LARGE // 2
    page = tab.open(chromium)
    page.get_by_role("button", name=f"Download: {NAME}", exact=True).click()
    model = page.locator(f"[data-model='{NAME}']")
    model.get_by_text("of 4.0 MB").wait_for()
    # The others are disabled: only one download runs at a time.
    assert page.get_by_role("button", name="Download: 960x960_5s").is_disabled()
    page.reload()
    show(page, "System")
    model.get_by_text("Downloading").wait_for()
    model.get_by_role("button", name="Cancel").click()
    model.get_by_text("Cancelling").wait_for()
    hub.release.set()
    model.get_by_role("button", name="Resume").wait_for()
    assert not take_inventory(published_variants()[NAME], studio.checkpoint_directory).complete
    model.get_by_role("button", name="Resume").click()
    model.get_by_text("Complete").wait_for()
    assert take_inventory(published_variants()[NAME], studio.checkpoint_directory).complete
    assert any(request.range for request in hub.gets())
    page.close()


@needs_browser
def test_a_download_that_fails_says_what_to_do(tab: Tab, chromium: Any, hub: HubServer) -> None:
    hub.faults.status = 403
    page = tab.open(chromium)
    page.get_by_role("button", name="Download: 960x960_5s", exact=True).click()
    notice = page.locator("#models .notice")
    notice.wait_for()
    assert "accept its terms" in notice.inner_text()
    assert "press Download again" in notice.inner_text()
    page.close()


def test_a_second_download_and_an_unknown_model_are_refused(tmp_path: Path) -> None:
    hold = threading.Event()

    def find(*_: Any) -> Any:
        hold.wait(30)
        raise JobError("No network.")

    downloads = Downloads(tmp_path, make_plan=find)
    with pytest.raises(JobError, match="no such model"):
        downloads.start("../../etc")
    downloads.start(NAME)
    with pytest.raises(JobError, match="is being downloaded"):
        downloads.start("960x960_5s")
    hold.set()
    _wait(downloads, DownloadPhase.FAILED)
    assert downloads.state().reason == "No network."
    downloads.start("960x960_5s")
    _wait(downloads, DownloadPhase.FAILED)


def test_an_unexpected_error_ends_a_download_with_a_message(tmp_path: Path) -> None:
    def find(*_: Any) -> Any:
        raise RuntimeError("a defect")

    downloads = Downloads(tmp_path, make_plan=find)
    downloads.start(NAME)
    _wait(downloads, DownloadPhase.FAILED)
    assert "The log of the page says why" in downloads.state().reason


def test_a_command_can_be_copied_and_nothing_is_html() -> None:
    findings = (
        CheckResult(
            "Models", CheckState.NOTE, HOSTILE, "fetch the missing files with `python -m ovi_studio download x`"
        ),
        CheckResult("Attention", CheckState.NOTE, "none", "build it from the folder `hopper`"),
    )
    shown = (
        views.report_html(DoctorReport(findings)) + views.log_html([HOSTILE]) + views.places_html({"x": Path(HOSTILE)})
    )
    assert "<script" not in shown
    assert "<code>python -m ovi_studio download x</code>" in shown
    assert "<code>hopper" not in shown


def _wait(downloads: Downloads, phase: DownloadPhase) -> None:
    deadline = time.monotonic() + 20
    while downloads.state().phase is not phase:
        assert time.monotonic() < deadline, downloads.state()
        time.sleep(0.01)
