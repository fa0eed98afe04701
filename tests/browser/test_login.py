"""The login page in a real browser."""

from pathlib import Path
from typing import Any

from browser import PHONE, accessibility_faults, fits_width, leave, needs_browser, new_page
from studio_app import running

pytestmark = needs_browser


def test_the_login_page_says_what_is_wrong_and_lets_the_right_one_in(tmp_path: Path, chromium: Any) -> None:
    with running(tmp_path / "outputs", "--login", "studio:right horse") as application:
        page = new_page(chromium, application.url, PHONE)
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            assert accessibility_faults(page) == []
        assert fits_width(page)
        assert page.evaluate("document.activeElement.name") == "username"
        page.keyboard.type("studio")
        page.keyboard.press("Tab")
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        page.get_by_role("alert").get_by_text("The name or the password is wrong.").wait_for()
        # The field is selected, so that typing replaces what is wrong.
        page.keyboard.type("right horse")
        page.keyboard.press("Enter")
        page.wait_for_selector("#generate")
        leave(page)
