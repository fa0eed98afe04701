"""A first frame that is drawn, on the page: candidates to choose from, and clips that draw their own."""

from collections.abc import Iterator
from typing import Any

import pytest
from browser import leave, needs_browser, wait_for
from page_helpers import newest, open_page, set_steps
from studio_app import Application
from tiny_image_models import write_pixart

from ovi_studio.media.clip_files import read_record

PATIENCE = 240_000
"""Milliseconds for what takes five seconds on an idle machine: diffusers imports all of its pipelines."""
MODEL = "painter/small"


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    home = tmp_path_factory.mktemp("drawing")
    write_pixart(home / "checkpoints" / MODEL)
    found = Application(home / "outputs", home / "checkpoints", "--device", "cpu")
    yield found
    found.end()


@pytest.fixture
def page(application: Application, chromium: Any) -> Iterator[Any]:
    found = open_page(application, chromium)
    yield found
    leave(found)


def open_panel(page: Any) -> None:
    page.fill("#prompt textarea", "a red ball")
    set_steps(page, 1)
    page.get_by_role("button", name="Draw a first frame").click()
    page.wait_for_selector("#draw-candidates")
    assert page.input_value("#image-model input") == MODEL  # the one that is here
    page.locator("#draw-first-frame").get_by_label("Steps").fill("2")


@needs_browser
def test_a_candidate_is_drawn_chosen_and_tells_in_the_clip_how_it_was_drawn(
    page: Any, application: Application
) -> None:
    client = application.client()
    open_panel(page)
    page.locator("#candidate-count label", has_text="2").click()
    page.click("#draw-candidates")
    page.wait_for_selector("#cancel-candidates")
    page.locator("#candidates button img").nth(1).wait_for(timeout=PATIENCE)
    assert page.locator("#candidates button img").count() == 2
    assert client.predict(api_name="/list") == []  # nothing is queued yet
    page.locator("#candidates button:has(img)").nth(1).click()
    page.wait_for_selector("#first-frame img")
    page.click("#generate")
    page.wait_for_selector("#notice >> text=1 clip is in the queue")
    job = newest(client)
    wait_for(lambda: newest(client)["state"] == "done", 120)
    (clip,) = application.outputs.glob(f"*{job['id']}*.mp4")
    drawing = read_record(clip)["spec"]["drawing"]
    assert (drawing["model"], drawing["prompt"], drawing["steps"]) == (MODEL, "a red ball", 2)
    assert newest(client)["spec"]["image"] is True


@needs_browser
def test_draw_and_go_on_draws_a_frame_for_every_clip(page: Any, application: Application) -> None:
    client = application.client()
    open_panel(page)
    page.get_by_label("Draw and go on").check()
    page.click("#generate")
    page.wait_for_selector("#notice >> text=1 clip is in the queue")
    job = newest(client)
    assert job["spec"]["drawing"]["model"] == MODEL
    wait_for(lambda: newest(client)["state"] == "done", PATIENCE / 1000)
    assert newest(client)["spec"]["image"] is True
    # With a picture there is nothing to draw.
    page.get_by_label("Draw and go on").uncheck()
    page.click("#generate")
    wait_for(lambda: newest(client)["id"] != job["id"])
    assert newest(client)["spec"]["drawing"] is None
