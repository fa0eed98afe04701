"""The registry of tabs: the page takes everything about a tab from its entry."""

import json
from pathlib import Path
from typing import Any

import pytest

import ovi_studio.web
from ovi_studio.engine.supervisor import Condition, Supervision
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.doctor import CheckResult, CheckState, DoctorReport
from ovi_studio.services.studio import Studio
from ovi_studio.web.public_text import public_status
from ovi_studio.web.studio_page import build_studio
from ovi_studio.web.tabs.registry import TABS, Tab
from ovi_studio.web.tabs.system.handlers import SystemHandlers
from ovi_studio.web.theme import launch_options

WEB = Path(ovi_studio.web.__file__).parent


def test_every_tab_folder_is_registered_once() -> None:
    folders = sorted(path.name for path in (WEB / "tabs").iterdir() if (path / "tab.py").is_file())
    assert sorted(tab.id for tab in TABS) == folders


def test_every_stylesheet_is_served_and_those_of_the_tabs_come_last_in_order() -> None:
    options = launch_options()
    served = options["css_paths"]
    # Those of the player are in its shadow roots.
    player = list((WEB / "player").glob("*.css"))
    assert sorted(served) == sorted(set(WEB.rglob("*.css")) - set(player))
    assert all(path.read_text(encoding="utf-8").splitlines()[0] in options["head"] for path in player)
    own = [path for tab in TABS for path in tab.stylesheets]
    assert served[-len(own) :] == own
    assert [tab.stylesheets[0].stem for tab in TABS] == [tab.id for tab in TABS]


@pytest.mark.parametrize("tab", TABS, ids=lambda tab: tab.id)
def test_a_tab_has_the_icon_of_its_entry(tab: Tab) -> None:
    rules = [rule for rule in launch_options()["css"].splitlines() if f'[data-tab-id="{tab.id}"]' in rule]
    assert len(rules) == 1
    assert tab.icon.replace(" ", "%20") in rules[0]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Any:
    place = tmp_path_factory.mktemp("page")
    studio = Studio.open(place / "outputs", RuntimeOptions(checkpoint_directory=place / "checkpoints"))
    try:
        return build_studio(studio)
    finally:
        studio.close()


def test_the_page_has_the_registered_tabs_in_order(page: Any) -> None:
    shown = [part["props"] for part in page.config["components"] if part["type"] == "tabitem"]
    assert [(tab["id"], tab["label"]) for tab in shown if tab["id"]] == [(tab.id, tab.title) for tab in TABS]


def test_what_says_how_something_is_now_is_not_dropped_while_an_earlier_one_is_answered(page: Any) -> None:
    # `once`, Gradio's own mode, drops them.
    states = {
        "input",
        "change",
        "shown",
        "hidden",
        "load",
        "beat",
        "table",
        "inspect",
        "preview",
        "again",
        "put",
        "read",
    }
    dropped = {
        (event, handler.name)
        for handler in page.fns.values()
        if handler.trigger_mode == "once"
        for _, event in handler.targets
        if event in states
    }
    assert dropped == set()


@pytest.mark.slow
def test_a_page_that_anyone_may_open_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    places = {True: tmp_path / "open", False: tmp_path / "own"}
    pages = {}
    for open_to_all, place in places.items():
        studio = Studio.open(
            place / "outputs", RuntimeOptions(checkpoint_directory=place / "ckpts"), open_to_all=open_to_all
        )
        try:
            pages[open_to_all] = json.dumps(build_studio(studio).config, default=str)
        finally:
            studio.close()
    assert str(places[False]) in pages[False]
    assert str(places[True]) not in pages[True]


def test_the_system_tab_of_a_page_that_anyone_may_open_shows_neither_folders_nor_the_log(tmp_path: Path) -> None:
    options, shown = RuntimeOptions(checkpoint_directory=tmp_path / "checkpoints"), {}
    for open_to_all in (False, True):
        studio = Studio.open(tmp_path / "outputs", options, open_to_all=open_to_all)
        try:
            studio.paths.log.write_text(f"Loading {tmp_path}/checkpoints/secret\n", encoding="utf-8")
            handlers = SystemHandlers(studio, None)
            handlers._report = examine_files(tmp_path)
            shown[open_to_all] = " ".join(handlers.refresh(())[-1])
        finally:
            studio.close()
    assert str(tmp_path) in shown[False]
    assert str(tmp_path) not in shown[True]
    assert "secret" not in shown[True]


def examine_files(folder: Path) -> DoctorReport:
    return DoctorReport((CheckResult("Disks", CheckState.OK, f"Output directory {folder}/outputs: 3 GB free"),))


def test_the_status_for_everyone_has_no_lines_of_the_log() -> None:
    status = Supervision(Condition.DOWN, "The engine cannot read /home/ann/models/a.safetensors.", ("Traceback",))
    assert public_status(status) == Supervision(Condition.DOWN, "The engine cannot read a.safetensors.")
