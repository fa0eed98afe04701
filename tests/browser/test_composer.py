"""The form of the Create tab in a real browser: its fields, chips and help, and that nothing typed is lost."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import leave, needs_browser, new_page, show, wait_for
from page_helpers import choose, line_up, newest, set_steps
from PIL import Image
from studio_app import Application, running

pytestmark = needs_browser


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """Of its own, since it is restarted."""
    with running(tmp_path_factory.mktemp("composer") / "outputs") as found:
        yield found


@pytest.fixture
def page(application: Application, chromium: Any) -> Iterator[Any]:
    page = new_page(chromium, application.url)
    page.wait_for_selector("[data-chip=model] b:not(:empty)")
    yield page
    leave(page)


def scene(page: Any) -> str:
    return page.input_value("#prompt textarea")


def kept(page: Any, text: str) -> None:
    page.wait_for_function("text => (localStorage.getItem('ovi-draft') ?? '').includes(text)", arg=text)


def cue(page: Any, number: int) -> Any:
    return page.locator("#cues .cue").nth(number)


def add_speech(page: Any, who: str, said: str) -> None:
    page.click("[data-add=speech]")
    row = page.locator("#cues .cue").last
    row.locator("input").fill(who)
    row.locator("textarea").fill(said)


def test_the_whole_form_survives_a_reload_and_a_restart_of_the_server(
    page: Any, application: Application, client: Any, tmp_path: Path
) -> None:
    Image.new("RGB", (200, 100), "teal").save(tmp_path / "pier.png")
    page.fill("#prompt textarea", "A {red|blue} boat.")
    add_speech(page, "The man says", "Hello.")
    page.get_by_label("Sound", exact=True).fill("gulls")
    page.set_input_files("#first-frame input[type=file]", str(tmp_path / "pier.png"))
    page.wait_for_selector("[data-chip=ratio] >> text=First frame")
    set_steps(page, 3)
    choose(page, "count")
    page.get_by_label("Seeds for each prompt").fill("2")
    page.keyboard.press("Escape")
    kept(page, '"count":2')
    page.wait_for_function(
        """() => new Promise((resolve) => {
            const opening = indexedDB.open("ovi-files", 1);
            opening.onsuccess = () => {
                const all = opening.result.transaction("files").objectStore("files").count();
                all.onsuccess = () => resolve(all.result > 0);
            };
        })"""
    )

    def is_back() -> None:
        page.wait_for_function("document.querySelector('#prompt textarea')?.value === 'A {red|blue} boat.'")
        page.wait_for_selector("#first-frame img")
        assert cue(page, 0).locator("input").input_value() == "The man says"
        assert cue(page, 0).locator("textarea").input_value() == "Hello."
        assert page.get_by_label("Sound", exact=True).input_value() == "gulls"
        assert page.inner_text("[data-chip=steps] b") == "3"
        assert page.inner_text("[data-chip=count] b") == "2"

    page.reload()
    is_back()
    application.end()
    application.start()
    page.reload()
    is_back()
    page.wait_for_selector("#generate >> text=Create 4 clips")
    page.click("#generate")
    page.wait_for_selector("#notice >> text=4 clips are in the queue")
    spec = newest(application.client())["spec"]
    assert (spec["image"], spec["steps"]) == (True, 3)
    assert spec["prompt"] == "A blue boat. The man says, <S>Hello.<E> <AUDCAP>gulls<ENDAUDCAP>"


def test_questions_that_the_server_did_not_hear_are_asked_again(page: Any) -> None:
    """Of the form, and of a tab that was opened meanwhile; a proxy answers for a server that is restarted."""
    page.fill("#prompt textarea", "A boat.")
    page.wait_for_selector("#makes >> text=1 clip")
    for address in ("**/gradio_api/**", "**/studio/pulse**"):
        page.route(address, lambda route: route.fulfill(status=502))
    page.get_by_text("No connection").wait_for()
    with page.expect_request("**/run/predict"):
        page.fill("#prompt textarea", "A {red|blue} boat.")
    show(page, "Library")
    page.unroute_all()
    page.get_by_text("No connection").wait_for(state="hidden")
    page.wait_for_function("document.querySelector('#wall')?.innerText.trim()")
    show(page, "Create")
    page.wait_for_selector("#generate >> text=Create 2 clips")


def test_a_first_frame_is_uploaded_again_if_the_server_was_restarted_while_the_page_was_open(
    page: Any, application: Application, client: Any, tmp_path: Path
) -> None:
    Image.new("RGB", (100, 200), "teal").save(tmp_path / "tower.png")
    page.fill("#prompt textarea", "A tower.")
    page.set_input_files("#first-frame input[type=file]", str(tmp_path / "tower.png"))
    page.wait_for_selector("[data-chip=ratio] >> text=First frame")
    kept(page, "tower.png")
    application.end()
    application.start()
    page.click("#generate")
    page.wait_for_selector("#notice >> text=1 clip is in the queue")
    assert newest(application.client())["spec"]["image"] is True


def test_a_replaced_form_comes_back_by_a_toast_by_buttons_and_by_the_keyboard(page: Any) -> None:
    page.fill("#prompt textarea", "My own words.")
    set_steps(page, 9)
    kept(page, '"steps":9')
    choose(page, "look")
    page.click("[data-preset=demo]")
    steps = page.locator("[data-chip=steps] b")
    wait_for(lambda: steps.inner_text() == "20")
    page.click("#toasts .undo")
    wait_for(lambda: steps.inner_text() == "9")
    assert scene(page) == "My own words."
    page.locator("#masthead").click()
    page.keyboard.press("Control+Shift+z")
    wait_for(lambda: steps.inner_text() == "20")
    page.keyboard.press("Control+z")
    wait_for(lambda: steps.inner_text() == "9")
    page.click("#desk [data-act=redo]")
    wait_for(lambda: steps.inner_text() == "20")
    # In a text field the keys belong to the text.
    page.focus("#prompt textarea")
    page.keyboard.press("Control+z")
    page.reload()
    wait_for(lambda: steps.inner_text() == "20")
    page.click("#desk [data-act=undo]")
    wait_for(lambda: steps.inner_text() == "9")


def test_editing_a_job_is_a_mode_that_goes_back_to_where_it_came_from(page: Any, client: Any) -> None:
    show(page, "Queue")
    page.click("#pause")
    page.wait_for_selector("#pause >> text=Resume")
    (job,) = line_up(client, "a waiting clip", steps=3)
    show(page, "Create")
    page.fill("#prompt textarea", "My draft.")
    set_steps(page, 8)
    kept(page, '"steps":8')

    def edit() -> None:
        show(page, "Queue")
        page.click(f".job[data-id='{job}'] [data-action=edit]")
        page.wait_for_selector("#desk .edit-bar >> text=/Editing job \\d+/")
        wait_for(lambda: scene(page) == "a waiting clip")
        page.wait_for_selector("#generate >> text=Save changes")

    def is_back() -> None:
        page.wait_for_selector("#tabs [role=tab][aria-selected=true] >> text=Queue")
        show(page, "Create")
        wait_for(lambda: scene(page) == "My draft.")
        assert page.inner_text("[data-chip=steps] b") == "8"
        assert page.is_hidden("#desk .edit-bar")

    edit()
    page.click("#desk [data-act=discard]")
    is_back()
    edit()
    page.fill("#prompt textarea", "a changed clip")
    kept(page, "a changed clip")
    page.reload()
    page.wait_for_selector("#desk .edit-bar")
    wait_for(lambda: scene(page) == "a changed clip")
    page.click("#desk [data-act=save]")
    page.wait_for_selector("#toasts >> text=The job was changed")
    page.wait_for_selector(f".job[data-id='{job}'] >> text=a changed clip")
    is_back()


def test_rows_are_added_ordered_and_removed_and_the_text_is_one_click_away(page: Any) -> None:
    page.fill("#prompt textarea", "A pier.")
    add_speech(page, "The man says", "One two three four five six.")
    page.click("[data-add=text]")
    cue(page, 1).locator("textarea").fill("Rain falls.")
    add_speech(page, "She says", "Yes.")
    page.wait_for_selector("#cues .cue >> nth=0 >> text=/\\/s (fits|tight)/")
    cue(page, 2).get_by_role("button", name="Move up row 3").click()
    page.wait_for_function("document.activeElement?.dataset.row === 'up'")
    page.click("#desk [data-act=raw]")
    text = "A pier. The man says, <S>One two three four five six.<E> She says, <S>Yes.<E> Rain falls."
    wait_for(lambda: scene(page) == text)
    page.wait_for_selector("#cues", state="hidden")
    page.click("#desk [data-act=raw]")
    wait_for(lambda: scene(page) == "A pier.")
    assert [cue(page, number).locator("textarea").input_value() for number in range(3)][1:] == ["Yes.", "Rain falls."]
    cue(page, 1).get_by_role("button", name="Remove row 2").click()
    wait_for(lambda: page.locator("#cues .cue").count() == 2)
    page.click("#toasts .undo")
    wait_for(lambda: page.locator("#cues .cue").count() == 3)
    kept(page, "Yes.")
    # Tags that are pasted become fields on request.
    page.reload()
    page.fill("#prompt textarea", "")
    for _ in range(3):
        cue(page, 0).get_by_role("button", name="Remove row 1").click()
    page.fill("#prompt textarea", "A dog. It says, <S>Wuff.<E> Audio: wind")
    page.click("#findings [data-split]")
    wait_for(lambda: scene(page) == "A dog.")
    assert page.get_by_label("Sound", exact=True).input_value() == "wind"


def test_patterns_are_offered_and_explained_where_they_are_typed(page: Any) -> None:
    field = page.locator("#prompt textarea")
    field.fill("")
    field.press_sequentially("A pier, __w")
    page.wait_for_selector("#pattern-help [role=option] >> text=__weather__")
    field.press("Enter")
    assert scene(page) == "A pier, __weather__"
    page.wait_for_selector("#generate >> text=/Create \\d+ clips/")
    field.press_sequentially(" {red")
    page.wait_for_selector("#pattern-help >> text=makes a clip of each")
    field.press_sequentially("|blue}")
    page.wait_for_selector("#pattern-help", state="hidden")


def test_earlier_prompts_are_searched_and_written_again(page: Any, client: Any) -> None:
    page.fill("#prompt textarea", "A lighthouse at noon.")
    page.click("#generate")
    page.wait_for_selector("#notice >> text=in the queue")
    page.fill("#prompt textarea", "A train at night.")
    page.click("#generate")
    page.wait_for_function("(localStorage.getItem('ovi-prompts') ?? '').includes('train')")
    page.click("#desk [data-act=history]")
    page.get_by_label("Search earlier prompts").fill("noon light")
    found = page.locator("#desk .history li")
    wait_for(lambda: found.all_inner_texts() and all("lighthouse" in text for text in found.all_inner_texts()))
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    wait_for(lambda: scene(page) == "A lighthouse at noon.")


def test_an_example_picture_of_the_embedded_model_is_one_click(page: Any) -> None:
    page.click("#frame-examples summary")
    page.wait_for_selector("#frame-examples >> text=one plain ball")
    page.click("#frame-examples >> text=Orange ball")
    page.wait_for_selector("#first-frame img")
    page.wait_for_function("document.querySelector('#prompt textarea').value.startsWith('An orange ball')")
    page.wait_for_selector("[data-chip=ratio] >> text=First frame")


def test_chips_name_the_settings_and_the_look_in_use(page: Any) -> None:
    choose(page, "look")
    page.click("[data-preset=demo]")
    page.wait_for_selector("#notice >> text=settings applied")
    look = page.locator("[data-chip=look] b")
    wait_for(lambda: look.inner_text() == "Demo")
    assert page.locator("[data-preset=demo]").get_attribute("aria-pressed") == "true"
    set_steps(page, 21)
    wait_for(lambda: look.inner_text() == "Demo, changed")
    choose(page, "seed")
    page.get_by_label("Number", exact=True).fill("4711")
    wait_for(lambda: page.inner_text("[data-chip=seed] b") == "4711")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.dataset.chip") == "seed"
    choose(page, "length")
    assert "this model" in page.inner_text("#pop-length")


def test_a_prompt_that_is_sent_at_once_is_among_the_earlier_ones(page: Any) -> None:
    page.evaluate(
        """async () => {
          const field = document.querySelector("#prompt textarea");
          field.value = "A fox that hurries.";
          field.dispatchEvent(new Event("input", { bubbles: true }));
          await Promise.resolve();
          document.querySelector("#generate").click();
        }"""
    )
    page.wait_for_selector("#notice >> text=in the queue")
    assert "A fox that hurries." in page.evaluate("localStorage.getItem('ovi-prompts') ?? ''")
