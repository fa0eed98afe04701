"""Shared helpers for tests of the whole page, and of its queue through the API."""

from typing import Any

from browser import DESKTOP, new_page
from studio_app import Application

LONG = "please wait slowly, this takes long"


def open_page(application: Application, chromium: Any, size: tuple[int, int] = DESKTOP) -> Any:
    page = new_page(chromium, application.url, size)
    page.wait_for_selector("#generate")
    # On a phone they are in a sheet that is closed.
    shown = "#status .idle, #status .live, #filmstrip .card, #status .notice"
    page.wait_for_selector(shown, state="attached")
    return page


def remember_form(page: Any) -> None:
    """For `reset_form`, also after a reload: the form as it is."""
    page.wait_for_selector("[data-chip=model] b:not(:empty)")
    page.evaluate("composer.fill({}); sessionStorage.setItem('first-form', localStorage.getItem('ovi-draft'))")


def reset_form(page: Any) -> None:
    page.evaluate("composer.fill(JSON.parse(sessionStorage.getItem('first-form')))")


def set_number(page: Any, label: str, value: int) -> None:
    field = page.get_by_label(label).first
    field.fill(str(value))
    field.press("Tab")


def choose(page: Any, chip: str) -> None:
    """Open the popover of one of the form's settings."""
    if page.is_visible(f"#pop-{chip}"):
        return
    if page.is_visible("#composer .pop:popover-open"):
        page.keyboard.press("Escape")
    page.click(f"[data-chip={chip}]")
    page.wait_for_selector(f"#pop-{chip}")


def set_steps(page: Any, steps: int) -> None:
    choose(page, "steps")
    set_number(page, "number input for Steps", steps)
    page.keyboard.press("Escape")


def line_up(client: Any, *prompts: str, steps: int = 200) -> list[str]:
    return [client.predict(p, settings={"steps": steps}, api_name="/queue")["jobs"][0] for p in prompts]


def state(client: Any, job: str) -> str:
    return next(found["state"] for found in client.predict(api_name="/list") if found["id"] == job)


def shown_jobs(page: Any) -> list[str]:
    return page.eval_on_selector_all(".job", "rows => rows.map(row => row.dataset.id)")


def newest(client: Any) -> dict[str, Any]:
    return max(client.predict(api_name="/list"), key=lambda job: job["number"])
