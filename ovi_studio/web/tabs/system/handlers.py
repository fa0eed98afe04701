"""Event handlers of the System tab. They return HTML strings; the doctor runs in its own thread."""

import logging
import math
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import gradio as gr
import psutil

from ovi_studio.checkpoints.background import Downloads, DownloadState
from ovi_studio.checkpoints.download import missing_files
from ovi_studio.checkpoints.layout import complete_variants, take_inventory
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import published_variants
from ovi_studio.engine.supervisor import tail
from ovi_studio.farm.roster import Order, dashboard, give_order, orders
from ovi_studio.queue.paths import PAGE_LOG, StudioPaths
from ovi_studio.queue.store import enable_memory_fallback, memory_fallback_enabled
from ovi_studio.services.doctor import CheckResult, CheckState, DoctorReport, examine
from ovi_studio.services.gpu_memory import gpu_memory
from ovi_studio.services.machines import machine_figures
from ovi_studio.web.public_text import public_status, without_folders
from ovi_studio.web.tabs.system import machine_views, texts, views
from ovi_studio.web.tabs.system.settings import SettingsServices
from ovi_studio.web.toasts import Toasts
from ovi_studio.web.views import notice_html, success_html

GPU_SECONDS = 5
LOG_LINES = 200


class SystemServices(SettingsServices, Protocol):
    """The part of `Studio` that the System tab uses."""

    paths: StudioPaths
    checkpoint_directory: Path
    model_downloads: Downloads
    open_to_all: bool


class SystemHandlers:
    """The functions behind the components of the tab."""

    def __init__(self, studio: SystemServices, toasts: Toasts) -> None:
        self._studio = studio
        self._toasts = toasts
        self._downloads = studio.model_downloads
        self._report: DoctorReport | None = None
        self._examining: threading.Thread | None = None
        self._cached_files: tuple[Any, list[views.ModelFiles]] = (None, [])
        self._complete_variants: list[str] = []
        self._gpus_queried = -math.inf
        self._gpu_usage: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def refresh(self, seen: tuple[str, ...]) -> Any:
        """Return updates for the strings that differ from `seen`, and the new value of `seen`."""
        now = self._machines(), self._engine(), self._models(), self._usage(), self._findings(), self._log()
        before = seen if len(seen) == len(now) else ("",) * len(now)
        changed = [text if text != old else gr.skip() for text, old in zip(now, before, strict=True)]
        return *changed, now

    def start_check(self, again: bool) -> None:
        """Run the doctor in a thread, since probing torch takes seconds."""
        with self._lock:
            if self._examining is not None and (self._examining.is_alive() or not again):
                return
            self._report = None
            self._examining = threading.Thread(target=self._examine, name="doctor", daemon=True)
            self._examining.start()

    def download(self, name: object) -> str:
        """Start a download; returns a notice if that fails."""
        try:
            self._downloads.start(name if isinstance(name, str) else "")
        except JobError as error:
            return notice_html(str(error), texts.DOWNLOAD_FAILED)
        return ""

    def cancel(self) -> None:
        """Stop the running download."""
        self._downloads.cancel()

    def restart(self) -> str:
        """Restart the engine after its current step; returns a notice."""
        self._studio.supervisor.restart()
        return success_html(texts.RESTARTING)

    def order(self, event: gr.EventData, request: gr.Request) -> Any:
        """Tell a machine to pause, drain, leave or go on; can be taken back."""
        data = event._data if isinstance(event._data, dict) else {}
        name, asked = str(data.get("name")), str(data.get("order"))
        database = self._studio.store.database
        try:
            if self._studio.open_to_all or asked not in (machine_views.RESUME, *Order):
                raise JobError(texts.NOT_ORDERED)
            before = orders(database).get(name)
            order = None if asked == machine_views.RESUME else Order(asked)
            give_order(database, name, order)
        except JobError as error:
            return self._toasts.note(str(error), failed=True)
        return self._toasts.undoable(request, texts.ordered(name, order), lambda: give_order(database, name, before))

    def retries(self) -> bool:
        """Whether a clip that ran out of memory is retried in a smaller memory tier."""
        try:
            return memory_fallback_enabled(self._studio.store.database)
        except JobError:
            return True

    def allow_retries(self, allowed: bool) -> None:
        """Set whether clips that ran out of memory are retried, for all pages and engines."""
        try:
            enable_memory_fallback(self._studio.store.database, bool(allowed))
        except JobError as error:
            raise gr.Error(str(error)) from error

    def _machines(self) -> str:
        """Render the machines of the farm; nothing without one, and for strangers."""
        store = self._studio.store
        try:
            if self._studio.open_to_all or not self._studio.supervisor.leads_machines:
                return ""
            found = machine_figures(store, self._complete(), self._gpus())
            return machine_views.machines_html(found, dashboard(store.database))
        except JobError as error:
            return notice_html(str(error), texts.STATE_UNREADABLE)

    def _complete(self) -> list[str]:
        """Return the models that this machine can make clips with."""
        self._model_files(self._downloads.state())
        return self._complete_variants

    def _engine(self) -> str:
        try:
            status = self._studio.supervisor.status()
            return views.engine_html(
                public_status(status) if self._studio.open_to_all else status, self._studio.store.engines()
            )
        except JobError as error:
            return notice_html(str(error), texts.STATE_UNREADABLE)

    def _models(self) -> str:
        state = self._downloads.state()
        return views.models_html(self._model_files(state), state)

    def _model_files(self, state: DownloadState) -> list[views.ModelFiles]:
        """List the models' files; read again only after a download or a check has ended, not every second."""
        stamp = state.phase, self._report
        if self._cached_files[0] != stamp:
            directory = self._studio.checkpoint_directory
            inventories = [take_inventory(variant, directory) for variant in published_variants().values()]
            self._complete_variants = [variant.name for variant in complete_variants(directory)]
            self._cached_files = stamp, [(inventory, missing_files(inventory)) for inventory in inventories]
        return self._cached_files[1]

    def _usage(self) -> str:
        memory = psutil.virtual_memory()
        usage = {**self._gpus(), texts.HOST_MEMORY: (memory.total - memory.available, memory.total)}
        for name, folder in ((texts.CLIPS_DISK, self._studio.paths.outputs), (texts.CHECKPOINTS_DISK, None)):
            folder = folder or self._studio.checkpoint_directory.absolute()
            place = next((one for one in (folder, *folder.parents) if one.is_dir()), None)
            if place is not None:
                disk = shutil.disk_usage(place)
                usage[name] = disk.total - disk.free, disk.total
        return views.usage_html(usage)

    def _gpus(self) -> dict[str, tuple[int, int]]:
        """Return GPU memory, queried at most every few seconds for all pages, since it starts a program."""
        with self._lock:
            now = time.monotonic()
            if now - self._gpus_queried > GPU_SECONDS:
                self._gpus_queried, self._gpu_usage = now, gpu_memory()
            return self._gpu_usage

    def _findings(self) -> str:
        report = self._report
        if report is not None:
            return views.report_html(_without_folders(report) if self._studio.open_to_all else report)
        return views.waiting_html(texts.CHECKING)

    def _log(self) -> str:
        return "" if self._studio.open_to_all else views.log_html(tail(self._studio.paths.log, LOG_LINES))

    def _examine(self) -> None:
        try:
            self._report = examine(self._studio.checkpoint_directory, self._studio.paths.outputs)
        except Exception:
            # A machine on which the doctor fails needs a report most of all.
            logging.getLogger(__name__).exception("The doctor failed")
            result = CheckResult(texts.MACHINE, CheckState.PROBLEM, texts.check_failed(PAGE_LOG))
            self._report = DoctorReport((result,))


def _without_folders(report: DoctorReport) -> DoctorReport:
    return DoctorReport(
        tuple(
            replace(result, text=without_folders(result.text), advice=without_folders(result.advice))
            for result in report.results
        )
    )
