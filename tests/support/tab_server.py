"""Serves a single tab of the page with real services and a simple form, for browser tests."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from browser import DESKTOP, new_page, show

import ovi_studio.web  # noqa: F401  (before gradio: without telemetry)
from ovi_studio.core.clip import Clip, Picture
from ovi_studio.core.prompts import AudioTag
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media import clip_files
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.studio import Studio


class PlainForm:
    """Replaces the Create form."""

    def __init__(self) -> None:
        import gradio as gr

        def box(name: str, value: str = "") -> Any:
            return gr.Textbox(value, label=name, elem_id=f"form-{name}")

        self.prompt, self.sound, self.seed, self.image = map(box, ("prompt", "sound", "seed", "image"))
        self.model = box("model", "960x960_5s")
        self.ratio = gr.Radio(["16:9", "9:16", "1:1", "4:3", "3:4", "21:9"], label="ratio", elem_id="form-ratio")
        self.fields = {"prompt": self.prompt, "sound": self.sound, "image": self.image}
        self.written = [self.prompt, gr.State(None), self.sound]
        self.outputs = [self.prompt, self.seed, self.image, self.ratio]

    def text_of(self, prompt: str, cues: Any, sound: str, tag: AudioTag) -> str:
        return f"{prompt} {tag.wrap(sound)}" if sound else prompt

    def fill(self, spec: ClipSpec | None = None, *, prompt: str | None = None, notice: str = "") -> list[Any]:
        import gradio as gr

        if spec is None:
            return [prompt, gr.skip(), gr.skip(), gr.skip()]
        return [spec.prompt, str(spec.seed), str(spec.image or ""), gr.skip()]


@dataclass(frozen=True)
class Tab:
    """A served tab."""

    studio: Studio
    title: str
    url: str

    def open(self, chromium: Any, size: tuple[int, int] = DESKTOP) -> Any:
        """Open the tab in a new page."""
        page = new_page(chromium, self.url, size)
        show(page, self.title)
        return page


@contextmanager
def serve_tab(
    outputs: Path, checkpoints: Path, title: str, build: Callable[[Studio, PlainForm, Any, Any], None]
) -> Iterator[Tab]:
    """Serve a page with the form and this tab, which `build` makes of the studio, the form, the tabs and the toasts."""
    import gradio as gr

    from ovi_studio.web.media_routes import media_routes
    from ovi_studio.web.theme import launch_options
    from ovi_studio.web.toasts import Toasts

    studio = Studio.open(outputs, RuntimeOptions(checkpoint_directory=checkpoints))
    with gr.Blocks(title=title, analytics_enabled=False, fill_width=True) as page:
        toasts = Toasts(studio.undo)
        with gr.Tabs() as tabs:
            with gr.Tab("Create", id="create"):
                form = PlainForm()
            with gr.Tab(title, id=title.lower()):
                build(studio, form, tabs, toasts)
    page.queue(max_size=None)
    page._queue.sleep_when_free = 0.05
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
    yield Tab(studio, title, url)
    page.close(verbose=False)
    studio.close()


def make_clip(outputs: Path, prompt: str, *, first: Picture | None = None, made: int = 0, **settings: Any) -> Path:
    """Write a real clip of half a second; `made` determines the order."""
    rows, columns = np.mgrid[:64, :96]
    frames = np.stack([np.stack([rows * 3, columns * 2, rows + 9 * t], -1) for t in range(12)]).astype(np.uint8)
    values = {"variant": "960x960_5s", "image": Path("/elsewhere/first.png") if first else None} | settings
    path = clip_files.write_clip(
        Clip(ClipSpec(prompt=prompt, **values), frames, np.zeros(8000, np.float32), first), outputs
    )
    os.utime(path, (1_700_000_000 + made,) * 2)
    return path
