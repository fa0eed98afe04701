"""The System tab: engine, models and their download, memory and disk, what the doctor finds, and where things lie.

Everything that is shown is the server's, so every page shows the same, also after a reload. Handlers are private.
"""

import logging
import math
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gradio as gr
import psutil

from ovi_studio.checkpoints.background import Downloads, DownloadState
from ovi_studio.checkpoints.download import missing_files
from ovi_studio.checkpoints.layout import take_inventory
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import published_variants
from ovi_studio.engine.supervisor import Supervisor, tail
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.store import Store, allow_stepping_down, steps_down
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.doctor import Finding, Report, State, examine
from ovi_studio.services.gpu_memory import gpu_memory
from ovi_studio.web import system_views as views
from ovi_studio.web.settings_panel import build_settings
from ovi_studio.web.views import good_html, notice_html

REFRESH_SECONDS = 1
GPU_SECONDS = 5
LOG_LINES = 200
_SCRIPT = (Path(__file__).parent / "system.js").read_text(encoding="utf-8")
_PRIVATE: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


class Shelf(Protocol):
    """The part of `Studio` that this tab uses."""

    paths: StudioPaths
    checkpoint_directory: Path
    store: Store
    supervisor: Supervisor
    options: RuntimeOptions


def build_system(studio: Shelf, *_: object) -> None:
    """The content of the tab; it needs nothing of the form and the tabs, which every tab is given."""
    handlers = _Handlers(studio)
    parts = _build_parts(studio)
    shown = [*parts.pieces, parts.seen]

    def tick(seen: tuple[str, ...]) -> Any:
        return handlers.refresh(seen)

    def look() -> Any:
        handlers.begin_check(again=False)
        return gr.Timer(active=True), *handlers.refresh(())

    def check() -> Any:
        handlers.begin_check(again=True)

    parts.models.shown(look, None, [parts.timer, *shown], **_PRIVATE)
    parts.models.hidden(lambda: gr.Timer(active=False), None, parts.timer, **_PRIVATE)
    parts.timer.tick(tick, parts.seen, shown, **_PRIVATE)
    parts.check.click(check, None, None, **_PRIVATE).then(tick, parts.seen, shown, **_PRIVATE)
    parts.restart.click(handlers.restart, None, parts.notice, **_PRIVATE)
    parts.models.shown(handlers.retries, None, parts.retry, **_PRIVATE)
    parts.retry.input(handlers.allow_retries, parts.retry, None, **_PRIVATE)

    def download(event: gr.EventData) -> str:
        return handlers.download(getattr(event, "name", None))

    parts.models.download(download, None, parts.notice, **_PRIVATE).then(tick, parts.seen, shown, **_PRIVATE)
    parts.models.stop(handlers.cancel, None, None, **_PRIVATE).then(tick, parts.seen, shown, **_PRIVATE)


@dataclass(frozen=True)
class _Parts:
    notice: gr.HTML
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
    def pieces(self) -> list[Any]:
        """What `_Handlers.refresh` has strings for, in its order."""
        return [self.engine, self.models, self.usage, self.report, self.log]


class _Handlers:
    """What the tab asks and does."""

    def __init__(self, studio: Shelf) -> None:
        self._studio = studio
        self._downloads = Downloads(studio.checkpoint_directory)
        self._report: Report | None = None
        self._examining: threading.Thread | None = None
        self._stocked: tuple[Any, list[views.Stock]] = (None, [])
        self._gpus_asked, self._gpu_usage = -math.inf, {}
        self._lock = threading.Lock()

    def refresh(self, seen: tuple[str, ...]) -> Any:
        """The strings that have changed since a page saw them, and what it sees then."""
        now = self._engine(), self._models(), self._usage(), self._findings(), self._log()
        before = seen if len(seen) == len(now) else ("",) * len(now)
        changed = [text if text != old else gr.skip() for text, old in zip(now, before, strict=True)]
        return *changed, now

    def begin_check(self, again: bool) -> None:
        """Let the doctor look, in a thread: asking torch takes seconds."""
        with self._lock:
            if self._examining is not None and (self._examining.is_alive() or not again):
                return
            self._report = None
            self._examining = threading.Thread(target=self._examine, name="doctor", daemon=True)
            self._examining.start()

    def download(self, name: object) -> str:
        """Begin a download; returns a notice if that cannot be."""
        try:
            self._downloads.start(name if isinstance(name, str) else "")
        except JobError as error:
            return notice_html(str(error), "Not downloaded")
        return ""

    def cancel(self) -> None:
        """Stop the download that is going on."""
        self._downloads.cancel()

    def restart(self) -> str:
        """Let the engine end after its step, and start a new one; returns what to say about it."""
        self._studio.supervisor.restart()
        return good_html("The engine starts anew after its current step.")

    def retries(self) -> bool:
        """Whether a clip that ran out of memory is made again in a smaller memory tier."""
        try:
            return steps_down(self._studio.store.database)
        except JobError:
            return True

    def allow_retries(self, allowed: bool) -> None:
        """Change that, for all pages and engines."""
        try:
            allow_stepping_down(self._studio.store.database, bool(allowed))
        except JobError as error:
            raise gr.Error(str(error)) from error

    def _engine(self) -> str:
        try:
            return views.engine_html(self._studio.supervisor.status(), self._studio.store.engines())
        except JobError as error:
            return notice_html(str(error), "The engine's state cannot be read")

    def _models(self) -> str:
        state = self._downloads.state()
        return views.models_html(self._stock(state), state)

    def _stock(self, state: DownloadState) -> list[views.Stock]:
        """What is here; looked at anew when a download or the doctor has ended, not every second."""
        stamp = state.phase, self._report
        if self._stocked[0] != stamp:
            directory = self._studio.checkpoint_directory
            inventories = [take_inventory(variant, directory) for variant in published_variants().values()]
            self._stocked = stamp, [(inventory, missing_files(inventory)) for inventory in inventories]
        return self._stocked[1]

    def _usage(self) -> str:
        memory = psutil.virtual_memory()
        usage = {**self._gpus(), "Host memory": (memory.total - memory.available, memory.total)}
        for name, folder in (("Disk of the clips", self._studio.paths.outputs), ("Disk of the checkpoints", None)):
            folder = folder or self._studio.checkpoint_directory.absolute()
            place = next((one for one in (folder, *folder.parents) if one.is_dir()), None)
            if place is not None:
                disk = shutil.disk_usage(place)
                usage[name] = disk.total - disk.free, disk.total
        return views.usage_html(usage)

    def _gpus(self) -> dict[str, tuple[int, int]]:
        """Asked for at most every few seconds, however many pages look: it starts a program."""
        with self._lock:
            now = time.monotonic()
            if now - self._gpus_asked > GPU_SECONDS:
                self._gpus_asked, self._gpu_usage = now, gpu_memory()
            return self._gpu_usage

    def _findings(self) -> str:
        report = self._report
        if report is not None:
            return views.report_html(report)
        return views.waiting_html("Looking at the machine, the packages and the models.")

    def _log(self) -> str:
        return views.log_html(tail(self._studio.paths.log, LOG_LINES))

    def _examine(self) -> None:
        try:
            self._report = examine(self._studio.checkpoint_directory, self._studio.paths.outputs)
        except Exception as error:
            # A machine on which the doctor stumbles is the one that needs a report.
            logging.getLogger(__name__).exception("The doctor failed")
            finding = Finding("Machine", State.PROBLEM, f"The check failed ({type(error).__name__}: {error})")
            self._report = Report((finding,))


def _build_parts(studio: Shelf) -> _Parts:
    found: dict[str, Any] = {"notice": gr.HTML(elem_classes="fleeting")}
    paths = studio.paths
    places = {
        "Clips": paths.outputs,
        "Checkpoints": studio.checkpoint_directory.absolute(),
        "Queue, uploads and trash": paths.state,
        "Engine log": paths.log,
    }
    with gr.Row(elem_id="system"):
        with gr.Column(scale=6, min_width=320):
            gr.HTML("<h2>Models</h2>")
            found["models"] = gr.HTML(js_on_load=_SCRIPT, elem_id="models", apply_default_css=False)
            with gr.Row(elem_classes="heading"):
                gr.HTML("<h2>What this machine can do</h2>")
                found["check"] = gr.Button("Check again", size="sm", min_width=110, scale=0)
            found["report"] = gr.HTML(js_on_load=_SCRIPT, elem_id="doctor", apply_default_css=False)
        with gr.Column(scale=5, min_width=320):
            with gr.Row(elem_classes="heading"):
                gr.HTML("<h2>Engine</h2>")
                found["restart"] = gr.Button("Restart the engine", size="sm", min_width=140, scale=0)
            found["engine"] = gr.HTML(elem_id="engine-state", apply_default_css=False)
            found["retry"] = gr.Checkbox(
                label="Out of memory: try again with less (the next smaller memory tier)",
                info="The clip's record names the tier; the engine stays in it until it is restarted.",
                elem_id="retry-smaller",
            )
            gr.HTML("<h2>Settings</h2>")
            build_settings(studio, found["models"].shown)
            gr.HTML("<h2>Memory and disks</h2>")
            found["usage"] = gr.HTML(elem_id="usage", apply_default_css=False)
            gr.HTML("<h2>Places</h2>")
            gr.HTML(views.places_html(places), js_on_load=_SCRIPT, elem_id="places", apply_default_css=False)
            gr.HTML("<h2>Engine log</h2>")
            found["log"] = gr.HTML(elem_id="engine-log", apply_default_css=False, autoscroll=True)
    return _Parts(**found, timer=gr.Timer(REFRESH_SECONDS, active=False), seen=gr.State(()))
