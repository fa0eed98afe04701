"""The registry of tabs: the page takes everything about a tab from its entry."""

from pathlib import Path

import pytest

import ovi_studio.web
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.studio import Studio
from ovi_studio.web.studio_page import build_studio
from ovi_studio.web.tabs.registry import TABS, Tab
from ovi_studio.web.theme import launch_options

WEB = Path(ovi_studio.web.__file__).parent


def test_every_tab_folder_is_registered_once() -> None:
    folders = sorted(path.name for path in (WEB / "tabs").iterdir() if (path / "tab.py").is_file())
    assert sorted(tab.id for tab in TABS) == folders


def test_every_stylesheet_is_served_and_those_of_the_tabs_come_last_in_order() -> None:
    served = launch_options()["css_paths"]
    assert sorted(served) == sorted(WEB.rglob("*.css"))
    assert served[-len(TABS) :] == [tab.stylesheet for tab in TABS]


@pytest.mark.parametrize("tab", TABS, ids=lambda tab: tab.id)
def test_a_tab_has_the_icon_of_its_entry(tab: Tab) -> None:
    rules = [rule for rule in launch_options()["css"].splitlines() if f'[data-tab-id="{tab.id}"]' in rule]
    assert len(rules) == 1
    assert tab.icon.replace(" ", "%20") in rules[0]


def test_the_page_has_the_registered_tabs_in_order(tmp_path: Path) -> None:
    studio = Studio.open(tmp_path / "outputs", RuntimeOptions(checkpoint_directory=tmp_path / "checkpoints"))
    try:
        components = build_studio(studio).config["components"]
    finally:
        studio.close()
    shown = [part["props"] for part in components if part["type"] == "tabitem"]
    assert [(tab["id"], tab["label"]) for tab in shown if tab["id"]] == [(tab.id, tab.title) for tab in TABS]
