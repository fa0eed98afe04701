"""One tab of the page on a server of its own, with real services and a form of plain boxes, for browser tests."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ovi_studio.ui  # noqa: F401  (before gradio: without telemetry)
from ovi_studio import media
from ovi_studio.clip import Clip
from ovi_studio.pictures import Picture
from ovi_studio.spec import ClipSpec
from ovi_studio.studio import Studio

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
QUIET += " --disable-component-update --disable-sync --autoplay-policy=no-user-gesture-required"
HOSTILE = "<script>window.pwned=1</script><img src=x onerror=window.pwned=2> ${window.pwned=3} {{value}} \"' `x`"
PATIENCE_MS = 30_000

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium or Chrome on this machine")

ACCESSIBILITY = """(root) => {
  const faults = [];
  const seen = (e) => e.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  const channels = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = (c) => c.slice(0, 3).map((v) => linear(v / 255))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => {
    for (let at = e; at; at = at.parentElement) {
      const c = channels(getComputedStyle(at).backgroundColor);
      if (c.length === 3 || c[3] > 0.8) return c;
    }
    return [14, 15, 19];
  };
  for (const e of document.querySelector(root).querySelectorAll("*")) {
    if (!seen(e) || e.closest("[disabled]")) continue;
    if (e.matches("button, input, textarea, select, a[href], video")) {
      const label = e.labels?.length ? [...e.labels].map((l) => l.innerText).join("") : "";
      const name = e.getAttribute("aria-label") || e.getAttribute("aria-labelledby") || label || e.innerText || e.title;
      if (!name?.trim() && e.type !== "file") faults.push("no name: " + e.outerHTML.slice(0, 120));
    }
    if (e.matches("img:not([alt])")) faults.push("no alt: " + e.outerHTML.slice(0, 120));
    const text = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (text && !e.closest("svg")) {
      const [a, b] = [light(channels(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
      if ((a + 0.05) / (b + 0.05) < 4.5) faults.push("contrast: " + e.outerHTML.slice(0, 120));
    }
  }
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of new Set(ids)) {
    if (id.startsWith("slot-") && ids.filter((x) => x === id).length > 1) faults.push("twice: " + id);
  }
  return faults;
}"""
"""What an axe check would find first: names of everything that can be used, pictures without text, contrast (AA)."""


class PlainForm:
    """Stands for the Create form."""

    def __init__(self) -> None:
        import gradio as gr

        def box(name: str, value: str = "") -> Any:
            return gr.Textbox(value, label=name, elem_id=f"form-{name}")

        self.prompt, self.sound, self.seed, self.image = map(box, ("prompt", "sound", "seed", "image"))
        self.model = box("model", "960x960_5s")
        self.ratio = gr.Radio(["16:9", "9:16", "1:1", "4:3", "3:4", "21:9"], label="ratio", elem_id="form-ratio")
        self.fields = {"prompt": self.prompt, "sound": self.sound, "image": self.image}
        self.outputs = [self.prompt, self.seed, self.image, self.ratio]

    def fill(self, spec: ClipSpec | None = None, *, prompt: str | None = None) -> list[Any]:
        import gradio as gr

        if spec is None:
            return [prompt, gr.skip(), gr.skip(), gr.skip()]
        return [spec.prompt, str(spec.seed), str(spec.image or ""), gr.skip()]


@contextmanager
def serve_tab(studio: Studio, title: str, build: Callable[[Studio, PlainForm, Any], None]) -> Iterator[str]:
    """Serve a page with the form and this tab; gives its address."""
    import gradio as gr

    from ovi_studio.ui.media_routes import media_routes
    from ovi_studio.ui.theme import launch_options

    with gr.Blocks(title=title, analytics_enabled=False, fill_width=True) as page, gr.Tabs() as tabs:
        with gr.Tab("Create", id="create"):
            form = PlainForm()
        with gr.Tab(title, id=title.lower()):
            build(studio, form, tabs)
    page.queue(max_size=None)
    page._queue.sleep_when_free = 0.05
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        _, url, _ = page.launch(
            server_name="127.0.0.1",
            server_port=None,
            quiet=True,
            prevent_thread_lock=True,
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            app_kwargs={"routes": media_routes(studio)},
            **launch_options(),
        )
        yield url
        page.close(verbose=False)


@contextmanager
def open_browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())
        yield browser
        browser.close()


def open_tab(browser: Any, url: str, title: str, size: tuple[int, int] = (1440, 900)) -> Any:
    """A new page that shows the tab."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.set_default_timeout(PATIENCE_MS)
    page.goto(url)
    page.get_by_role("tab", name=title).click()
    return page


def is_unharmed(page: Any) -> bool:
    """Whether nothing that a person wrote has run."""
    return page.evaluate("window.pwned === undefined")


def fits_width(page: Any) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def make_clip(outputs: Path, prompt: str, *, first: Picture | None = None, made: int = 0, **settings: Any) -> Path:
    """A real clip of half a second; `made` orders them."""
    rows, columns = np.mgrid[:64, :96]
    frames = np.stack([np.stack([rows * 3, columns * 2, rows + 9 * t], -1) for t in range(12)]).astype(np.uint8)
    values = {"variant": "960x960_5s", "image": Path("/elsewhere/first.png") if first else None} | settings
    path = media.write_clip(Clip(ClipSpec(prompt=prompt, **values), frames, np.zeros(8000, np.float32), first), outputs)
    os.utime(path, (1_700_000_000 + made,) * 2)
    return path
