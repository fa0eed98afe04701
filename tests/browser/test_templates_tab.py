"""The Templates tab in a real browser."""

from collections.abc import Iterator
from typing import Any

import pytest
from browser import HOSTILE, PHONE, fits_width, is_unharmed, leave, needs_browser
from tab_server import Tab

from ovi_studio.services.studio import Studio
from ovi_studio.services.templates import Slot
from ovi_studio.web.tabs.templates import views
from ovi_studio.web.tabs.templates.tab import build_templates

TAB = ("Templates", build_templates)


@pytest.fixture
def studio(tab: Tab) -> Studio:
    return tab.studio


@pytest.fixture
def page(tab: Tab, chromium: Any) -> Iterator[Any]:
    page = tab.open(chromium)
    page.wait_for_selector("#template-cards .template")
    yield page
    assert is_unharmed(page)
    leave(page)


def choose(page: Any, title: str) -> None:
    page.locator(".template", has_text=title).click()
    page.locator(".slots h2", has_text=title).wait_for()


@needs_browser
def test_every_category_has_cards(page: Any) -> None:
    for category in ("Nature", "Urban", "Abstract", "Character"):
        page.get_by_label(category, exact=True).check()
        page.wait_for_function(
            "name => [...document.querySelectorAll('.template .category')].every(e => e.innerText === name)",
            arg=category,
        )
        assert page.locator(".template").count() >= 4


@needs_browser
def test_the_value_of_a_slot_appears_in_the_prompt_and_in_the_form(page: Any, studio: Studio) -> None:
    template = next(one for one in studio.templates.all().templates if one.slots and one.aspect_ratio)
    choose(page, template.title)
    field = page.locator("[data-slot]").first
    field.fill(f"zebra {HOSTILE}")
    page.locator("#template-prompt .prompt", has_text="zebra <script>").wait_for()
    # The latest value is used, even if the button is pressed immediately.
    field.fill("okapi")
    page.get_by_role("button", name="Use this template").click()
    page.wait_for_selector("#form-prompt textarea:visible")
    prompt = page.input_value("#form-prompt textarea")
    assert "okapi" in prompt
    assert "Audio:" in prompt
    assert page.get_by_label(template.aspect_ratio, exact=True).is_checked()


@needs_browser
def test_a_suggestion_fills_its_slot(page: Any, studio: Studio) -> None:
    template = next(one for one in studio.templates.all().templates if one.slots and one.slots[0].suggestions)
    choose(page, template.title)
    suggestion = template.slots[0].suggestions[0]
    page.get_by_role("button", name=suggestion, exact=True).click()
    assert page.locator("[data-slot]").first.input_value() == suggestion
    page.locator("#template-prompt .prompt", has_text=suggestion).wait_for()
    other = next(one for one in studio.templates.all().templates if one.slots and one.id != template.id)
    choose(page, other.title)
    assert page.locator("[data-slot]").first.input_value() == other.slots[0].default


@needs_browser
def test_own_templates_are_created_from_the_form_edited_deleted_and_put_back(page: Any, studio: Studio) -> None:
    page.get_by_role("tab", name="Create").click()
    page.fill("#form-prompt textarea", "A {animal} says, <S>{line}<E> Audio: wind")
    page.get_by_role("tab", name="Templates").click()
    page.get_by_role("button", name="New template").click()
    page.get_by_role("button", name="Copy the prompt from Create").click()
    page.wait_for_function("[...document.querySelectorAll('#template-editor textarea')].some(e => e.value === 'wind')")
    page.get_by_label("Title").fill(f"Mine {HOSTILE}"[:80])
    page.get_by_label("Slot values").fill("animal: owl | fox")
    page.get_by_role("button", name="Save", exact=True).click()
    page.locator(".slots h2", has_text="Mine <script>").wait_for()
    page.wait_for_selector("text=The template was saved among your own.")
    (own,) = [one for one in studio.templates.all().templates if one.own]
    assert own.audio == "wind"
    assert own.slots == (Slot("animal", "Animal", "owl", ("fox",)), Slot("line", "Line", "line"))

    page.get_by_role("button", name="Edit", exact=True).click()
    page.wait_for_selector("text=Edit template")
    page.get_by_label("Title").fill("Changed")
    page.get_by_role("button", name="Save", exact=True).click()
    page.locator(".slots h2", has_text="Changed").wait_for()
    page.get_by_role("button", name="Delete template").click()
    page.wait_for_selector("text=You have no templates yet")
    assert not [one for one in studio.templates.all().templates if one.own]
    page.keyboard.press("Control+z")
    page.locator(".template", has_text="Changed").wait_for()
    assert [one.title for one in studio.templates.all().templates if one.own] == ["Changed"]


@needs_browser
def test_an_invalid_template_is_refused_with_a_message(page: Any) -> None:
    page.get_by_role("button", name="New template").click()
    page.get_by_label("Title").fill("Wrong")
    page.get_by_label("Prompt with slots").fill("A cat says, <S>hello")
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_selector("text=That did not work")


@needs_browser
def test_a_phone_needs_no_horizontal_scrolling(tab: Tab, chromium: Any) -> None:
    page = tab.open(chromium, PHONE)
    page.locator(".template").first.click()
    page.wait_for_selector(".slots")
    assert fits_width(page)
    page.get_by_role("button", name="New template").click()
    page.get_by_label("Title").wait_for()
    assert fits_width(page)
    leave(page)


def test_slots_are_formatted_as_lines_and_parsed_again() -> None:
    slots = (Slot("animal", "Which animal", "owl", ("fox",)), Slot("line", "Line", "So: quiet"))
    text = views.slot_lines(slots)
    assert text == "animal: owl | fox\nline: So: quiet"
    parsed = views.parse_slot_lines(text, "{animal} {line} {mood}", slots)
    assert parsed == {
        "animal": {"label": "Which animal", "default": "owl", "suggestions": ["fox"]},
        "line": {"label": "Line", "default": "So: quiet", "suggestions": []},
        "mood": {"label": "Mood", "default": "mood", "suggestions": []},
    }
