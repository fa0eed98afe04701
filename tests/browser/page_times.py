"""Times of the page as a person feels them: `python tests/browser/page_times.py [--jobs N] [--clips N]`.

Prints one table: how long people wait, and how long the web process and the browser's page computed meanwhile, which
other programs on the machine hardly change. Clips are drawn by a formula, but for the newcomer's first one. Above the
table are the bytes of the page's own stylesheets and scripts, and the load of the machine.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT)]

from browser import DESKTOP, new_page, open_browser, show  # noqa: E402
from sketch_models import NAME  # noqa: E402
from studio_app import Application, running  # noqa: E402

LIMIT_MS, READY_LIMIT_MS, FIRST_CLIP_LIMIT_MS = 200, 3000, 15_000
UNTIL = """(condition) => new Promise((resolve) => {
    const look = () => (condition() ? resolve() : requestAnimationFrame(look));
    look();
})"""
"""Resolves in the frame in which something can be seen."""
PLAYS = """() => {
    const player = document.querySelector("ovi-player");
    const { video } = player ?? {};
    return video && player.getAttribute("address").endsWith(job) && !video.paused && video.currentTime > 0;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000, help="in the queue that is paged (default: %(default)s)")
    parser.add_argument("--clips", type=int, default=5000, help="in the library (default: %(default)s)")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="ovi-studio-"))
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(", ".join(f"{kind}: {own_bytes(kind) / 1000:.0f} kB of our own" for kind in ("css", "js")))
    print(f"\n{'milliseconds':40}{'waited':>8}{'server':>8}{'page':>8}{'limit':>8}")
    try:
        with open_browser() as browser:
            with running(home / "jobs" / "outputs", models=NAME) as application:
                of_jobs(browser, application, options.jobs)
            with running(home / "clips" / "outputs", models=NAME) as application:
                of_library(browser, application, options.clips)
            with running(home / "first" / "outputs", models=None) as application:
                report("a newcomer's first clip is playing", first_clip(browser, application), FIRST_CLIP_LIMIT_MS)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def own_bytes(kind: str) -> int:
    return sum(path.stat().st_size for path in (ROOT / "ovi_studio" / "web").rglob(f"*.{kind}"))


class Measured:
    """What was waited for, and the computing of the web process and of the page's process; milliseconds."""

    def __init__(self) -> None:
        self.waited = self.server = self.page = 0.0


@contextmanager
def measured(page: Any, application: Application) -> Iterator[Measured]:
    found, process = Measured(), psutil.Process(application.process.pid)
    session = page.context.browser.new_browser_cdp_session()

    def computed() -> tuple[float, float]:
        processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
        return sum(process.cpu_times()[:2]), sum(one["cpuTime"] for one in processes if one["type"] == "renderer")

    before, started = computed(), time.perf_counter()
    yield found
    found.waited = found.waited or 1000 * (time.perf_counter() - started)
    found.server, found.page = (1000 * (now - then) for now, then in zip(computed(), before, strict=True))
    session.detach()


def report(name: str, found: Measured, limit: float = LIMIT_MS) -> None:
    missed = "" if found.waited <= limit else "  missed"
    numbers = "".join(f"{number:8.0f}" for number in (found.waited, found.server, found.page, limit))
    print(f"{name:40}{numbers}{missed}", flush=True)


def acted(page: Any, application: Application, act: str, condition: str, argument: Any = None) -> Measured:
    """Measure from an act to the frame in which its effect can be seen, both JavaScript in the page."""
    with measured(page, application) as found:
        found.waited = page.evaluate(
            f"""async (argument) => {{
                const start = performance.now();
                ({act})(argument);
                await ({UNTIL})({condition});
                return performance.now() - start;
            }}""",
            argument,
        )
    return found


def first_clip(browser: Any, application: Application) -> Measured:
    """From the click on an example, with the engine started just before, to the clip that plays."""
    page = new_page(browser, application.url, DESKTOP)
    page.wait_for_selector("[data-example='0']")
    act = "() => document.querySelector(\"[data-example='0']\").click()"
    found = acted(page, application, act, PLAYS.replace(".endsWith(job)", ""))
    page.close()
    return found


def of_jobs(browser: Any, application: Application, jobs: int) -> None:
    report("page ready", ready(browser, application), READY_LIMIT_MS)
    page = new_page(browser, application.url, DESKTOP)
    page.wait_for_selector("#generate")
    page.wait_for_selector("#engine .engine.good")
    page.fill("#prompt textarea", "A red ball bounces on a wooden floor.")
    page.locator("#prompt textarea").blur()
    page.wait_for_selector("#makes >> text=1 clip")
    counted = "() => document.querySelector('#tabs [data-tab-id=queue]').dataset.count"
    report("typed to queued", acted(page, application, "() => document.querySelector('#generate').click()", counted))
    page.wait_for_selector("#clip video")
    report("clip finished to playing", finished(page, application))
    show(page, "Queue")
    fill_queue(application, jobs)
    page.wait_for_selector(".place >> text=/of/")
    other = "() => document.querySelector('.job').dataset.id !== first"
    turn = """() => {
        window.first = document.querySelector(".job").dataset.id;
        document.querySelector("[data-page='1']").click();
    }"""
    report(f"next page of {jobs} jobs", acted(page, application, turn, other))
    # Rows out of sight are drawn only when they come into it.
    drawn = """() => {
        const last = document.querySelector(".jobs").lastElementChild;
        last.scrollIntoView({ block: "center" });
        return last.firstElementChild.checkVisibility({ contentVisibilityAuto: true });
    }"""
    report(f"scroll through a page of {jobs} jobs", acted(page, application, "() => scrollTo(0, 0)", drawn))
    page.close()


def ready(browser: Any, application: Application) -> Measured:
    """From the address to a form and a line of state that can be used; a second visit, with cached files."""
    page = new_page(browser, application.url, DESKTOP)
    page.wait_for_selector("#engine .engine")
    with measured(page, application) as found:
        page.reload()
        page.wait_for_selector("#generate:visible")
        page.wait_for_selector("#engine .engine")
    page.close()
    return found


def finished(page: Any, application: Application) -> Measured:
    """From the end of a job in the store to its clip that plays; the computing is that of the whole job."""
    from contextlib import closing

    from ovi_studio.queue.store import Store

    client = application.client()
    (job,) = client.predict("A blue ball.", settings={"steps": 4}, api_name="/queue")["jobs"]
    with measured(page, application) as found:
        plays = PLAYS.replace("(job)", "(argument)")
        seen = page.evaluate(f"async (argument) => {{ await ({UNTIL})({plays}); return Date.now(); }}", job)
        with closing(Store.open(application.outputs)) as store:
            found.waited = seen - 1000 * (store.get(job).finished or 0)
    return found


def fill_queue(application: Application, jobs: int) -> None:
    from contextlib import closing

    from ovi_studio.core.spec import ClipSpec
    from ovi_studio.queue.store import Store

    with closing(Store.open(application.outputs)) as store:
        store.pause()
        store.add([ClipSpec(prompt=f"A ball, number {number}.", variant="demo") for number in range(jobs)], "many")


def of_library(browser: Any, application: Application, clips: int) -> None:
    from tab_server import make_clip

    page = new_page(browser, application.url, DESKTOP)
    page.wait_for_selector("#engine .engine.good")
    clip = make_clip(application.outputs, "A quiet harbour at dawn, gulls and slow waves", seed=42)
    for number in range(1, clips):
        for suffix in (".mp4", ".jpg"):
            os.link(clip.with_suffix(suffix), clip.with_name(f"{number:05d}{suffix}"))
    opens = "() => document.querySelector('#tabs [data-tab-id=library]').click()"
    cards = "() => document.querySelector('#wall .card img')?.complete"
    report(f"library of {clips} clips, new in the folder", acted(page, application, opens, cards))
    page.reload()
    page.wait_for_selector("#wall .card")
    show(page, "Create")
    page.reload()
    page.wait_for_selector("#engine .engine.good")
    report(f"library of {clips} clips, first paint", acted(page, application, opens, cards))
    types = """(words) => {
        const field = document.querySelector("#library-search :is(input, textarea)");
        field.value = words;
        field.dispatchEvent(new Event("input", { bubbles: true }));
    }"""
    nothing = "() => !document.querySelector('#wall .card')"
    report("search, typed to shown", acted(page, application, types, nothing, "fox"))
    page.close()


if __name__ == "__main__":
    main()
