"""Accessibility of every tab, checked with axe in both themes, and at the size of a phone."""

from collections.abc import Iterator
from typing import Any

import pytest
from browser import DESKTOP, PHONE, accessibility_faults, fits_width, leave, needs_browser, show, wait_for
from page_helpers import LONG, choose, line_up, open_page
from studio_app import Application

pytestmark = needs_browser
TABS = ("Create", "Queue", "Library", "Templates", "System")
COVERED = ("Library",)
"""Tabs of which `open_something` covers what was there; it only adds to the others."""


@pytest.fixture(scope="module")
def busy(application: Application) -> Iterator[Application]:
    """An application with clips in the library, and failed, cancelled, running and waiting jobs."""
    client = application.client()
    line_up(client, "A red ball", "A blue ball", "refuse this", steps=2)
    wait_for(lambda: not client.predict("queued", api_name="/list") and not client.predict("running", api_name="/list"))
    jobs = line_up(
        client, f"{LONG} slowly", "a ball that waits", "another that waits", "one that is cancelled", steps=1000
    )
    client.predict(jobs[-1:], api_name="/cancel")
    wait_for(lambda: client.predict("running", api_name="/list"))
    yield application
    client.predict(jobs, api_name="/cancel")


def open_something(page: Any, tab: str) -> None:
    """Open the parts of a tab that appear only on use."""
    if tab == "Create":
        page.fill("#prompt textarea", "A {red|blue} ball. A man says, <S>Hello there")
        page.wait_for_selector("#findings >> text=not closed")
        page.click("[data-add=speech]")
        page.click("text=Guidance and sampling")
        page.get_by_text("Many clips at once").evaluate("part => part.scrollIntoView({ block: 'center' })")
        page.click("text=Many clips at once")
        page.wait_for_selector("text=Negative prompt for the sound")
        choose(page, "look")
    elif tab == "Queue":
        page.wait_for_selector(".job .chip >> text=Failed")
        page.wait_for_selector(".job >> text=/Step \\d+ of 1000/")
    elif tab == "Library":
        page.locator("#wall .tick input").first.check()
        page.get_by_text("1 clip selected").wait_for()
        page.locator("#wall .poster").first.click()
        page.wait_for_selector("#lightbox[open] dl div")
    elif tab == "Templates":
        page.locator(".template").first.click()
        page.wait_for_selector(".slots")
        page.get_by_role("button", name="New template").click()
        page.get_by_label("Prompt with slots").wait_for()
    elif tab == "System":
        page.wait_for_selector("#doctor .findings", timeout=180_000)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing_on_any_tab(busy: Application, chromium: Any, size: tuple[int, int]) -> None:
    page = open_page(busy, chromium, size)
    # The colours are the same at each size.
    both = {"both_themes": size == DESKTOP}
    titles = page.get_by_role("tab").all_inner_texts()
    assert set(TABS) <= set(titles)
    faults = {}
    for title in titles:
        show(page, title)
        if title in COVERED:
            faults[title] = accessibility_faults(page, **both)
        open_something(page, title)
        faults[f"{title}, in use"] = accessibility_faults(page, **both)
        assert fits_width(page), title
        page.keyboard.press("Escape")
    page.get_by_role("button", name="Keyboard shortcuts").click()
    page.get_by_role("dialog").get_by_text("Show these shortcuts").wait_for()
    faults["shortcuts"] = accessibility_faults(page, **both)
    assert {place: found for place, found in faults.items() if found} == {}
    leave(page)
