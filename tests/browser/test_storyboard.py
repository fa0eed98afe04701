"""The Film tab in a real browser: from a screenplay to cards that are edited, moved and played."""

from pathlib import Path
from typing import Any

from browser import DESKTOP, PHONE, accessibility_faults, fits_width, leave, needs_browser, show
from page_helpers import open_page
from PIL import Image
from studio_app import Application

pytestmark = needs_browser
FOLLOWED = """
title: Followed
shots:
  - {id: ball, prompt: a ball}
  - {id: long, prompt: please wait slowly}
  - {id: after, prompt: the ball again, begin: {shot: ball}}
"""
SCREENPLAY = "INT. HALL\n\nTOM waits.\n\nTOM\nHello.\n\nTom leaves.\n\nTom is back.\n"


def queue_film(page: Any, text: str) -> None:
    page.get_by_label("Screenplay in Fountain form").fill(text)
    page.get_by_role("button", name="Queue the film").click()


def test_a_screenplay_becomes_a_storyboard(
    application: Application, chromium: Any, client: Any, tmp_path: Path
) -> None:
    page = open_page(application, chromium)
    show(page, "Film")
    page.get_by_text("No film yet").wait_for()
    assert accessibility_faults(page) == []
    page.get_by_role("button", name="New film").click()
    queue_film(page, SCREENPLAY)
    cards = page.locator("#storyboard .shot")
    page.locator("#storyboard .chip.done").nth(2).wait_for()
    # Edited, by keyboard, and only this one is made again; with a picture that is uploaded.
    page.get_by_role("button", name="Edit: shot 2").click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("Tom smiles.")
    Image.new("RGB", (96, 64), "teal").save(tmp_path / "frame.png")
    cards.nth(1).get_by_label("First frame").set_input_files(str(tmp_path / "frame.png"))
    page.get_by_role("button", name="Save").click()
    cards.nth(1).locator("p >> text=Tom smiles.").wait_for()
    cards.nth(1).get_by_role("button", name="Take 2", pressed=True).wait_for()
    cards.nth(1).get_by_text("begins with a picture").wait_for()
    page.get_by_role("button", name="Move later: shot 1").click()
    page.locator("#storyboard .shot:first-child p >> text=Tom smiles.").wait_for()
    page.locator("#storyboard .chip.done").nth(2).wait_for()
    # Every take is checked, by a process of its own.
    cards.nth(2).get_by_role("list", name="Checks of take").get_by_text("Silent").wait_for()
    cards.nth(2).drag_to(cards.nth(0))
    page.locator("#storyboard .shot:first-child p >> text=Tom is back.").wait_for()
    assert cards.locator(".chip.done").count() == 3
    page.get_by_role("button", name="Play from shot 1").click()
    page.get_by_role("dialog", name="Film").get_by_text("of 3").wait_for()
    page.wait_for_function("document.querySelector('#storyboard video').src.endsWith('/clip.mp4')")
    page.keyboard.press("Escape")
    a_take_is_deleted_while_the_film_waits(page, client)
    is_accessible_in_both_themes_and_widths(page)
    leave(page)


def a_take_is_deleted_while_the_film_waits(page: Any, client: Any) -> None:
    """By the stage of the Create tab: the cards say so, and another take brings back what depends on it."""
    queue_film(page, FOLLOWED)
    ball, long, after = (page.locator(f"#storyboard .shot[data-id={shot}]") for shot in ("ball", "long", "after"))
    ball.locator(".chip.done").wait_for()
    job = ball.locator("img").get_attribute("src").split("/")[2]
    show(page, "Create")
    page.click(f"#filmstrip [data-show='{job}']")
    page.click(f"#result-bar [data-of='{job}'] [data-act=remove]")
    page.wait_for_selector(f"#filmstrip [data-show='{job}']", state="detached")
    show(page, "Film")
    ball.get_by_text("This take was moved or deleted; put it back, or ask for another one.").wait_for()
    assert after.locator(".chip.queued").is_visible()
    # It is its turn now.
    running = next(one["id"] for one in client.predict(api_name="/list") if "slowly" in one["spec"]["prompt"])
    client.predict(running, api_name="/cancel")
    after.get_by_text("was moved, deleted or damaged; put it back and retry this job").wait_for()
    ball.get_by_role("button", name="Another take").click()
    for card in (ball, after):
        card.get_by_role("button", name="Take 2", pressed=True).wait_for()
        card.locator(".chip.done").wait_for()
    assert long.locator(".chip.cancelled").is_visible()


def is_accessible_in_both_themes_and_widths(page: Any) -> None:
    """With a form that is open, takes, and states of all kinds."""
    page.locator("#storyboard [data-action=edit]").first.click()
    for (width, height), theme in ((DESKTOP, "dark"), (PHONE, "light")):
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=theme)
        assert accessibility_faults(page) == []
        assert fits_width(page)
