"""The Library tab in a real browser, over a real library of tiny clips."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import HOSTILE, PHONE, fits_width, is_unharmed, needs_browser
from clip_reading import read_frames
from PIL import Image
from tab_server import Tab, make_clip

from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.library import LibraryClip, Query, TrashedClip
from ovi_studio.media.pictures import decode_picture
from ovi_studio.services.studio import Studio
from ovi_studio.web.tabs.library import views
from ovi_studio.web.tabs.library.handlers import PAGE_SIZE, LibraryHandlers
from ovi_studio.web.tabs.library.tab import build_library

TAB = ("Library", lambda studio, form, tabs, _: build_library(studio, form, tabs))


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
    for file in outputs.iterdir():
        file.unlink()
    look(studio)
    studio.library.empty_trash()


def look(studio: Studio) -> None:
    """Wait until the library has read all changes."""
    while studio.library.refresh():
        pass


@pytest.fixture
def page(tab: Tab, chromium: Any, clips: Path) -> Iterator[Any]:
    page = tab.open(chromium)
    page.wait_for_selector("#wall .card")
    yield page
    assert is_unharmed(page)
    page.close()


def count(page: Any, number: int) -> None:
    """Wait until there are `number` cards."""
    page.wait_for_function("n => document.querySelectorAll('#wall .card').length === n", arg=number)


def card(page: Any, words: str) -> Any:
    return page.locator("#wall .card", has_text=words)


def play(page: Any, words: str) -> None:
    card(page, words).get_by_role("button", name="Play").click()
    page.wait_for_selector("#viewer video")


@needs_browser
def test_a_poster_plays_on_click_and_the_settings_are_readable(page: Any) -> None:
    count(page, 3)
    assert page.locator("#wall video").count() == 0
    play(page, "harbour")
    page.wait_for_function("document.querySelector('#viewer video').currentTime > 0")
    assert page.locator("#viewer .recipe .prompt").inner_text() == "A quiet harbour at dawn"
    facts = page.locator("#viewer dl").inner_text()
    assert "Seed\n11" in facts
    assert "first.png" in facts
    assert "/elsewhere" not in facts


@needs_browser
def test_search_filters_and_order(page: Any) -> None:
    assert "fox" in page.locator("#wall .card").first.inner_text()
    page.get_by_label("Search prompts").fill("DAWN harbour")
    count(page, 1)
    page.get_by_label("Search prompts").fill("nothing like it")
    page.wait_for_selector("text=No clips match")
    page.get_by_label("Search prompts").fill("")
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
    page.wait_for_function("document.activeElement.matches('.star[aria-pressed=true]')")
    page.reload()
    page.get_by_role("tab", name="Library").click()
    page.wait_for_selector(".star[aria-pressed=true]")
    page.get_by_label("Favourites only").check()
    count(page, 1)
    assert studio.library.search(Query(favourites_only=True)).total == 1
    page.locator(".star").click()
    page.wait_for_selector("text=No clips match")


@needs_browser
def test_settings_and_the_last_frame_fill_the_form(page: Any, studio: Studio, clips: Path) -> None:
    play(page, "fox")
    page.get_by_role("button", name="Use these settings").click()
    page.wait_for_selector("#form-prompt textarea:visible")
    assert page.input_value("#form-prompt textarea") == "A red fox in the snow"
    assert page.input_value("#form-seed textarea") == "33"
    page.get_by_role("tab", name="Library").click()
    page.get_by_role("button", name="Continue from the last frame").click()
    page.wait_for_function("document.querySelector('#form-image textarea').value !== ''")
    picture = Path(page.input_value("#form-image textarea"))
    assert picture.parent == studio.paths.pictures
    clip = next(path for path in clips.glob("*.mp4") if "fox" in path.name)
    assert np.array_equal(np.asarray(Image.open(picture)), read_frames(clip)[-1])


@needs_browser
def test_an_uploaded_clip_fills_the_form(page: Any, studio: Studio, tmp_path: Path) -> None:
    elsewhere = make_clip(tmp_path, "From another machine", seed=77)
    page.set_input_files("#library-drop input[type=file]", str(elsewhere))
    page.wait_for_selector("#form-prompt textarea:visible")
    assert page.input_value("#form-prompt textarea") == "From another machine"
    assert len(list(studio.paths.outputs.glob("*.mp4"))) == 3
    page.get_by_role("tab", name="Library").click()
    poster = make_clip(tmp_path, "From its poster", seed=78).with_suffix(".jpg")
    page.set_input_files("#library-drop input[type=file]", str(poster))
    page.wait_for_function("document.querySelector('#form-prompt textarea').value === 'From its poster'")
    page.get_by_role("tab", name="Library").click()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no clip")
    page.set_input_files("#library-drop input[type=file]", str(broken))
    page.wait_for_selector("text=The settings cannot be used")


@needs_browser
def test_clips_are_trashed_restored_and_deleted_only_after_confirmation(page: Any, studio: Studio) -> None:
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
    page.get_by_label("Clips", exact=True).check()
    count(page, 2)
    assert studio.library.trashed() == []


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
def test_a_phone_needs_no_horizontal_scrolling(tab: Tab, chromium: Any, clips: Path) -> None:
    page = tab.open(chromium, PHONE)
    play(page, "fox")
    assert fits_width(page)
    assert page.locator("#viewer video").bounding_box()["y"] < 844
    assert is_unharmed(page)
    page.close()


@pytest.mark.parametrize("bad", ["../../etc/passwd", "..%2f..%2fsecret", "", "a" * 32, None, 7, ["x"], {"id": "x"}])
def test_invalid_ids_are_refused(studio: Studio, bad: Any) -> None:
    class Event:
        id = bad
        ids = bad

    handlers = LibraryHandlers(studio, cache=None)
    with pytest.raises(JobError, match="no longer in the library"):
        handlers.open(Event())
    with pytest.raises(JobError, match="no longer in the library"):
        handlers.settings(bad)
    handlers.mark(Event())
    ids, *_ = handlers.select("clips", Event())
    assert all(isinstance(clip, str) for clip in ids)
    handlers.trash(ids)


def test_names_and_prompts_are_shown_as_text() -> None:
    name = f"{HOSTILE}.mp4"
    spec = ClipSpec(prompt=HOSTILE, variant=HOSTILE, image=Path("<b>first.png"))
    clip = LibraryClip("0" * 32, name, spec, (64, 96), 1.0, 0.0, Path(name), True)
    trashed = TrashedClip("0" * 24, name, "", None, 0.0)
    shown = views.wall_html([clip], [], "") + views.settings_html(clip, HOSTILE) + views.player_html(clip)
    shown += views.trash_html([trashed], [], lambda path: None)
    assert "<script" not in shown
    assert "<img src=x" not in shown
    assert "<b>" not in shown
    assert "&lt;script&gt;" in shown
