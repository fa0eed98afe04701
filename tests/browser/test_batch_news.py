"""Announcements of finished batches: always a toast; a sound and a notification if turned on."""

from collections.abc import Iterator
from typing import Any

import pytest
from browser import PATIENCE, needs_browser, visit
from studio_app import Application

pytestmark = needs_browser

LISTEN = """
window.tones = 0;
window.told = [];
const start = OscillatorNode.prototype.start;
OscillatorNode.prototype.start = function (...when) { window.tones += 1; return start.apply(this, when); };
// A browser without an interface shows none, and denies them.
window.Notification = class {
  static permission = "granted";
  static requestPermission = async () => "granted";
  constructor(title, options) { window.told.push(`${title}: ${options.body}`); }
  close() {}
};
"""


@pytest.fixture(scope="module")
def listening(chromium: Any) -> Iterator[Any]:
    """A page that records its sounds and notifications, in a profile of its own."""
    page = chromium.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    page.add_init_script(LISTEN)
    yield page
    page.close()


@pytest.fixture
def page(application: Application, listening: Any, client: Any) -> Iterator[Any]:
    visit(listening, application.url)
    listening.wait_for_selector("#batch-news", state="attached")
    yield listening
    listening.goto("about:blank")


def make(client: Any, name: str, prompt: str = "please wait", steps: int = 10, count: int = 1) -> None:
    client.predict(prompt, settings={"steps": steps}, count=count, name=name, api_name="/queue")


def toast(page: Any, text: str) -> Any:
    return page.locator("#toasts p", has_text=text)


def test_a_toast_announces_a_finished_batch_without_sound_by_default(page: Any, client: Any) -> None:
    make(client, "<b>Evening</b>", steps=5, count=2)
    toast(page, "Done: <b>Evening</b> (2 made)").wait_for()
    assert page.evaluate("[tones, told.length]") == [0, 0]
    make(client, "Refused", "refuse this", steps=1)
    toast(page, "Done: Refused (0 made, 1 failed)").wait_for()
    toast(page, "Evening").wait_for(state="detached")


def test_a_batch_that_ends_between_two_checks_is_announced_and_an_old_one_is_not(page: Any, client: Any) -> None:
    make(client, "Quick", "a clip", steps=1)
    toast(page, "Done: Quick (1 made)").wait_for()
    page.reload()
    page.wait_for_selector("#batch-news", state="attached")
    make(client, "Next", "a clip", steps=1)
    toast(page, "Done: Next (1 made)").wait_for()
    assert toast(page, "Quick").count() == 0


def test_the_bell_turns_on_sound_and_notification_also_after_a_reload(page: Any, client: Any) -> None:
    bell = page.get_by_role("button", name="Notify me when done")
    assert bell.get_attribute("aria-pressed") == "false"
    bell.click()
    page.wait_for_selector("#bell[aria-pressed=true]")
    # Turning it on plays the sound once.
    page.wait_for_function("tones === 2")
    page.reload()
    page.wait_for_selector("#bell[aria-pressed=true]")
    page.wait_for_selector("#batch-news", state="attached")
    make(client, "Night")
    toast(page, "Done: Night (1 made)").wait_for()
    page.wait_for_function("tones === 2 && told.length === 1")
    assert page.evaluate("told") == ["Ovi Studio: Done: Night (1 made)"]
    bell.click()
    page.wait_for_selector("#bell[aria-pressed=false]")
    make(client, "Morning")
    toast(page, "Done: Morning (1 made)").wait_for()
    assert page.evaluate("[tones, told.length]") == [2, 1]


def test_a_cancelled_batch_is_not_announced(page: Any, client: Any) -> None:
    make(client, "Not wanted", steps=1000)
    page.wait_for_selector("#status >> text=/Step \\d+ of 1000/")
    page.click("#status .cancel")
    page.wait_for_selector("#status >> text=Cancelled")
    make(client, "Next", "a clip", steps=1)
    toast(page, "Done: Next (1 made)").wait_for()
    assert toast(page, "Not wanted").count() == 0
