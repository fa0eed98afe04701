"""The Create tab in a real browser against the real application, mostly with fake models."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from browser import needs_browser, show, wait_for
from page_helpers import LONG, choose, line_up, newest, set_number, set_steps, state
from PIL import Image
from studio_app import Application

from ovi_studio.core.sizes import snap_size
from ovi_studio.core.variants import EMBEDDED_BUNDLE, read_bundle
from ovi_studio.media.clip_files import read_record

HOSTILE = "a red ball <script>window.pwned=1</script><img src=x onerror=window.pwned=2> $\\{window.pwned=3\\} `x`"
HOSTILE_SHOWN = HOSTILE.replace("\\", "")


@needs_browser
def test_a_clip_from_a_prompt_is_shown_and_the_prompt_is_shown_as_text(
    page: Any, application: Application, client: Any
) -> None:
    page.fill("#prompt textarea", HOSTILE)
    page.get_by_label("Sound", exact=True).fill("a thud")
    set_steps(page, 2)
    page.wait_for_selector("#makes >> text=Makes 1 clip")
    page.click("#generate")
    page.wait_for_selector("#notice >> text=1 clip is in the queue")
    job = newest(client)
    page.wait_for_selector(f"#clip video[src*='{job['id']}']")
    full = f"{HOSTILE_SHOWN} <AUDCAP>a thud<ENDAUDCAP>"
    assert page.text_content("#recipe .prompt") == f"{HOSTILE_SHOWN} ♪ a thud"
    show(page, "Queue")
    page.wait_for_selector(f".job[data-id='{job['id']}'] >> text=Done")
    assert HOSTILE_SHOWN in page.inner_text(f".job[data-id='{job['id']}']")
    assert page.evaluate("window.pwned") is None
    (clip,) = application.outputs.glob(f"*{job['id']}*.mp4")
    spec = read_record(clip)["spec"]
    assert (spec["prompt"], spec["steps"], spec["variant"]) == (full, 2, "demo")
    assert str(spec["seed"]) in page.inner_text(f".job[data-id='{job['id']}']")


@needs_browser
def test_a_first_frame_decides_the_size_and_is_stored_in_the_job(page: Any, client: Any, tmp_path: Path) -> None:
    Image.fromarray(np.full((200, 100, 3), 128, np.uint8)).save(tmp_path / "a picture.png")
    page.fill("#prompt textarea", "the picture moves")
    set_steps(page, 1)
    page.set_input_files("#first-frame input[type=file]", str(tmp_path / "a picture.png"))
    choose(page, "ratio")
    page.wait_for_selector("text=The first frame decides the size: 96 × 192")
    assert page.is_disabled("#ratio input >> nth=0")
    page.keyboard.press("Escape")
    page.click("#generate")
    page.wait_for_selector("#notice >> text=1 clip is in the queue")
    assert newest(client)["spec"]["image"] is True
    page.click("#first-frame button[aria-label='Remove Image']")
    choose(page, "ratio")
    page.wait_for_selector("text=All choices have about the same number of pixels")


@needs_browser
def test_a_transparent_first_frame_is_said_to_be_put_on_white_unless_raw_colours_are_chosen(
    page: Any, client: Any, tmp_path: Path
) -> None:
    Image.new("RGBA", (200, 100), (255, 0, 255, 0)).save(tmp_path / "logo.png")
    page.fill("#prompt textarea", "the picture moves")
    set_steps(page, 1)
    page.set_input_files("#first-frame input[type=file]", str(tmp_path / "logo.png"))
    page.wait_for_selector("#picture-notes >> text=logo.png: its transparent parts were put on white")
    page.click("#generate")
    page.wait_for_selector("#notice >> text=its transparent parts were put on white")
    assert newest(client)["spec"]["raw_colours"] is False
    page.get_by_role("button", name="Guidance and sampling").click()
    page.get_by_label("Raw colours of the first frame").check()
    page.wait_for_selector("#picture-notes", state="hidden")
    page.click("#generate")
    wait_for(lambda: newest(client)["spec"]["raw_colours"] is True)


@needs_browser
def test_a_pasted_picture_becomes_the_first_frame(page: Any, client: Any) -> None:
    page.evaluate("""async () => {
        const canvas = new OffscreenCanvas(200, 100);
        canvas.getContext("2d").fillRect(0, 0, 200, 100);
        const clipboardData = new DataTransfer();
        clipboardData.items.add(new File([await canvas.convertToBlob()], "pasted.png", { type: "image/png" }));
        const paste = new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true });
        document.querySelector("#prompt textarea").dispatchEvent(paste);
    }""")
    choose(page, "ratio")
    page.wait_for_selector("text=The first frame decides the size: 192 × 96")


@needs_browser
def test_the_time_is_estimated_from_earlier_clips(page: Any, client: Any) -> None:
    # The median of the last few counts, and other tests make clips at once.
    *_, job = line_up(client, *["wait"] * 5, steps=5)
    wait_for(lambda: state(client, job) == "done", 120)
    page.fill("#prompt textarea", "A {red|blue} ball.")
    set_steps(page, 400)
    # A step takes a twentieth of a second.
    page.wait_for_selector("#makes >> text=/About (?!0 s)\\d+ (s|min).* each/")
    assert page.inner_text("#makes .prose").startswith("Makes 2 clips")


@needs_browser
def test_a_batch_with_higher_priority_runs_first(page: Any, client: Any) -> None:
    running, waiting = line_up(client, LONG, "in its order " + LONG)
    page.click("text=Many clips at once")
    page.click("#priority label:has-text('Before others')")
    page.fill("#prompt textarea", "urgent " + LONG)
    page.click("#generate")
    page.wait_for_selector("#notice >> text=1 clip is in the queue")
    urgent = newest(client)
    assert urgent["priority"] == 1
    assert [job["id"] for job in client.predict(api_name="/list")] == [running, urgent["id"], waiting]
    show(page, "Queue")
    page.wait_for_selector(f".job[data-id='{urgent['id']}'] >> text=before others")


@needs_browser
def test_patterns_ratio_seed_speech_and_presets(page: Any, client: Any) -> None:
    choose(page, "look")
    page.click("[data-preset=demo]")
    page.wait_for_selector("#notice >> text=settings applied")
    assert page.inner_text("[data-chip=steps] b") == "20"
    set_steps(page, 1)
    page.fill("#prompt textarea", "A {red|blue} view.")
    page.click("[data-add=speech]")
    page.get_by_label("Who speaks, row 1").fill("The man says")
    page.get_by_label("What they say, row 1").fill("One two three four five six seven eight nine ten.")
    page.wait_for_selector("#findings >> text=10 words in 3 s, 3.3 a second")
    choose(page, "ratio")
    page.click("#ratio label:has-text('16:9')")
    choose(page, "seed")
    page.click("#seed-mode label:has-text('+1')")
    page.get_by_label("Number", exact=True).fill("4711")
    choose(page, "count")
    set_number(page, "Seeds for each prompt", 3)
    page.keyboard.press("Escape")
    page.wait_for_selector("#generate >> text=Create 6 clips")
    page.locator("#prompt textarea").press("Control+Enter")
    page.wait_for_selector("#notice >> text=6 clips are in the queue")
    wait_for(lambda: page.get_by_label("Number", exact=True).input_value() == "4714")
    jobs = sorted(client.predict(api_name="/list"), key=lambda job: job["number"])[-6:]
    assert [job["spec"]["seed"] for job in jobs] == [4711, 4712, 4713] * 2
    demo = read_bundle(EMBEDDED_BUNDLE)
    assert {tuple(job["spec"]["size"]) for job in jobs} == {snap_size(9, 16, demo.pixel_area, demo.size_unit)}
    assert [job["spec"]["prompt"][:6] for job in jobs] == ["A red "] * 3 + ["A blue"] * 3
    said = "A blue view. The man says, <S>One two three four five six seven eight nine ten.<E>"
    assert jobs[-1]["spec"]["prompt"] == said


@needs_browser
def test_an_invalid_form_is_refused_with_a_message(page: Any, tmp_path: Path) -> None:
    page.click("#generate")
    page.wait_for_selector("#notice >> text=The prompt is empty")
    page.fill("#prompt textarea", "A man says, <S>Hello")
    page.wait_for_selector("#findings >> text=This speech is not closed")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    page.set_input_files("#first-frame input[type=file]", str(broken))
    page.wait_for_selector("#notice >> text=This picture cannot be used as the first frame")
    page.click("#generate")
    page.wait_for_selector("#notice >> text=Not queued")
    assert "broken.png" in page.inner_text("#notice")
    assert "/" not in page.inner_text("#notice"), "the path of the upload is not shown"


@needs_browser
def test_a_prompt_with_wrong_tags_is_repaired_with_one_click(page: Any) -> None:
    page.fill("#prompt textarea", "A man says [S]Hello</S> audio: wind")
    page.get_by_role("button", name="Repair the prompt").click()
    page.get_by_label("Who speaks, row 1").wait_for()
    page.wait_for_selector("#findings [data-repair]", state="detached")
    assert page.get_by_label("Who speaks, row 1").input_value() == "A man says"
    assert page.get_by_label("What they say, row 1").input_value() == "Hello"
    assert page.get_by_label("Sound", exact=True).input_value() == "wind"
    page.get_by_label("Sound", exact=True).fill("Audio: rain")
    page.get_by_role("button", name="Repair the prompt").click()
    wait_for(lambda: page.get_by_label("Sound", exact=True).input_value() == "rain")


@needs_browser
def test_a_table_is_queued_as_a_batch_and_must_not_name_pictures(page: Any, client: Any, tmp_path: Path) -> None:
    page.click("text=Many clips at once")
    (tmp_path / "bad.csv").write_text("text_prompt,image_path\na,/etc/hostname\n")
    page.set_input_files("#table input[type=file]", str(tmp_path / "bad.csv"))
    page.wait_for_selector("#table-makes >> text=Line 2 names a picture")
    page.click("#table button[aria-label='Remove this file'], #table button[aria-label='Clear']")
    (tmp_path / "good.csv").write_text("text_prompt,steps\na <b>table</b>,1\nanother,2\nbad,x\n")
    page.set_input_files("#table input[type=file]", str(tmp_path / "good.csv"))
    page.wait_for_selector("#table-makes >> text=The table makes 2 clips")
    page.fill("#batch-name input, #batch-name textarea", "An <i>evening</i>")
    page.click("#generate")
    page.wait_for_selector("#notice >> text=2 clips are in the queue as “An <i>evening</i>”")
    assert newest(client)["batch"] == "An <i>evening</i>"


@needs_browser
def test_progress_survives_a_reload_until_the_job_is_cancelled(page: Any, client: Any) -> None:
    page.fill("#prompt textarea", LONG)
    set_steps(page, 100)
    page.locator("#prompt textarea").press("Control+Enter")
    page.wait_for_selector("#status >> text=/Step \\d+ of 100/")
    page.reload()
    page.wait_for_selector("#status >> text=/Step \\d+ of 100/")
    page.click("#status .cancel")
    page.wait_for_selector("#status >> text=Cancelled")
    assert newest(client)["state"] == "cancelled"


@needs_browser
@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals on Windows")
def test_an_engine_that_dies_is_restarted_and_the_page_says_so(
    page: Any, client: Any, application: Application
) -> None:
    (job,) = line_up(client, LONG, steps=100)
    page.wait_for_selector("#status >> text=/Step \\d+ of 100/")
    os.kill(psutil.Process(application.process.pid).children()[0].pid, signal.SIGKILL)
    page.wait_for_selector("#news >> text=/ended unexpectedly .SIGKILL/")
    page.wait_for_selector("#status >> text=/Step \\d+ of 100/")
    assert state(client, job) == "running"
