"""Times of the page as a person feels them: `python tests/browser/page_times.py [--jobs N]`.

Starts the application with models that draw by a formula, and prints a table
with the bytes of the page's own stylesheets and scripts and the load of the machine. Run it on a calm machine.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT)]

from browser import DESKTOP, new_page, open_browser, show  # noqa: E402
from sketch_models import NAME  # noqa: E402
from studio_app import Application  # noqa: E402

LIMIT_MS, READY_LIMIT_MS = 200, 3000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000, help="in the queue that is scrolled (default: %(default)s)")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="ovi-studio-"))
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    for kind in ("css", "js"):
        print(f"{kind}: {own_bytes(kind) / 1000:.0f} kB of our own")
    print()
    application = Application(home / "outputs", home / "checkpoints", models=NAME)
    try:
        with open_browser() as browser:
            report("page ready", ready(browser, application), READY_LIMIT_MS)
            page = new_page(browser, application.url, DESKTOP)
            page.wait_for_selector("#generate")
            report("typed to queued", queued(page))
            show(page, "Queue")
            fill_queue(application, options.jobs)
            page.wait_for_selector(".place >> text=/of/")
            report(f"next page of {options.jobs} jobs", paged(page))
    finally:
        application.end()
        shutil.rmtree(home, ignore_errors=True)


def own_bytes(kind: str) -> int:
    return sum(path.stat().st_size for path in (ROOT / "ovi_studio" / "web").rglob(f"*.{kind}"))


def report(name: str, milliseconds: float, limit: float = LIMIT_MS) -> None:
    print(f"{name:32} {milliseconds:7.0f} ms   {'' if milliseconds <= limit else f'more than {limit} ms'}", flush=True)


def timed(act: Callable[[], Any]) -> float:
    start = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - start)


def ready(browser: Any, application: Application) -> float:
    """From the address to a form and a line of state that can be used; a second visit, with cached files."""
    page = browser.new_page(viewport={"width": DESKTOP[0], "height": DESKTOP[1]})

    def visit() -> None:
        page.goto(application.url)
        page.wait_for_selector("#generate:visible")
        page.wait_for_selector("#engine .engine")

    visit()
    taken = timed(visit)
    page.close()
    return taken


def queued(page: Any) -> float:
    """From the click to the new job in the count on the Queue tab."""
    page.fill("#prompt textarea", "A red ball bounces on a wooden floor.")
    page.locator("#prompt textarea").blur()
    page.wait_for_timeout(1000)
    return page.evaluate("""async () => {
        const tab = document.querySelector("#tabs [data-tab-id=queue]");
        const start = performance.now();
        document.querySelector("#generate").click();
        while (!tab.dataset.count) await new Promise(requestAnimationFrame);
        return performance.now() - start;
    }""")


def fill_queue(application: Application, jobs: int) -> None:
    from contextlib import closing

    from ovi_studio.core.spec import ClipSpec
    from ovi_studio.queue.store import Store

    with closing(Store.open(application.outputs)) as store:
        store.pause()
        store.add([ClipSpec(prompt=f"A ball, number {number}.", variant="demo") for number in range(jobs)], "many")


def paged(page: Any) -> float:
    """From the click to other rows."""
    return page.evaluate("""async () => {
        const first = document.querySelector(".job").dataset.id;
        const start = performance.now();
        document.querySelector("[data-page='1']").click();
        while (document.querySelector(".job").dataset.id === first) await new Promise(requestAnimationFrame);
        return performance.now() - start;
    }""")


if __name__ == "__main__":
    main()
