"""A real browser for tests of the page: Chromium with Playwright, and axe for accessibility checks."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urljoin

import pytest

_BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""The first has no interface that would be started with it, but the same engine, with the same media."""
CHROMIUM = next(filter(None, map(shutil.which, _BROWSERS)), None)
_QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
_QUIET += " --disable-component-update --disable-sync --autoplay-policy=no-user-gesture-required"
DESKTOP, PHONE = (1440, 900), (390, 844)
PATIENCE = 90
"""Seconds for whatever a page waits for, on a machine that is busy."""
HOSTILE = "<script>window.pwned=1</script><img src=x onerror=window.pwned=2> ${window.pwned=3} {{value}} \"' `x`"

_SETTLED = """async () => {
    const frame = () => new Promise(requestAnimationFrame);
    await frame();
    await frame();
    const roots = [document, ...[...document.querySelectorAll("*")].map((node) => node.shadowRoot).filter(Boolean)];
    const moving = roots.flatMap((root) => root.getAnimations());
    const ends = moving.filter((one) => Number.isFinite(one.effect.getComputedTiming().endTime));
    await Promise.allSettled(ends.map((one) => one.finished));
}"""
"""A box that moves or fades has other colours for a moment; what moves for ever is no matter of time."""

_STILL = """() => new Promise((resolve) => {
    let timer;
    const observer = new MutationObserver(wait);
    function wait() {
        clearTimeout(timer);
        timer = setTimeout(() => { observer.disconnect(); resolve(); }, 200);
    }
    observer.observe(document.body, { childList: true, characterData: true, subtree: true });
    wait();
})"""
"""Nothing was put into the page for a while."""

_FORGET = """async () => {
    localStorage.clear();
    sessionStorage.clear();
    for (const { name } of await indexedDB.databases()) indexedDB.deleteDatabase(name);
}"""

_left: list[Any] = []
"""Pages that no test uses, each in a profile of its own."""

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium or Chrome on this machine")


@contextmanager
def open_browser() -> Iterator[Any]:
    """Chromium until the block ends."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_QUIET.split())
        yield browser
        _left.clear()
        browser.close()


def like(browser: Any, *arguments: str) -> Any:
    """Another browser, started with these arguments as well; Playwright runs only once in a thread."""
    return browser.browser_type.launch(executable_path=CHROMIUM, args=[*_QUIET.split(), *arguments])


def new_page(browser: Any, url: str, size: tuple[int, int] = DESKTOP) -> Any:
    """A page of this (width, height), in a profile of its own, that waits as long as a busy machine needs.

    To be given to `leave`; or to be closed, if it has listeners or scripts.
    """
    found = next((page for page in _left if page.context.browser is browser), None)
    if found is None:
        found = browser.new_page()
        found.set_default_timeout(PATIENCE * 1000)
    else:
        _left.remove(found)
    visit(found, url, size)
    return found


def visit(page: Any, url: str, size: tuple[int, int] = DESKTOP) -> None:
    """Go to an address as if for the first time: nothing is kept of what was there before."""
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(color_scheme="null")
    page.context.clear_cookies()
    page.goto(urljoin(url, "/favicon.ico"))
    page.evaluate(_FORGET)
    page.goto(url)


def leave(page: Any) -> None:
    """End the use of a page. The next test goes on with it, which takes half of the time: its scripts are compiled."""
    page.unroute_all(behavior="ignoreErrors")
    page.goto("about:blank")
    _left.append(page)


@contextmanager
def go_on(request: Any, open_one: Callable[[], Any], tidy: Callable[[Any], None]) -> Iterator[Any]:
    """The page that the last test of the module has left open, or else a new one: to open one takes a second.

    `tidy` brings it back to where a new one begins. What a test that fails has left is not gone on with.
    """
    kept = request.getfixturevalue("kept")
    page = kept.pop() if kept else open_one()
    failures = request.session.testsfailed
    with ExitStack() as end:
        end.callback(leave, page)
        yield page
        if request.session.testsfailed == failures:
            tidy(page)
            end.pop_all()
            kept.append(page)


def show(page: Any, tab: str) -> None:
    """Go to a tab of the page by its title."""
    page.get_by_role("tab", name=tab, exact=True).click()
    page.locator(f"[role=tab][aria-selected=true]:text-is('{tab}')").wait_for()


def close_toasts(page: Any) -> None:
    """Close the messages in the corner, which cover what is behind them for eight seconds."""
    page.evaluate("document.querySelectorAll('#toasts .dismiss').forEach((button) => button.click())")


def write(field: Any, text: str) -> None:
    """Fill a field that was just built: what is typed before Gradio puts its first value into it is lost."""

    def stays() -> bool:
        field.fill(text)
        field.page.wait_for_timeout(300)
        return field.input_value() == text

    wait_for(stays)


def unanswered(page: Any) -> set[Any]:
    """The requests of a page that wait for an answer, from now on."""
    waiting: set[Any] = set()
    page.on("request", lambda request: _is_awaited(request) and waiting.add(request))
    for end in ("requestfinished", "requestfailed"):
        page.on(end, lambda request: waiting.discard(request))
    return waiting


def _is_awaited(request: Any) -> bool:
    """Not so the answer to whether there is news, which always waits, and a film, which is read as it plays."""
    return "/studio/pulse" not in request.url and request.resource_type != "media"


def settle(page: Any, waiting: set[Any]) -> None:
    """Wait until the page shows whatever it has asked for; `waiting` is from `unanswered`."""

    def is_still() -> bool:
        page.evaluate(_STILL)
        return not waiting

    wait_for(is_still, PATIENCE)


def is_unharmed(page: Any) -> bool:
    """Whether no code of `HOSTILE` was executed."""
    return page.evaluate("window.pwned === undefined")


def fits_width(page: Any) -> bool:
    """Whether the page fits without horizontal scrolling."""
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def accessibility_faults(page: Any, *, within: str = "html", both_themes: bool = True) -> list[str]:
    """What axe finds wrong with the page (or this part of it) as it is shown now, one line each; every rule counts.

    With `both_themes` colours are looked at in the other theme, too, which nothing else depends on.
    """
    from axe_playwright_python.sync_playwright import Axe

    page.mouse.move(0, 0)
    if not page.evaluate("'axe' in window"):
        page.evaluate(Axe().axe_script)
    found = _violations(page, within, {})
    if both_themes:
        dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        page.emulate_media(color_scheme="light" if dark else "dark")
        colours = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
        found += _violations(page, within, {"runOnly": colours})
        page.emulate_media(color_scheme="dark" if dark else "light")
    return found


def _violations(page: Any, within: str, options: dict[str, Any]) -> list[str]:
    page.evaluate(_SETTLED)
    run = "([within, options]) => axe.run(within, options).then(({ violations }) => violations)"
    found = page.evaluate(run, [within, {"resultTypes": ["violations"], **options}])
    return [f"{fault['id']}: {node['html'][:160]}" for fault in found for node in fault["nodes"]]


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """What the condition returns once that is true."""
    deadline = time.monotonic() + seconds
    while True:
        asked = time.monotonic()
        if found := condition():
            return found
        assert time.monotonic() < deadline, "it did not happen in time"
        # Questions that take long, as to the API, take the time of what they ask for.
        time.sleep(min(max(0.05, 2 * (time.monotonic() - asked)), 0.5))
