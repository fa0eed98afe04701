"""The System tab: machines, engine, models and downloads, memory and disks, the doctor's report, and folders.

All state is kept on the server, so every page shows the same, also after a reload. Handlers are private. A page that
anyone may open, such as that of a Space without a login, shows neither this machine's folders nor the engine's log.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ovi_studio.web.events import EACH, LATEST, PRIVATE
from ovi_studio.web.tabs.system import texts, views
from ovi_studio.web.tabs.system.handlers import SystemHandlers, SystemServices
from ovi_studio.web.tabs.system.settings import build_settings
from ovi_studio.web.toasts import Toasts

REFRESH_SECONDS = 1
_SCRIPT = (Path(__file__).parent / "system.js").read_text(encoding="utf-8")


def build_system(studio: SystemServices, toasts: Toasts) -> None:
    """Build the tab."""
    handlers = SystemHandlers(studio, toasts)
    parts = _build_parts(studio)
    shown = [*parts.panels, parts.seen]

    def tick(seen: tuple[str, ...]) -> Any:
        return handlers.refresh(seen)

    def show() -> Any:
        handlers.start_check(again=False)
        return gr.Timer(active=True), *handlers.refresh(())

    def check() -> Any:
        handlers.start_check(again=True)

    parts.models.shown(show, None, [parts.timer, *shown], **LATEST)
    parts.models.hidden(lambda: gr.Timer(active=False), None, parts.timer, **LATEST)
    parts.timer.tick(tick, parts.seen, shown, **PRIVATE)
    parts.check.click(check, None, None, **PRIVATE).then(tick, parts.seen, shown, **PRIVATE)
    parts.restart.click(handlers.restart, None, parts.notice, **PRIVATE)
    parts.models.shown(handlers.retries, None, parts.retry, **LATEST)
    parts.retry.input(handlers.allow_retries, parts.retry, None, **LATEST)

    def download(event: gr.EventData) -> str:
        return handlers.download(getattr(event, "name", None))

    parts.models.download(download, None, parts.notice, **PRIVATE).then(tick, parts.seen, shown, **PRIVATE)
    parts.machines.order(handlers.order, None, toasts.component, **EACH).then(tick, parts.seen, shown, **PRIVATE)
    parts.models.stop(handlers.cancel, None, None, **PRIVATE).then(tick, parts.seen, shown, **PRIVATE)


@dataclass(frozen=True)
class SystemComponents:
    notice: gr.HTML
    machines: gr.HTML
    engine: gr.HTML
    restart: gr.Button
    retry: gr.Checkbox
    models: gr.HTML
    usage: gr.HTML
    report: gr.HTML
    check: gr.Button
    log: gr.HTML
    timer: gr.Timer
    seen: gr.State

    @property
    def panels(self) -> list[Any]:
        """The components that `SystemHandlers.refresh` returns strings for, in the same order."""
        return [self.machines, self.engine, self.models, self.usage, self.report, self.log]


def _build_parts(studio: SystemServices) -> SystemComponents:
    found: dict[str, Any] = {"notice": gr.HTML(elem_classes="fleeting")}
    found["machines"] = gr.HTML(js_on_load=_SCRIPT, elem_id="machines", apply_default_css=False)
    with gr.Row(elem_id="system"):
        with gr.Column(scale=6, min_width=320):
            gr.HTML(f"<h2>{texts.MODELS}</h2>")
            found["models"] = gr.HTML(js_on_load=_SCRIPT, elem_id="models", apply_default_css=False)
            with gr.Row(elem_classes="heading"):
                gr.HTML(f"<h2>{texts.CHECKS}</h2>")
                found["check"] = gr.Button(texts.CHECK_AGAIN, size="sm", min_width=110, scale=0)
            found["report"] = gr.HTML(js_on_load=_SCRIPT, elem_id="doctor", apply_default_css=False)
        with gr.Column(scale=5, min_width=320):
            with gr.Row(elem_classes="heading"):
                gr.HTML(f"<h2>{texts.ENGINE}</h2>")
                found["restart"] = gr.Button(texts.RESTART, size="sm", min_width=140, scale=0)
            found["engine"] = gr.HTML(elem_id="engine-state", apply_default_css=False)
            found["retry"] = gr.Checkbox(
                label=texts.RETRY,
                info=texts.RETRY_HINT,
                elem_id="retry-smaller",
            )
            gr.HTML(f"<h2>{texts.SETTINGS}</h2>")
            build_settings(studio, found["models"].shown)
            gr.HTML(f"<h2>{texts.MEMORY}</h2>")
            found["usage"] = gr.HTML(elem_id="usage", apply_default_css=False)
            if not studio.open_to_all:
                gr.HTML(f"<h2>{texts.FOLDERS}</h2>")
                places = views.places_html(_places(studio))
                gr.HTML(places, js_on_load=_SCRIPT, elem_id="places", apply_default_css=False)
                gr.HTML(f"<h2>{texts.LOG}</h2>")
            found["log"] = gr.HTML(
                elem_id="engine-log", apply_default_css=False, autoscroll=True, visible=not studio.open_to_all
            )
    return SystemComponents(**found, timer=gr.Timer(REFRESH_SECONDS, active=False), seen=gr.State(()))


def _places(studio: SystemServices) -> dict[str, Path]:
    paths = studio.paths
    return {
        texts.CLIPS: paths.outputs,
        texts.CHECKPOINTS: studio.checkpoint_directory.absolute(),
        texts.QUEUE_FOLDER: paths.state,
        texts.LOG: paths.log,
        texts.PAGE_LOG: paths.page_log,
    }
