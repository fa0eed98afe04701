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
from browser import (
    DESKTOP,
    HOSTILE,
    PHONE,
    accessibility_faults,
    close_toasts,
    fits_width,
    go_on,
    is_unharmed,
    leave,
    needs_browser,
    show,
    wait_for,
)
from hub_server import HubServer
from tab_server import Tab

from ovi_studio.checkpoints import download
from ovi_studio.checkpoints.background import DownloadPhase, Downloads
from ovi_studio.checkpoints.layout import take_inventory
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import published_variants
from ovi_studio.farm.roster import MachineState, MachineStatus, Order, give_order, orders, publish, resumptions
from ovi_studio.queue.estimates import PhaseTimes, record_phase_times
from ovi_studio.queue.work import EngineSession
from ovi_studio.services.doctor import CheckResult, CheckState, DoctorReport
from ovi_studio.services.studio import Studio
from ovi_studio.web.tabs.system import texts, views
from ovi_studio.web.tabs.system.tab import build_system

NAME = "720x720_5s"
LARGE = 4_000_000


TAB = ("System", lambda studio, _form, _tabs, toasts: build_system(studio, toasts))


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


@pytest.fixture
def page(request: pytest.FixtureRequest, tab: Tab, chromium: Any) -> Iterator[Any]:
    """For tests that name it before what it shows, whose end it then sees, too."""
    with go_on(request, lambda: tab.open(chromium), tidy) as page:
        yield page
        assert is_unharmed(page)


def tidy(page: Any) -> None:
    page.set_viewport_size({"width": DESKTOP[0], "height": DESKTOP[1]})
    close_toasts(page)
    page.locator("[data-machine]").first.wait_for(state="detached")


@needs_browser
def test_restarting_the_engine_says_when_it_happens(page: Any) -> None:
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
    leave(page)


@pytest.fixture
def farm(studio: Studio) -> Iterator[Studio]:
    """A studio with two machines, as the farm's process describes them."""
    rig = MachineStatus(
        "rig", "NVIDIA GeForce RTX 3090", 24.0, (NAME, "960x960_5s"), MachineState.WORKING, since=time.time() - 7500,
        free=5.25,
    )  # fmt: skip
    attic = MachineStatus("attic", HOSTILE, 12.0, (NAME,), MachineState.SET_ASIDE, f"No driver. {HOSTILE}")
    spec = ClipSpec(prompt="x", variant=NAME, steps=50)
    record_phase_times(studio.store.database, spec, PhaseTimes(text=1.0, step=1.2, decode=5.0, write=1.0), "farm.rig")
    studio.supervisor.leads_machines = True
    publish(studio.store.database, [attic, rig])
    with EngineSession(studio.store.database, "engine-test"), EngineSession(studio.store.database, "farm.rig-test"):
        yield studio
    for name in orders(studio.store.database):
        give_order(studio.store.database, name, None)
    publish(studio.store.database, [])
    studio.supervisor.leads_machines = False


@needs_browser
def test_machines_are_shown_with_their_figures_and_told_what_to_do_by_one_click(page: Any, farm: Studio) -> None:
    rig, attic = (page.locator(f"[data-machine={name}]") for name in ("rig", "attic"))
    rig.wait_for()
    shown = rig.inner_text()
    for figure in ("RTX 3090", "5.2 GiB free of 24", NAME, "54 clips an hour, 1.20 s a step", "2 h 5 min", "Working"):
        assert figure in shown
    assert "No driver. <script>" in attic.inner_text()
    assert "Process" in page.locator("#engine-state").inner_text()
    assert "rig" not in page.locator("#engine-state").inner_text()
    for word, order, state in (
        ("Pause", Order.PAUSE, "Pauses after its clip"),
        ("Drain", Order.DRAIN, "Drains after its clip"),
        ("Remove", Order.REMOVE, "Leaves after its step"),
        ("Resume", None, "Working"),
    ):
        page.get_by_role("button", name=f"{word}: rig", exact=True).click()
        rig.get_by_text(state, exact=True).wait_for()
        assert orders(farm.store.database).get("rig") is order
    page.get_by_role("button", name="Undo").last.click()
    rig.get_by_text("Leaves after its step").wait_for()
    assert orders(farm.store.database) == {"rig": Order.REMOVE}
    page.get_by_role("button", name="Try again: attic", exact=True).click()
    wait_for(lambda: resumptions(farm.store.database) == {"rig": 1, "attic": 1})


@needs_browser
def test_machines_have_room_and_axe_finds_nothing_in_both_themes(page: Any, farm: Studio) -> None:
    page.wait_for_selector("[data-machine=rig]")
    for width, height in (DESKTOP, PHONE):
        page.set_viewport_size({"width": width, "height": height})
        assert accessibility_faults(page, within="#machines") == []
        assert fits_width(page)


@needs_browser
def test_a_page_for_anyone_shows_no_machines_and_takes_no_orders(page: Any, farm: Studio) -> None:
    button = page.get_by_role("button", name="Pause: rig", exact=True)
    button.wait_for()
    farm.open_to_all = True
    try:
        button.click()
        page.get_by_text(texts.NOT_ORDERED).wait_for()
        assert "rig" not in orders(farm.store.database)
        page.locator("[data-machine]").first.wait_for(state="detached")
    finally:
        farm.open_to_all = False


@needs_browser
def test_without_a_farm_there_is_only_the_engine_of_this_machine(page: Any) -> None:
    page.wait_for_selector("#engine-state .badge")
    wait_for(lambda: page.locator("#machines").inner_text().strip() == "")  # not even how long it loads


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
    leave(page)


@needs_browser
def test_a_download_that_fails_says_what_to_do(tab: Tab, chromium: Any, hub: HubServer) -> None:
    hub.faults.status = 403
    page = tab.open(chromium)
    page.get_by_role("button", name="Download: 960x960_5s", exact=True).click()
    notice = page.locator("#models .notice")
    notice.wait_for()
    assert "accept its terms" in notice.inner_text()
    assert "press Download again" in notice.inner_text()
    leave(page)


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
