"""The stage of the Create tab in a real browser: clips that are drawn by a formula, with sound and speech."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import PHONE, close_toasts, fits_width, leave, needs_browser, wait_for
from page_helpers import newest, open_page
from PIL import Image
from sketch_models import NAME
from studio_app import Application, running

pytestmark = needs_browser
SPOKEN = "A red ball bounces on a green floor. A voice says, <S>Here it comes again.<E> <AUDCAP>a thud<ENDAUDCAP>"
FRAME = 1 / 24
PLAYHEAD_MOVES = """() => new Promise((moves) => {
    const { video, soundtrack } = document.querySelector("ovi-player");
    let moved = 0;
    new MutationObserver(() => (moved += 1)).observe(soundtrack.element, { attributeFilter: ["style"] });
    video.addEventListener("timeupdate", () => (moved > 2 ? moves() : (moved = 0)));
})"""
"""Waits until the playhead moves between two events of a video that says a few times a second where it is."""


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    with running(tmp_path_factory.mktemp("stage") / "outputs", models=NAME) as found:
        yield found


def make(client: Any, *seeds: int, prompt: str = SPOKEN) -> list[str]:
    """Queue a quick clip for each seed and wait for them all."""
    jobs = [client.predict(prompt, settings={"steps": 2, "seed": seed}, api_name="/queue")["jobs"][0] for seed in seeds]
    wait_for(lambda: all(job["state"] == "done" for job in listed(client) if job["id"] in jobs), 90)
    return jobs


def make_long(client: Any) -> str:
    return client.predict(SPOKEN, settings={"steps": 500, "seed": 1}, api_name="/queue")["jobs"][0]


def listed(client: Any) -> list[dict[str, Any]]:
    return client.predict(api_name="/list")


def card(job: str) -> str:
    return f"#filmstrip [data-show='{job}']"


def on_stage(page: Any, job: str) -> Any:
    """The player, once it shows the clip of this job."""
    page.wait_for_selector(f"#clip ovi-player[address='studio/job/{job}']")
    video = page.locator("#clip video")
    wait_for(lambda: video.evaluate("video => video.readyState >= 2"))
    return video


def time_of(video: Any) -> float:
    return video.evaluate("video => video.currentTime")


def test_a_finished_clip_plays_and_stays_while_the_next_one_is_made(page: Any, client: Any) -> None:
    (first,) = make(client, 1)
    video = on_stage(page, first)
    wait_for(lambda: time_of(video) > 0)
    job = make_long(client)
    page.wait_for_selector(f"#status .live[data-id='{job}'] >> text=/Step \\d+ of 500/")
    live, clip = page.locator("#status .live"), page.locator("#clip")
    assert live.bounding_box()["width"] < clip.bounding_box()["width"] / 2
    assert video.is_visible()
    # The other way round, by a key and back by the preview itself.
    page.keyboard.press("p")
    wait_for(lambda: live.bounding_box()["width"] > 2 * clip.bounding_box()["width"])
    page.keyboard.press("p")
    wait_for(lambda: live.bounding_box()["width"] < clip.bounding_box()["width"] / 2)
    # Cancel stands on the job that it cancels, and can be taken back.
    page.click(f"#status .cancel[data-id='{job}']")
    page.wait_for_selector(f"#status .live[data-id='{job}']", state="detached")
    page.click("#toasts .undo")
    page.wait_for_selector(f"#status .live[data-id='{job}']")
    page.click(f"#filmstrip .cancel[data-id='{job}']")
    page.wait_for_selector(f"#status .live[data-id='{job}']", state="detached")
    # The clip was not touched by any of it.
    on_stage(page, first)


def test_the_sound_is_seen_and_the_picture_can_be_stepped(page: Any, client: Any) -> None:
    (job,) = make(client, 7)
    video = on_stage(page, job)
    page.wait_for_function("document.querySelector('ovi-player').soundtrack.hasSpeech")
    assert page.locator("#clip .speech span").all_inner_texts() == ["Here", "it", "comes", "again."]
    assert page.locator("#clip .wave path").first.get_attribute("d").count("L") > 100
    page.evaluate(PLAYHEAD_MOVES)
    # A small clip is shown at no more than three times its size.
    assert video.bounding_box()["width"] <= 3 * video.evaluate("video => video.videoWidth") + 1
    page.keyboard.press("Space")
    wait_for(lambda: video.evaluate("video => video.paused"))
    track = page.locator("#clip .track").bounding_box()
    page.mouse.click(track["x"] + track["width"] / 2, track["y"] + 20)
    wait_for(lambda: abs(time_of(video) - video.evaluate("video => video.duration") / 2) < 0.1)
    start = time_of(video)
    for _ in range(3):
        page.keyboard.press(".")
    assert 2 * FRAME < time_of(video) - start <= 4 * FRAME
    page.keyboard.press(",")
    assert FRAME < time_of(video) - start <= 3 * FRAME
    page.keyboard.press("s")
    page.wait_for_selector("#clip .spectrogram:visible")
    page.keyboard.press(">")
    assert video.evaluate("video => video.playbackRate") == 1.5
    page.keyboard.press("l")
    page.reload()
    video = on_stage(page, job)
    assert not video.evaluate("video => video.loop"), "what was chosen is kept"
    page.wait_for_selector("#clip .spectrogram:visible")
    page.get_by_role("button", name="Loop").click()
    page.get_by_role("button", name="Spectrogram").click()


def test_clips_are_compared_in_step_and_with_a_wipe(page: Any, client: Any) -> None:
    first, second = make(client, 1, 2)
    on_stage(page, second)
    page.click("#result-bar [data-act=compare]")
    page.click(card(first))
    page.wait_for_selector("#comparison video")
    times = "element => element.videos.map((video) => video.currentTime)"
    compare = page.locator("ovi-compare")
    wait_for(lambda: min(compare.evaluate(times)) > 0.3)
    shown = compare.evaluate(times)
    assert max(shown) - min(shown) < 3 * FRAME
    page.keyboard.press("Space")
    page.keyboard.press(".")
    wait_for(lambda: len({round(time, 3) for time in compare.evaluate(times)}) == 1)
    assert compare.evaluate("element => element.videos.filter((video) => !video.muted).length") == 1
    page.get_by_role("button", name="Wipe", exact=True).click()
    first_box, second_box = (figure.bounding_box() for figure in page.locator("#comparison figure").all())
    assert first_box == second_box
    divider = page.get_by_role("slider", name="Wipe between the clips")
    divider.press("ArrowRight")
    assert divider.get_attribute("aria-valuenow") == "52"
    page.keyboard.press("Escape")
    page.wait_for_selector("#comparison video", state="detached")
    on_stage(page, second)


def test_the_buttons_of_a_clip_do_what_they_say(page: Any, client: Any) -> None:
    first, second = make(client, 41, 42)
    on_stage(page, second)
    page.click(card(first))
    on_stage(page, first)
    page.wait_for_selector(f"#result-bar [data-of='{first}']")
    page.click("#result-bar [data-act=favourite]")
    page.wait_for_selector("#result-bar [data-act=favourite][aria-pressed=true]")
    page.click("#result-bar [data-act=frame]")
    page.wait_for_selector("#first-frame img")
    page.click("#result-bar [data-act=vary]")
    page.wait_for_selector("#toasts >> text=A variation of clip")
    varied = wait_for(lambda: next((job for job in listed(client) if job["id"] not in (first, second)), None))
    assert varied["spec"]["seed"] not in (41, 42)
    assert {**varied["spec"], "seed": 0} == {**next(j for j in listed(client) if j["id"] == first)["spec"], "seed": 0}
    wait_for(lambda: not client.predict("running", api_name="/list"))
    close_toasts(page)
    with page.expect_download() as download:
        page.click("#result-bar a[download]")
    assert first in download.value.suggested_filename
    # The clip that was chosen stays although newer ones were made.
    on_stage(page, first)
    page.click("#result-bar [data-act=remove]")
    page.wait_for_selector(card(first), state="detached")
    on_stage(page, varied["id"])
    page.click("#toasts .undo")
    page.wait_for_selector(card(first))


def test_a_part_of_a_clip_is_marked_kept_in_the_form_and_made_again(page: Any, client: Any, tmp_path: Path) -> None:
    (job,) = make(client, 11)
    video = on_stage(page, job)
    page.wait_for_selector(f"#result-bar [data-of='{job}']")
    page.click("#result-bar [data-act=part]")
    track = page.locator("#clip .track").bounding_box()
    page.mouse.move(track["x"] + track["width"] / 4, track["y"] + 20)
    page.mouse.down()
    page.mouse.move(track["x"] + track["width"] / 2, track["y"] + 20, steps=3)
    page.mouse.up()
    part, duration = page.locator("#part"), video.evaluate("video => video.duration")
    start = float(part.get_by_label("From second").input_value())
    assert start == pytest.approx(duration / 4, abs=0.05)
    assert float(part.get_by_label("To second").input_value()) == pytest.approx(duration / 2, abs=0.05)
    part.get_by_label("What is made again").select_option("Only the sound")
    part.get_by_role("button", name="Put it into the form").click()
    page.wait_for_selector("#toasts >> text=The form makes this part of clip")
    kept = page.locator("#kept .kept")
    assert kept.get_by_label("What is made again").input_value() == "sound"
    kept.get_by_label("To second").fill("0.2")
    kept.get_by_label("To second").press("Tab")
    kept.get_by_text("This part ends before it begins").wait_for()
    kept.get_by_label("To second").fill("0.9")
    kept.get_by_label("To second").press("Tab")
    page.click("#generate")
    page.wait_for_selector("#notice >> text=1 clip is in the queue")
    queued = newest(client)
    spec = queued["spec"]
    assert (spec["keep_picture"], spec["keep_sound"]) == ("all", f"0-{start:g},0.9-")
    assert job in spec["source"]
    # A first frame and a beginning that is kept do not go together, which is said and can be undone.
    Image.new("RGB", (64, 64)).save(tmp_path / "frame.png")
    page.set_input_files("#first-frame input[type=file]", str(tmp_path / "frame.png"))
    page.locator("#toasts .toast", has_text="no longer keeps the beginning of a clip").wait_for()
    kept.wait_for(state="hidden")
    page.click("#desk [data-act=undo]")
    kept.wait_for()
    page.wait_for_selector("#first-frame img", state="detached")
    # Other settings in its place, too. The clip that was queued comes first: it takes the place of the other one on the
    # stage, and of its buttons, and a button that is gone before it is released does nothing.
    page.wait_for_selector(f"#result-bar [data-of='{queued['id']}']")
    page.click(card(job))
    page.click(f"#result-bar [data-of='{job}'] [data-act=use]")
    page.locator("#toasts .toast", has_text="no longer makes a part of a clip again").wait_for()
    kept.wait_for(state="hidden")
    # The keyboard marks from the playhead on.
    on_stage(page, job).evaluate("video => video.pause()")
    page.locator("#clip .track").press("Home")
    for _ in range(3):
        page.locator("#clip .track").press("Shift+ArrowRight")
    assert part.get_by_label("From second").input_value() == ""
    assert part.get_by_label("To second").input_value() == "0.30"


def test_on_a_phone_the_stage_is_a_sheet_that_comes_up_with_a_clip(
    application: Application, chromium: Any, client: Any
) -> None:
    make(client, 8)
    page = open_page(application, chromium, PHONE)
    handle = page.locator(".handle")
    page.wait_for_selector(".handle >> text=/Clip \\d+/")
    # A clip that is there when the page is opened is no news.
    assert handle.get_attribute("aria-expanded") == "false"
    assert not page.locator("#screen").is_visible()
    (job,) = make(client, 9)
    page.wait_for_selector(".handle[aria-expanded=true]")
    on_stage(page, job)
    assert page.locator("#clip video").is_visible()
    assert fits_width(page)
    box = handle.bounding_box()
    assert box["height"] >= 44
    # It is dragged down, and opened by its handle.
    page.mouse.move(box["x"] + 100, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 100, box["y"] + 200, steps=4)
    page.mouse.up()
    page.wait_for_selector(".handle[aria-expanded=false]")
    close_toasts(page)
    handle.click()
    page.wait_for_selector(".handle[aria-expanded=true]")
    page.keyboard.press("Escape")
    page.wait_for_selector(".handle[aria-expanded=false]")
    leave(page)


def test_the_clip_on_the_stage_is_saved_in_other_forms_and_made_smoother(page: Any, client: Any) -> None:
    (job,) = make(client, 6)
    on_stage(page, job)
    with page.expect_download() as saved:
        page.locator("#result-bar").get_by_label("Save as").select_option("Sound (WAV)")
    assert saved.value.suggested_filename.endswith(".wav")
    page.get_by_role("button", name="Improve").click()
    dialog = page.get_by_role("dialog", name="Larger and smoother")
    dialog.get_by_label("48").check()
    dialog.get_by_role("button", name="Queue a copy").click()
    page.wait_for_selector("#toasts >> text=A copy is in the queue: 48 frames a second.")
    wait_for(lambda: all(found["state"] == "done" for found in listed(client)), 90)
    better = listed(client)[0]
    assert better["improvement"]["fps"] == 48
    on_stage(page, better["id"])


def test_a_grid_is_made_from_the_form_and_is_shown_after_a_restart(
    page: Any, client: Any, application: Application
) -> None:
    (job,) = make(client, 5)
    on_stage(page, job)
    page.click("#result-bar [data-act=use]")
    page.wait_for_selector("#toasts >> text=The form has the settings of clip")
    close_toasts(page)
    page.get_by_role("button", name="Make a grid").click()
    values = page.locator("#grid-maker").get_by_label("Values")
    values.first.fill("7, 8")
    values.first.press("Enter")
    page.locator("#grid-maker").get_by_label("Down").click()
    page.get_by_role("option", name="Steps", exact=True).click()
    values.last.click()
    page.get_by_role("option", name="50", exact=True).wait_for()
    values.last.fill("1, 3")
    values.last.press("Enter")
    page.click("#queue-grid")
    page.wait_for_selector("#toasts >> text=A grid of 4 clips is in the queue")
    wait_for(lambda: len([found for found in listed(client) if found["state"] == "done"]) == 5, 90)
    made = sorted(listed(client), key=lambda found: found["number"])[1:]
    assert [(found["spec"]["steps"], found["spec"]["seed"]) for found in made] == [(1, 7), (1, 8), (3, 7), (3, 8)]
    assert {found["spec"]["prompt"] for found in made} == {SPOKEN}
    on_stage(page, made[-1]["id"])
    page.click("#result-bar [data-act=grid]")
    page.wait_for_selector("#grid >> text=4 of 4 made")
    page.click(f"#grid [data-show='{made[1]['id']}']")
    on_stage(page, made[1]["id"])
    application.end()
    application.start()
    page.reload()
    page.wait_for_selector("#grid >> text=4 of 4 made")
    assert page.locator("#grid tbody tr").count() == 2
    assert page.locator("#grid thead th").all_inner_texts()[1:] == ["7", "8"]
