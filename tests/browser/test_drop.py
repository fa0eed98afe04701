"""Files dropped anywhere on the page, in a real browser over the real application."""

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from browser import leave, needs_browser, new_page, show, wait_for
from PIL import Image
from places import ROOT
from studio_app import Application
from tab_server import make_clip

pytestmark = needs_browser
DROP = """
(files) => {
  const data = new DataTransfer();
  for (const [name, text] of files) {
    data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
  }
  const target = document.querySelector("#masthead");
  for (const type of window.dropping ?? ["dragenter", "drop"]) {
    target.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
  }
}
"""


def drop(page: Any, *files: tuple[str, bytes]) -> None:
    page.evaluate(DROP, [[name, base64.b64encode(data).decode()] for name, data in files])


def reported(page: Any, sentence: str) -> None:
    page.locator("#drop-report li", has_text=sentence).wait_for()


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (96, 64), (200, 40, 20)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def page(application: Application, chromium: Any) -> Any:
    page = new_page(chromium, application.url)
    page.wait_for_selector("#generate")
    page.wait_for_selector("#drop-chooser", state="attached")
    yield page
    leave(page)


def test_a_clip_a_picture_and_a_table_fill_the_form_from_any_tab(page: Any, tmp_path: Path) -> None:
    clip = make_clip(tmp_path, "A fox from elsewhere", seed=77)
    show(page, "System")
    drop(page, (clip.name, clip.read_bytes()), ("first.png", picture()), ("list.txt", b"A red ball\nA blue ball\n"))
    page.wait_for_selector("#generate:visible")
    reported(page, "The form has the settings of")
    reported(page, "first.png is the first frame.")
    reported(page, "list.txt is the table of prompts.")
    page.wait_for_selector("#first-frame img")
    page.get_by_role("button", name="Many clips at once").click()
    page.wait_for_selector("#table-makes >> text=The table makes 2 clips")
    assert page.locator("#prompt textarea").input_value() == "A fox from elsewhere"


def test_what_is_refused_is_said_for_each_file_and_the_others_are_taken(page: Any, tmp_path: Path) -> None:
    drop(
        page,
        ("<img src=x onerror=window.pwned=1>.exe", b"MZ"),
        ("model.ckpt", b"\x80\x02"),
        ("film.mp4", b"no clip"),
        ("first.png", picture()),
    )
    reported(page, "is no clip, picture, LoRA file")
    reported(page, "model.ckpt is a pickle")
    reported(page, "film.mp4 does not contain a recipe")
    reported(page, "first.png is the first frame.")
    assert page.evaluate("window.pwned === undefined")


def test_an_adapter_and_a_preset_are_added_and_asked_about_before_they_are_replaced(
    page: Any, application: Application, tmp_path: Path
) -> None:
    drop(page, ("drop.yaml", b"title: Dropped\nsettings: {steps: 7}\n"))
    reported(page, "The preset Dropped was added.")
    drop(page, ("drop.yaml", b"title: Dropped\nsettings: {steps: 9}\n"))
    reported(page, "There is another preset Dropped")
    page.get_by_role("button", name="Keep it").click()
    page.locator("#drop-report").wait_for(state="hidden")
    drop(page, ("drop.yaml", b"title: Dropped\nsettings: {steps: 9}\n"))
    page.get_by_role("button", name="Replace it").click()
    page.locator(".toast", has_text="The preset Dropped was added.").get_by_role("button", name="Undo").click()
    page.locator(".toast", has_text="Undone").wait_for()
    adapter = (ROOT / "tests" / "reference" / "lora" / "rejected" / "nan.safetensors").read_bytes()
    drop(page, ("nan.safetensors", adapter))
    page.locator("#drop-report li.refused").wait_for()


def test_in_the_library_a_clip_is_added_by_drop_and_by_the_button(page: Any, tmp_path: Path) -> None:
    one, two = (make_clip(tmp_path, f"An owl from elsewhere {name}", seed=7) for name in ("one", "two"))
    show(page, "Library")
    page.evaluate("window.dropping = ['dragenter']")
    drop(page, (one.name, one.read_bytes()))
    page.locator("#drop-overlay >> text=added to the library").wait_for()
    page.evaluate("window.dropping = ['drop']")
    drop(page, (one.name, one.read_bytes()))
    page.locator("#drop-overlay").wait_for(state="hidden")
    reported(page, "was added to the library")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Add files").click()
    chooser.value.set_files(str(two))
    page.locator("#library-search textarea, #library-search input").fill("owl elsewhere")
    wait_for(lambda: page.locator("#wall .card").count() == 2)
