"""The Queue tab in a real browser against the real application and its engine."""

from typing import Any

from browser import PHONE, fits_width, leave, needs_browser, show, wait_for
from page_helpers import LONG, line_up, open_page, set_steps, shown_jobs, state
from studio_app import Application


@needs_browser
def test_waiting_jobs_are_reordered_by_mouse_and_keyboard(page: Any, client: Any) -> None:
    running, one, two, three = line_up(client, LONG, "first " + LONG, "second " + LONG, "third " + LONG)
    show(page, "Queue")
    wait_for(lambda: shown_jobs(page)[:4] == [running, one, two, three])
    page.locator(f".job[data-id='{three}']").drag_to(
        page.locator(f".job[data-id='{one}']"), target_position={"x": 200, "y": 4}
    )
    wait_for(lambda: shown_jobs(page)[1:4] == [three, one, two])
    page.locator(f".job[data-id='{two}'] [data-action=up]").focus()
    page.keyboard.press("Alt+ArrowUp")
    wait_for(lambda: shown_jobs(page)[1:4] == [three, two, one])
    page.keyboard.press("Enter")
    wait_for(lambda: shown_jobs(page)[1:4] == [two, three, one])
    page.click(f".job[data-id='{one}'] [data-action=first]")
    wait_for(lambda: shown_jobs(page)[1:4] == [one, two, three])
    assert [job["id"] for job in client.predict(api_name="/list")][1:4] == [one, two, three]


@needs_browser
def test_pause_cancel_retry_duplicate_edit_and_delete(page: Any, client: Any) -> None:
    show(page, "Queue")
    page.click("#pause")
    page.wait_for_selector("#pause >> text=Resume")
    page.wait_for_selector("#engine >> text=Paused")
    (job,) = line_up(client, "a plain clip", steps=3)
    row = f".job[data-id='{job}']"
    page.click(f"{row} [data-action=cancel]")
    page.wait_for_selector(f"{row} >> text=Cancelled")
    page.click(f"{row} [data-action=retry]")
    page.wait_for_selector(f"{row} >> text=Waiting")
    page.click(f"{row} [data-action=duplicate]")
    copy = wait_for(lambda: next((found for found in shown_jobs(page)[:2] if found != job), None))

    page.click(f".job[data-id='{copy}'] [data-action=edit]")
    page.wait_for_selector("#generate >> text=Save changes")
    assert page.input_value("#prompt textarea") == "a plain clip"
    page.fill("#prompt textarea", "a changed clip")
    page.click("#generate")
    page.wait_for_selector("#toasts >> text=The job was changed")
    page.wait_for_selector(f".job[data-id='{copy}'] >> text=a changed clip")

    page.click(f"{row} [data-action=delete]")
    page.wait_for_selector(row, state="detached")
    page.get_by_role("button", name="Undo").last.click()
    page.wait_for_selector(row)
    page.click(f"{row} [data-action=cancel]")
    page.wait_for_selector(f"{row} >> text=Cancelled")
    page.keyboard.press("Control+z")
    page.wait_for_selector(f"{row} >> text=Waiting")
    page.click(f"{row} [data-action=delete]")
    page.wait_for_selector(row, state="detached")
    page.click("#pause")
    page.wait_for_selector(f".job[data-id='{copy}'] >> text=Done")


@needs_browser
def test_a_batch_has_its_own_progress_and_can_be_shown_alone(page: Any, client: Any) -> None:
    (long,) = line_up(client, f"{LONG} slowly", steps=1000)
    wait_for(lambda: state(client, long) == "running", 120)
    client.predict("a {red|blue|green} ball", name="Three <b>balls</b>", api_name="/queue")
    show(page, "Queue")
    batch = page.locator(".batches button", has_text="Three <b>balls</b>")
    batch.filter(has_text="0/3").click()
    page.wait_for_function("document.querySelectorAll('.job').length === 3")
    page.wait_for_selector("#queue-summary >> text=0 of 3 ended")
    client.predict(long, api_name="/cancel")
    page.wait_for_selector("#queue-summary >> text=3 of 3 ended")
    page.wait_for_function("document.querySelectorAll('.job .how.done').length === 3")


@needs_browser
def test_a_failed_job_says_why_and_is_retried(page: Any, client: Any) -> None:
    (job,) = line_up(client, "refuse <b>this</b>", steps=1)
    page.wait_for_selector("#status >> text=This cannot be done; try something else.")
    show(page, "Queue")
    page.click("#queue-which label:has-text('Failed')")
    page.wait_for_selector(f".job[data-id='{job}'] >> text=This cannot be done")
    page.click("#retry-all")
    page.wait_for_selector("#toasts >> text=queued again")
    page.click("#clear")
    page.wait_for_selector("#toasts >> text=the clips stay in the library")


@needs_browser
def test_hundreds_of_jobs_are_paged_and_filtered_quickly(page: Any, client: Any) -> None:
    show(page, "Queue")
    page.click("#pause")
    page.wait_for_selector("#pause >> text=Resume")
    client.predict("a clip", settings={"steps": 1}, count=300, name="three hundred", api_name="/queue")
    page.wait_for_selector(".place >> text=/1 to 60 of 3/")
    page.click("[data-page='1']")
    page.wait_for_selector(".place >> text=/61 to 120 of 3/")
    page.get_by_label("Search", exact=True).fill("three")
    page.wait_for_selector(".place >> text=/1 to 60 of 300/")
    seconds = page.evaluate("""async () => {
        const start = performance.now();
        const first = document.querySelector(".job").dataset.id;
        document.querySelector(".job [data-action=down]").click();
        while (document.querySelector(".job").dataset.id === first) await new Promise(requestAnimationFrame);
        return (performance.now() - start) / 1000;
    }""")
    print(f"\na row among 300 moved in {seconds:.2f} s")
    assert seconds < 3
    page.click("#cancel-all")
    page.wait_for_selector("#toasts >> text=/jobs were cancelled/")
    page.click("#clear")
    page.click("#pause")
    page.wait_for_selector("#pause >> text=Pause")


@needs_browser
def test_a_second_browser_shows_the_same_and_a_phone_never_scrolls_sideways(
    page: Any, application: Application, chromium: Any, client: Any
) -> None:
    phone = open_page(application, chromium, PHONE)
    page.fill("#prompt textarea", "w" * 300 + LONG)
    set_steps(page, 100)
    page.click("#generate")
    phone.wait_for_selector("#status >> text=/Step \\d+ of 100/")
    assert fits_width(phone)
    phone.click(".handle[aria-expanded=true]")  # the sheet of the stage, which came up with the clip
    phone.click("text=Guidance and sampling")
    phone.wait_for_selector("text=Negative prompt for the sound")
    assert fits_width(phone)
    show(phone, "Queue")
    phone.wait_for_selector(".job >> text=/Step \\d+ of 100/")
    assert fits_width(phone)
    phone.click(".job [data-action=cancel]")
    page.wait_for_selector("#status >> text=Cancelled")
    leave(phone)
