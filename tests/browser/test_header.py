"""The header in a real browser: what is seen of the page from elsewhere, its keys, and its room."""

from typing import Any

from browser import fits_width, leave, needs_browser, show
from page_helpers import LONG, line_up, open_page
from studio_app import Application

pytestmark = needs_browser
WIDTHS = (320, 720, 2560)
ICON = "document.querySelector('link[rel~=icon]').href"


def test_progress_is_seen_in_the_title_the_icon_and_on_the_queue_tab(page: Any, client: Any) -> None:
    idle = page.evaluate(ICON)
    assert page.title() == "Ovi Studio"
    jobs = line_up(client, LONG, "a clip that waits")
    page.wait_for_selector("[data-tab-id=queue][data-count='2']")
    page.wait_for_function("/^[0-9]+\\/200 · Ovi Studio$/.test(document.title)")
    page.wait_for_function(f"{ICON} !== {idle!r}")
    # The count is no part of the tab's name.
    assert page.get_by_role("tab", name="Queue", exact=True).count() == 1
    client.predict(jobs, api_name="/cancel")
    page.wait_for_selector("[data-tab-id=queue]:not([data-count])")
    page.wait_for_function("document.title === 'Ovi Studio'")


def test_keys_show_the_shortcuts_and_go_from_tab_to_tab_but_not_while_somebody_types(page: Any) -> None:
    page.locator("#prompt textarea").press("?")
    page.locator("#prompt textarea").press("]")
    assert not page.get_by_role("dialog").is_visible()
    assert page.input_value("#prompt textarea").endswith("?]")
    page.locator("#prompt textarea").blur()
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keyboard shortcuts").wait_for()
    page.keyboard.press("]")  # a dialog is open
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    page.keyboard.press("]")
    page.locator("[role=tab][aria-selected=true][data-tab-id=queue]").wait_for()
    page.keyboard.press("[")
    page.keyboard.press("[")
    page.locator("[role=tab][aria-selected=true][data-tab-id=system]").wait_for()


def test_every_tab_has_room_and_no_name_is_cut_narrow_zoomed_and_wide(application: Application, chromium: Any) -> None:
    page = open_page(application, chromium, (WIDTHS[0], 900))
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for title in page.get_by_role("tab").all_inner_texts():
            show(page, title)
            assert fits_width(page), (width, title)
        cut = "[...document.querySelectorAll('[role=tab]')].filter(tab => tab.scrollWidth > tab.clientWidth)"
        assert page.evaluate(f"{cut}.map(tab => tab.innerText)") == [], width
        assert page.get_by_role("button", name="Keyboard shortcuts").is_visible(), width
    leave(page)
