"""What the System tab asks and does. What it shows are strings; the doctor looks in a thread of its own."""

import logging
import math
import shutil
import threading
import time
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
from ovi_studio.queue.store import Store, enable_memory_fallback, memory_fallback_enabled
from ovi_studio.services.doctor import CheckResult, CheckState, DoctorReport, examine
from ovi_studio.services.gpu_memory import gpu_memory
from ovi_studio.web.tabs.system import views
from ovi_studio.web.views import good_html, notice_html

GPU_SECONDS = 5
LOG_LINES = 200


class Shelf(Protocol):
    """The part of `Studio` that the handlers use."""

    paths: StudioPaths
    checkpoint_directory: Path
    store: Store
    supervisor: Supervisor


class SystemHandlers:
    """What the tab asks and does."""

    def __init__(self, studio: Shelf) -> None:
        self._studio = studio
        self._downloads = Downloads(studio.checkpoint_directory)
        self._report: DoctorReport | None = None
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
            return memory_fallback_enabled(self._studio.store.database)
        except JobError:
            return True

    def allow_retries(self, allowed: bool) -> None:
        """Change that, for all pages and engines."""
        try:
            enable_memory_fallback(self._studio.store.database, bool(allowed))
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
            finding = CheckResult("Machine", CheckState.PROBLEM, f"The check failed ({type(error).__name__}: {error})")
            self._report = DoctorReport((finding,))
