"""The Library tab in a real browser, over a real library of tiny clips."""

import io
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
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
    needs_browser,
    show,
    wait_for,
)
from clip_reading import read_frames
from PIL import Image
from tab_server import Tab, make_clip

from ovi_studio.core.errors import JobError
from ovi_studio.library import Query
from ovi_studio.media.pictures import decode_picture
from ovi_studio.services.studio import Studio
from ovi_studio.web.improving import build_improving
from ovi_studio.web.tabs.library.handlers import PAGE_SIZE, LibraryHandlers, id_of
from ovi_studio.web.tabs.library.tab import build_library
from ovi_studio.web.toasts import Toasts


def build(studio: Studio, form: Any, tabs: gr.Tabs, toasts: Toasts) -> None:
    build_library(studio, form, tabs, toasts)
    build_improving(studio.improvements, toasts)


TAB = ("Library", build)


@pytest.fixture
def studio(tab: Tab) -> Studio:
    return tab.studio


@pytest.fixture
def clips(studio: Studio) -> Iterator[Path]:
    """Three clips in an otherwise empty library; the last one is the newest."""
    buffer = io.BytesIO()
    Image.new("RGB", (96, 64), (200, 40, 20)).save(buffer, "PNG")
    first = decode_picture(buffer.getvalue(), "test")
    outputs = studio.paths.outputs
    make_clip(outputs, "A quiet harbour at dawn", made=1, seed=11, first=first)
    make_clip(outputs, HOSTILE, made=2, seed=22)
    make_clip(outputs, "A red fox in the snow", made=3, seed=33, variant="720x720_5s")
    look(studio)
    yield outputs
    known = studio.library.search(Query()).clips
    studio.library.set_favourite([clip.id for clip in known], False)
    for clip in known:
        studio.library.change_tags([clip.id], remove=clip.tags)
    for file in outputs.iterdir():
        file.unlink()
    look(studio)
    studio.library.delete_trashed(studio.library.empty_trash())


def look(studio: Studio) -> None:
    """Wait until the library has read all changes."""
    while studio.library.refresh():
        pass


@pytest.fixture
def page(request: pytest.FixtureRequest, tab: Tab, chromium: Any, clips: Path) -> Iterator[Any]:
    with go_on(request, lambda: tab.open(chromium), tidy) as page:
        # Of a page that is gone on with, this asks for the clips of this test.
        search(page, "")
        count(page, 3)
        yield page
        assert is_unharmed(page)


def tidy(page: Any) -> None:
    """Bring back the tab of a new page, but for a search that finds nothing."""
    page.set_viewport_size({"width": DESKTOP[0], "height": DESKTOP[1]})
    page.mouse.move(0, 0)
    for part in ("#lightbox .comparing", "#lightbox", "dialog[open]"):
        if page.locator(part).locator("visible=true").count():
            page.keyboard.press("Escape")
    page.locator("dialog[open]").wait_for(state="detached")
    close_toasts(page)
    show(page, "Library")
    page.get_by_role("radio", name="Clips").check()
    page.get_by_label("Favourites only").uncheck()
    for label, first in (("Sort", "Newest first"), ("First frame", "Any")):
        field = page.get_by_label(label, exact=True)
        if field.input_value() != first:
            field.click()
            page.get_by_role("option", name=first, exact=True).click()
    search(page, "nothing like it")
    page.wait_for_selector("text=No clips match")
    page.locator("#selection-bar").wait_for(state="hidden")


def count(page: Any, number: int) -> None:
    """Wait until there are `number` cards."""
    page.wait_for_function("n => document.querySelectorAll('#wall .card').length === n", arg=number)


def card(page: Any, words: str) -> Any:
    return page.locator("#wall .card", has_text=words)


def play(page: Any, words: str) -> None:
    card(page, words).get_by_role("button", name="Play").click()
    page.wait_for_function("document.querySelector('#lightbox[open] ovi-player')?.video.readyState > 1")


def shown_prompt(page: Any, words: str) -> None:
    """Wait until the lightbox shows a clip with these words."""
    page.locator("#lightbox .prompt", has_text=words).wait_for()


@needs_browser
def test_the_lightbox_plays_a_clip_shows_its_settings_and_goes_to_its_neighbours_by_the_keyboard(page: Any) -> None:
    count(page, 3)
    assert page.locator("#wall video").count() == 0
    play(page, "harbour")
    page.wait_for_function("document.querySelector('#lightbox ovi-player').video.currentTime > 0")
    shown_prompt(page, "A quiet harbour at dawn")
    facts = page.locator("#lightbox dl").inner_text()
    assert "Seed\n11" in facts
    assert "first.png" in facts
    assert "/elsewhere" not in facts
    page.keyboard.press("Space")
    page.wait_for_function("document.querySelector('#lightbox ovi-player').video.paused")
    page.keyboard.press("ArrowLeft")
    page.locator("#lightbox .prompt", has_text="window.pwned").wait_for()
    page.keyboard.press("ArrowLeft")
    shown_prompt(page, "fox")
    page.keyboard.press("f")
    page.wait_for_selector("#lightbox .star[aria-pressed=true]")
    with page.expect_download() as download:
        page.keyboard.press("d")
    assert download.value.suggested_filename.startswith("A_red_fox")
    page.keyboard.press("c")
    page.wait_for_function("document.querySelector('#lightbox .comparing ovi-compare')?.videos.length === 2")
    page.keyboard.press("Escape")
    page.wait_for_selector("#lightbox .comparing", state="detached")
    page.keyboard.press("Escape")
    page.wait_for_selector("#lightbox", state="hidden")
    page.wait_for_function("document.activeElement.getAttribute('aria-label')?.includes('fox')")


@needs_browser
def test_the_lightbox_saves_the_frame_on_screen(page: Any) -> None:
    play(page, "fox")
    page.keyboard.press("Space")
    page.evaluate("document.querySelector('#lightbox ovi-player').video.currentTime = 0.26")
    page.wait_for_function("!document.querySelector('#lightbox ovi-player').video.seeking")
    with page.expect_download() as saved:
        page.get_by_label("Save as").select_option("Frame on screen (PNG)")
    assert saved.value.suggested_filename.startswith("A_red_fox")
    assert Image.open(saved.value.path()).size == (96, 64)
    with page.expect_download() as saved:
        page.get_by_label("Save as").select_option("Clip and settings (zip)")
    with zipfile.ZipFile(saved.value.path()) as archive:
        assert [Path(name).suffix for name in archive.namelist()] == [".csv", ".mp4"]


@needs_browser
def test_what_cannot_be_saved_is_said(page: Any, clips: Path) -> None:
    play(page, "fox")
    next(path for path in clips.glob("*.mp4") if "fox" in path.name).unlink()
    page.get_by_label("Save as").select_option("Sound (WAV)")
    page.wait_for_selector("#toasts >> text=Not saved: This no longer exists.")


@needs_browser
def test_selected_clips_are_queued_to_be_made_smoother_and_what_cannot_be_is_said(page: Any, studio: Studio) -> None:
    for words in ("fox", "harbour"):
        card(page, words).get_by_role("checkbox").check()
    page.get_by_text("2 clips selected").wait_for()
    page.click("#improve-selected")
    dialog = page.get_by_role("dialog", name="Larger and smoother")
    dialog.get_by_text("put an upscaler").wait_for()
    queue = dialog.get_by_role("button", name="Queue 2 copies")
    assert queue.is_disabled()
    dialog.get_by_label("48").check()
    queue.click()
    page.wait_for_selector("#toasts >> text=2 copies are in the queue: 48 frames a second.")
    assert not dialog.is_visible()
    jobs = studio.store.jobs()
    assert {job.improves.clip.name.split("_")[2] for job in jobs} == {"fox", "harbour"}
    assert {job.improves.improvement.fps for job in jobs} == {48}
    studio.store.cancel([job.id for job in jobs])
    play(page, "fox")
    page.get_by_role("button", name="Larger and smoother").locator("visible=true").last.click()
    dialog.get_by_label("60").check()
    fox = [clip.id for clip in studio.library.search(Query("fox")).clips]
    trashed = studio.library.trash(fox)
    dialog.get_by_role("button", name="Queue a copy").click()
    dialog.get_by_text("no longer in the library").wait_for()
    assert accessibility_faults(page) == []
    dialog.get_by_role("button", name="Cancel").click()
    harbour = [clip.id for clip in studio.library.search(Query("harbour")).clips]
    ask = "ids => document.dispatchEvent(new CustomEvent('ovi:improve', { detail: { clips: ids } }))"
    page.evaluate(ask, [*fox, *harbour])
    dialog.get_by_role("button", name="Queue 2 copies").click()
    page.wait_for_selector("#toasts >> text=A copy is in the queue: 60 frames a second.")
    dialog.get_by_text("1 clip was not queued:").wait_for()
    assert dialog.get_by_role("button", name="Queue a copy").is_enabled()
    studio.library.restore(trashed)


@needs_browser
def test_a_clip_deleted_in_the_lightbox_comes_back_by_undo(page: Any, studio: Studio) -> None:
    play(page, "fox")
    page.keyboard.press("Delete")
    shown_prompt(page, "window.pwned")
    count(page, 2)
    page.get_by_role("button", name="Undo").wait_for()
    page.keyboard.press("Control+z")
    count(page, 3)
    assert studio.library.trashed() == []
    page.keyboard.press("Escape")


@needs_browser
def test_a_tag_is_added_found_and_removed(page: Any) -> None:
    play(page, "fox")
    page.get_by_label("Add a tag").fill("deep sea, draft")
    page.keyboard.press("Enter")
    page.locator("#lightbox .tags li", has_text="deep sea").wait_for()
    page.get_by_role("button", name="Remove the tag draft").click()
    page.locator("#lightbox .tags li", has_text="draft").wait_for(state="detached")
    page.get_by_role("button", name="Close").click()
    page.locator(".shelf").get_by_role("button", name="deep sea").click()
    count(page, 1)
    assert page.locator("#library-search textarea, #library-search input").input_value() == 'tag:"deep sea"'
    page.get_by_role("button", name="Save this search").click()
    page.get_by_placeholder("Name of the collection").fill("Fish")
    page.keyboard.press("Enter")
    page.locator(".shelf").get_by_role("button", name="Fish", exact=True).wait_for()
    page.get_by_role("button", name="Delete the collection Fish").click()
    page.locator(".shelf").get_by_role("button", name="Fish", exact=True).wait_for(state="detached")
    page.get_by_role("button", name="Undo").click()
    page.locator(".shelf").get_by_role("button", name="Fish", exact=True).wait_for()
    search(page, "")
    count(page, 3)


def search(page: Any, text: str) -> None:
    page.locator("#library-search textarea, #library-search input").fill(text)


@needs_browser
def test_many_are_selected_by_mouse_and_keyboard_marked_tagged_and_downloaded(page: Any, studio: Studio) -> None:
    boxes = page.locator("#wall .tick input")
    boxes.first.check()
    boxes.last.click(modifiers=["Shift"])
    page.get_by_text("3 clips selected").wait_for()
    page.get_by_role("button", name="Clear selection").click()
    page.locator("#selection-bar").wait_for(state="hidden")
    card(page, "fox").locator("button.poster").focus()
    page.keyboard.press("x")
    page.keyboard.press("Shift+ArrowRight")
    page.get_by_text("2 clips selected").wait_for()
    page.get_by_placeholder("Tags, separated by commas").fill("good")
    page.get_by_role("button", name="Add tags").click()
    wait_for(lambda: studio.library.search(Query(words="tag:good")).total == 2)
    page.get_by_role("button", name="Favourite", exact=True).click()
    wait_for(lambda: studio.library.search(Query(favourites_only=True)).total == 2)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download zip").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert (len(archive.namelist()), archive.testzip()) == (3, None)
    page.keyboard.press("Escape")


@needs_browser
def test_a_poster_plays_under_the_pointer_one_at_a_time(page: Any) -> None:
    card(page, "fox").locator("button.poster").hover()
    page.wait_for_function("[...document.querySelectorAll('#wall video')].some(v => v.currentTime > 0 && v.muted)")
    card(page, "harbour").locator("button.poster").hover()
    page.wait_for_function("document.querySelector('#wall .card:last-child video')?.currentTime > 0")
    assert page.locator("#wall video").count() == 1
    page.mouse.move(0, 0)
    page.wait_for_selector("#wall video", state="detached")


@needs_browser
def test_search_filters_and_order(page: Any) -> None:
    assert "fox" in page.locator("#wall .card").first.inner_text()
    search(page, "DAWN harbour")
    count(page, 1)
    search(page, "before:yesterday")
    page.wait_for_selector("text=before: needs a day, month or year")
    count(page, 1)
    search(page, "seed:33")
    page.locator("#wall .card", has_text="fox").wait_for()
    count(page, 1)
    search(page, "nothing like it")
    page.wait_for_selector("text=No clips match")
    search(page, "")
    count(page, 3)
    page.get_by_label("Sort").click()
    page.get_by_role("option", name="Oldest first").click()
    page.wait_for_function("document.querySelector('#wall .card').innerText.includes('harbour')")
    page.get_by_label("First frame").click()
    page.get_by_role("option", name="With", exact=True).click()
    count(page, 1)


@needs_browser
def test_a_favourite_survives_a_reload(page: Any, studio: Studio) -> None:
    star = card(page, "fox").get_by_role("button", name="Favourite")
    star.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".star[aria-pressed=true]")
    # Keyboard focus is restored.
    page.wait_for_function("document.activeElement.matches('#wall .star[aria-pressed=true]')")
    page.reload()
    page.get_by_role("tab", name="Library").click()
    page.wait_for_selector(".star[aria-pressed=true]")
    page.get_by_label("Favourites only").check()
    count(page, 1)
    assert studio.library.search(Query(favourites_only=True)).total == 1
    page.locator("#wall .star").click()
    page.wait_for_selector("text=No clips match")


@needs_browser
def test_settings_and_the_last_frame_fill_the_form(page: Any, studio: Studio, clips: Path) -> None:
    play(page, "fox")
    page.get_by_role("button", name="Use these settings").click()
    page.wait_for_selector("#form-prompt textarea:visible")
    assert page.input_value("#form-prompt textarea") == "A red fox in the snow"
    assert page.input_value("#form-seed textarea") == "33"
    page.get_by_role("tab", name="Library").click()
    play(page, "fox")
    page.get_by_role("button", name="Continue from the last frame").click()
    page.wait_for_function("document.querySelector('#form-image textarea').value !== ''")
    picture = Path(page.input_value("#form-image textarea"))
    assert picture.parent == studio.paths.pictures
    clip = next(path for path in clips.glob("*.mp4") if "fox" in path.name)
    assert np.array_equal(np.asarray(Image.open(picture)), read_frames(clip)[-1])


@needs_browser
def test_clips_are_trashed_restored_and_deleted_after_a_question_that_can_be_taken_back(
    page: Any, studio: Studio
) -> None:
    for words in ("fox", "harbour"):
        card(page, words).get_by_role("checkbox").check()
    page.get_by_text("2 clips selected").wait_for()
    page.get_by_role("button", name="Delete selected").click()
    count(page, 1)
    page.get_by_label("Trash", exact=True).check()
    page.wait_for_selector("ul[aria-label=Trash]")
    count(page, 2)
    card(page, "fox").get_by_role("checkbox").check()
    page.get_by_role("button", name="Restore selected").click()
    count(page, 1)
    page.get_by_role("button", name="Empty the trash").click()
    page.get_by_role("button", name="Keep them").click()
    assert len(studio.library.trashed()) == 1
    page.get_by_role("button", name="Empty the trash").click()
    page.get_by_role("button", name="Delete permanently").click()
    page.wait_for_selector("text=The trash is empty")
    assert studio.library.trashed() == []
    page.get_by_role("button", name="Undo").last.click()
    count(page, 1)
    assert len(studio.library.trashed()) == 1
    page.get_by_label("Clips", exact=True).check()
    count(page, 2)


@needs_browser
def test_a_new_clip_appears_without_a_reload_and_an_empty_library_says_what_to_do(page: Any, clips: Path) -> None:
    make_clip(clips, "Made in the meantime", made=9)
    count(page, 4)
    for file in clips.iterdir():
        file.unlink()
    page.wait_for_selector("text=Clips appear here as soon as they are made")


@needs_browser
def test_pages(page: Any, clips: Path) -> None:
    source = next(clips.glob("*.mp4"))
    for number in range(PAGE_SIZE):
        shutil.copy(source, clips / f"copy-{number}.mp4")
    page.get_by_text(f"1 to {PAGE_SIZE} of {PAGE_SIZE + 3} clips").wait_for()
    page.get_by_role("button", name="Next").click()
    count(page, 3)
    assert page.get_by_role("button", name="Next").is_disabled()
    page.get_by_role("button", name="Previous").click()
    count(page, PAGE_SIZE)


@needs_browser
def test_a_phone_needs_no_horizontal_scrolling(page: Any) -> None:
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    assert fits_width(page)
    play(page, "fox")
    assert fits_width(page)
    assert page.locator("#lightbox ovi-player").bounding_box()["height"] > 200
    page.get_by_role("button", name="Next clip").click()
    shown_prompt(page, "window.pwned")


@pytest.mark.parametrize("bad", ["../../etc/passwd", "..%2f..%2fsecret", "", "a" * 32, None, 7, ["x"], {"id": "x"}])
def test_invalid_ids_are_refused(studio: Studio, bad: Any) -> None:
    def event(ids: Any) -> gr.EventData:
        return gr.EventData(None, {"ids": ids, "add": "tag"})

    handlers = LibraryHandlers(studio, cache=None)
    with pytest.raises(JobError, match="no longer in the library"):
        handlers.settings(id_of(event([bad])))
    handlers.mark(event([bad]))
    handlers.tag_one(event([bad]))
    ids, *_ = handlers.select("clips", event([bad]))
    assert all(isinstance(clip, str) for clip in ids)
    assert handlers.trash_event(event([bad])) is None
    assert handlers.trash_event(event(bad)) is None
