"""LoRA files on the page, in a real browser: cards, strengths, trigger words, presets, and a clip made with them."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapter_helpers import write_adapter
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
    new_page,
    show,
    wait_for,
    write,
)
from page_helpers import choose, remember_form, reset_form, set_steps
from PIL import Image
from processes import has_loaded
from studio_app import Application

from ovi_studio.media.clip_files import read_record

pytestmark = needs_browser
FILM = {
    "title": f"Old film {HOSTILE}",
    "trigger_words": ["0ld film", f"grain {HOSTILE}"],
    "licence": "CC BY 4.0",
    "base_model": "Wan 2.2 TI2V 5B",
    "strength": {"video": 0.8, "audio": 0.0},
    "description": f"Scratches {HOSTILE}",
}


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loras")
    write_adapter(folder / "styles" / "film.safetensors", sidecar=FILM)
    Image.fromarray(np.full((300, 500, 3), 90, np.uint8)).save(folder / "styles" / "film.png")
    write_adapter(folder / "plain.safetensors", seed=2)
    write_adapter(folder / "foreign.safetensors", ["lora_te1_text_model.layers.0.q_proj"], seed=3)
    return folder


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path, loras: Path) -> Iterator[Application]:
    """The application with the real engine and the tiny model."""
    outputs = tmp_path_factory.mktemp("studio") / "outputs"
    application = Application(outputs, tiny_bundle, "--lora-dir", str(loras), models=None)
    yield application
    application.end()


@pytest.fixture
def page(request: pytest.FixtureRequest, chromium: Any, application: Application) -> Iterator[Any]:
    with go_on(request, lambda: open_tab(chromium, application), tidy) as page:
        yield page
        assert is_unharmed(page)


def open_tab(chromium: Any, application: Application) -> Any:
    page = new_page(chromium, application.url)
    remember_form(page)
    show(page, "LoRAs")
    card(page, "Old film").wait_for()
    return page


def tidy(page: Any) -> None:
    """Bring back the form of a new page, with no file in use, and the tab as it is there."""
    page.set_viewport_size({"width": DESKTOP[0], "height": DESKTOP[1]})
    page.keyboard.press("Escape")
    reset_form(page)
    page.evaluate("document.querySelectorAll('details[open]').forEach((part) => (part.open = false))")
    close_toasts(page)
    show(page, "LoRAs")
    page.get_by_label("Search").locator("visible=true").fill("")
    page.wait_for_function("document.querySelectorAll('.lora:not(.chosen)').length === 2")
    page.wait_for_function("!document.querySelector('.lora.chosen, #chosen li')")


def card(page: Any, title: str) -> Any:
    return page.locator(".lora", has=page.locator("h2", has_text=title))


def use(page: Any, title: str) -> Any:
    card(page, title).get_by_role("button", name="Use ").click()
    found = page.locator(".lora.chosen", has=page.locator("h2", has_text=title))
    found.wait_for()
    return found


def test_cards_describe_a_file_and_how_it_fits_without_torch(page: Any, application: Application) -> None:
    film = card(page, "Old film")
    text = film.inner_text()
    for words in ("styles/film.safetensors", "Wan 2.2 TI2V 5B", "Licence: CC BY 4.0", "4 of 4 layers matched"):
        assert words in text
    page.wait_for_function("[...document.querySelectorAll('.lora img')].every(i => i.complete && i.naturalWidth > 0)")
    assert film.locator("img").count() == 1
    assert card(page, "foreign").count() == 0
    page.get_by_text("1 file cannot be used").click()
    assert "text encoder" in page.locator(".rejected li", has_text="foreign.safetensors").inner_text()
    assert not has_loaded(application.process.pid, "torch")


def test_search_finds_by_trigger_word_and_says_when_nothing_matches(page: Any) -> None:
    search = page.get_by_label("Search").locator("visible=true")
    search.fill("0ld film")
    page.wait_for_function("document.querySelectorAll('.lora').length === 1")
    search.fill("nothing like it")
    page.get_by_text("No files match").wait_for()
    search.fill("")
    page.wait_for_function("document.querySelectorAll('.lora').length === 2")


def test_a_file_appears_and_disappears_without_a_reload(page: Any, loras: Path) -> None:
    new = write_adapter(loras / "late" / "newcomer.safetensors", seed=5)
    card(page, "newcomer").wait_for()
    new.unlink()
    card(page, "newcomer").wait_for(state="detached")


def test_strengths_and_trigger_words_reach_the_clip_which_shows_previews_and_plays(
    page: Any, application: Application
) -> None:
    earlier = set(application.outputs.glob("*.mp4"))
    film = use(page, "Old film")
    slider, field = film.get_by_label("Picture: strength of"), film.get_by_label("Picture", exact=True)
    assert (slider.input_value(), field.input_value()) == ("0.8", "0.8")
    assert film.get_by_label("Sound", exact=True).input_value() == "0"
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert field.input_value() == "0.75"
    plain = use(page, "plain")
    plain.get_by_label("Sound", exact=True).fill("1;0")
    plain.get_by_label("Sound", exact=True).press("Tab")
    assert plain.get_by_label("Sound: strength of").is_disabled()
    film.get_by_role("button", name="0ld film").first.click()
    show(page, "Create")
    chips = page.locator("#chosen li")
    page.wait_for_function("document.querySelector('#chosen')?.innerText.includes('audio 1;0')")
    assert chips.all_inner_texts() == [
        "Style\nfilm 0.75, audio 0\n×",
        "Style\nplain 1, audio 1;0\n×",
    ] or [" ".join(text.split()) for text in chips.all_inner_texts()] == [
        "Style film 0.75, audio 0 ×",
        "Style plain 1, audio 1;0 ×",
    ]
    prompt = page.locator("#prompt textarea")
    assert prompt.input_value() == "0ld film"
    prompt.fill("a red ball, 0ld film")
    set_steps(page, 30)
    page.click("#generate")
    page.wait_for_selector("#status .live img, #clip video", timeout=240_000)
    (clip,) = wait_for(lambda: set(application.outputs.glob("*.mp4")) - earlier, 240)
    spec = read_record(clip)["spec"]
    assert spec["prompt"] == "a red ball, 0ld film"
    assert [(u["name"], u["video"], u["audio"]) for u in spec["adapters"]] == [
        ("styles/film.safetensors", "0.75", "0"),
        ("plain.safetensors", "1", "1;0"),
    ]
    assert all(len(u["sha256"]) == 64 for u in spec["adapters"])
    page.wait_for_selector("#recipe >> text=film 0.75", state="attached")
    page.locator("#clip video").evaluate("video => video.play()")
    wait_for(lambda: page.locator("#clip video").evaluate("video => video.currentTime") > 0)


def test_a_tag_in_the_prompt_is_an_adapter_of_the_job(client: Any) -> None:
    answer = client.predict("a dog <lora:film:video=0.5:audio=0>", settings={"steps": 1}, api_name="/queue")
    (job,) = [found for found in client.predict(api_name="/list") if found["id"] == answer["jobs"][0]]
    assert job["spec"]["prompt"] == "a dog"
    assert [(u["name"], u["video"]) for u in job["spec"]["adapters"]] == [("film", "0.5")]
    with pytest.raises(Exception, match="no adapter 'gone'"):
        client.predict("a dog <lora:gone:1>", api_name="/queue")
    with pytest.raises(Exception, match="does not match this model"):
        client.predict("a dog <lora:foreign:1>", api_name="/queue")
    with pytest.raises(Exception, match="<lora:film:loud>"):
        client.predict("a dog <lora:film:loud>", api_name="/queue")


def test_an_invalid_strength_is_refused_and_the_last_one_stays(page: Any) -> None:
    plain = use(page, "plain")
    field = plain.get_by_label("Picture", exact=True)
    field.fill("loud")
    field.press("Tab")
    page.get_by_text("'loud' is not a valid strength").wait_for()
    field.fill("0.5")
    field.press("Tab")
    page.get_by_text("'loud' is not a valid strength").wait_for(state="detached")
    show(page, "Create")
    page.locator("#chosen", has_text="plain 0.5, audio 1").wait_for()
    page.get_by_role("button", name="Remove plain.safetensors").click()
    page.locator("#chosen li").wait_for(state="detached")
    show(page, "LoRAs")
    page.locator(".lora.chosen").wait_for(state="detached")


def test_a_stack_is_saved_as_a_preset_and_applied_again(page: Any) -> None:
    use(page, "Old film")
    page.get_by_label("Save the LoRA files in use as a preset").fill("Film look")
    page.click("#keep-stack")
    page.get_by_text("The preset Film look was saved").wait_for()
    card(page, "Old film").get_by_role("button", name="Remove").click()
    page.locator(".lora.chosen").wait_for(state="detached")
    page.reload()
    show(page, "Create")  # the page reopens the same tab
    preset = page.locator("[data-preset=film-look]")
    choose(page, "look")
    preset.wait_for()
    assert page.locator("#chosen li").count() == 0
    preset.click()
    page.locator("#chosen", has_text="film 0.8, audio 0").wait_for()
    # A preset with other sampling settings keeps the styles.
    choose(page, "look")
    page.locator("[data-preset=draft]").click()
    page.get_by_text("Draft: settings applied").wait_for()
    assert "film 0.8" in page.locator("#chosen").inner_text()
    choose(page, "look")
    page.get_by_role("button", name="Delete the preset Film look").click()
    preset.wait_for(state="detached")


def test_presets_with_missing_files_say_so_and_offer_a_download(page: Any) -> None:
    show(page, "Create")
    choose(page, "look")
    page.get_by_text("more presets need a LoRA file or another model").click()
    lightning = page.locator("[data-lacking=lightning-5s]")
    text = lightning.inner_text()
    assert "Download 660.9 MB" in text
    assert "Licence: Apache-2.0" in text
    assert "960x960_5s" in text
    turbo = page.locator("[data-lacking=turbo]").inner_text()
    assert "CC BY-NC-SA" in turbo
    lightning.get_by_role("button", name="Download").click()
    # Tests cannot reach the hub.
    page.get_by_text("the download failed").wait_for()


def test_the_forms_settings_are_saved_with_their_timesteps(page: Any) -> None:
    use(page, "plain")
    show(page, "Create")
    page.get_by_text("Guidance and sampling").click()
    write(page.get_by_label("Explicit timesteps"), "1000,500,250")
    page.wait_for_function("document.querySelector('input[aria-label=\"number input for Steps\"]').value === '3'")
    page.wait_for_function("document.querySelector('input[aria-label=\"number input for Steps\"]').disabled")
    choose(page, "look")
    page.get_by_text("Save these settings as a preset").click()
    write(page.get_by_label("Title").locator("visible=true"), "Three of mine")
    page.click("#keep-preset-button")
    preset = page.locator("[data-preset=three-of-mine]")
    preset.wait_for()
    page.locator("[data-preset=draft]").click()
    page.wait_for_function("document.querySelector('input[aria-label=\"number input for Steps\"]').value === '20'")
    assert page.get_by_label("Explicit timesteps").input_value() == ""
    page.wait_for_function("!document.querySelector('input[aria-label=\"number input for Steps\"]').disabled")
    choose(page, "look")
    preset.click()
    page.wait_for_function("document.querySelector('input[aria-label=\"number input for Steps\"]').value === '3'")
    assert page.get_by_label("Explicit timesteps").input_value() == "1000,500,250"
    page.locator("[data-chip=look] b", has_text=re.compile("^Three of mine$")).wait_for()
    choose(page, "look")
    page.get_by_role("button", name="Delete the preset Three of mine").click()


def test_by_keyboard_alone(page: Any) -> None:
    button = card(page, "plain").get_by_role("button", name="Use ")
    button.focus()
    page.keyboard.press("Enter")
    chosen = page.locator(".lora.chosen", has=page.locator("h2", has_text="plain"))
    chosen.wait_for()
    chosen.get_by_label("Picture: strength of").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert chosen.get_by_label("Picture", exact=True).input_value() == "1.15"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.type") == "text"
    # The scan for new files does not redraw a card that is being changed.
    time.sleep(3)
    assert page.evaluate("document.activeElement.type") == "text"


def test_phone_and_accessibility(page: Any) -> None:
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    card(page, "Old film").get_by_role("button", name="Use ").focus()
    page.keyboard.press("Enter")
    page.locator(".lora.chosen").wait_for()
    assert fits_width(page)
    assert accessibility_faults(page) == []
    show(page, "Create")
    page.locator("#chosen li").wait_for()
    choose(page, "look")
    page.get_by_text("more presets need a LoRA file or another model").click()
    assert fits_width(page)
    assert accessibility_faults(page) == []


def test_previews_are_served_by_id_and_nothing_else_is(application: Application, page: Any) -> None:
    address = page.locator(".lora img").first.get_attribute("src")
    assert application.get(address)[:2] == b"\xff\xd8"
    for wrong in ("studio/lora/none/preview.jpg", "studio/lora/..%2f..%2ffilm/preview.jpg"):
        with pytest.raises(Exception, match="404"):
            application.get(wrong)
