"""`JobMonitor`: follows one job, writes its progress to the store, and ends it when the store says so."""

import logging
import statistics
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from ovi_studio.core.errors import JobError, Stopped
from ovi_studio.media.small_files import part_path
from ovi_studio.queue.estimates import PhaseTimes, recorded_phase_times
from ovi_studio.queue.files import preview_path
from ovi_studio.queue.model import ClipPhase, Job, JobProgress, Verdict
from ovi_studio.queue.work import EngineSession
from ovi_studio.runtime.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from ovi_studio.runtime.preview import Previewer

RECENT_STEPS = 10
PREVIEWS = 12
"""At most so many previews a clip."""

log = logging.getLogger(__name__)


class JobMonitor:
    """A `ProgressSink` that raises `Stopped` when the job is to end; `verdict` then says why."""

    def __init__(self, work: EngineSession, job: Job, previewer: "Previewer", stopping: "Callable[[], bool]") -> None:
        self.verdict = Verdict.CONTINUE
        self.latents: Tensor | None = None
        """Of the last step."""
        self._work = work
        self._job = job
        self._previewer = previewer
        self._stopping = stopping
        self._known = recorded_phase_times(work.database, job.spec)
        self._previews = read_settings(work.database).previews
        self._phase = ClipPhase.LOADING
        self._preview: Path | None = None
        self._step, self._total = 0, job.spec.steps
        self._part: float | None = None
        self._begun: dict[ClipPhase, float] = {}
        self._step_times: list[float] = []

    def phase(self, phase: ClipPhase) -> None:
        """See `ProgressSink`."""
        self._phase, self._part = phase, None
        self._begun[phase] = time.monotonic()
        self._tell()

    def step(self, index: int, total: int, latents: "Tensor | None" = None) -> None:
        """See `ProgressSink`."""
        self._phase, self._step, self._total, self.latents = ClipPhase.DENOISING, index, total, latents
        self._step_times.append(time.monotonic())
        if self._previews and latents is not None and index < total and index % max(1, -(-total // PREVIEWS)) == 0:
            self._draw(latents)
        self._tell()
        if index == total:
            self.phase(ClipPhase.DECODING)

    def decoded(self, fraction: float) -> None:
        """See `ProgressSink`."""
        self._part = fraction
        self._tell()

    def pace(self) -> PhaseTimes | None:
        """What the phases took, once the clip is written."""
        begun, step = self._begun, self._seconds_per_step(len(self._step_times))
        if step is None or not {ClipPhase.TEXT, ClipPhase.DECODING, ClipPhase.WRITING} <= set(begun):
            return None
        return PhaseTimes(
            text=max(0.0, self._step_times[0] - begun[ClipPhase.TEXT] - step),
            step=step,
            decode=begun[ClipPhase.WRITING] - begun[ClipPhase.DECODING],
            write=time.monotonic() - begun[ClipPhase.WRITING],
        )

    def _tell(self) -> None:
        if self._work.database.replaced():
            raise RuntimeError(f"{self._work.database.paths.database} is not the file any more that was opened")
        pace = self._seconds_per_step(RECENT_STEPS)
        left = self._seconds_left(pace)
        progress = JobProgress(self._phase, self._step, self._total, pace, left, self._part, self._preview)
        try:
            verdict = self._work.report(self._job, progress)
        except JobError as error:
            # Progress is not worth a clip; the transition at the end is written until it succeeds.
            log.warning("The progress of job %d could not be written: %s", self._job.number, error)
            verdict = Verdict.CONTINUE
        if verdict is Verdict.CONTINUE and self._stopping():
            verdict = Verdict.STOP
        # A clip that is nearly written is not thrown away because the engine is to end.
        computed = self._phase in (ClipPhase.DECODING, ClipPhase.WRITING)
        if verdict is not Verdict.CONTINUE and not (verdict is Verdict.STOP and computed):
            self.verdict = verdict
            raise Stopped

    def _seconds_per_step(self, recent: int) -> float | None:
        """Median; the first step is counted only as long as there is no other, since the text stands before it."""
        times = self._step_times[-recent - 1 :]
        if len(times) > 1:
            return statistics.median(later - earlier for earlier, later in pairwise(times))
        if times and ClipPhase.TEXT in self._begun:
            return times[0] - self._begun[ClipPhase.TEXT]
        return None

    def _seconds_left(self, pace: float | None) -> float | None:
        known = self._known
        if self._phase is ClipPhase.DECODING and self._part:
            taken = time.monotonic() - self._begun[ClipPhase.DECODING]
            return taken * (1 / self._part - 1) + (known.write if known else 0)
        if self._phase is ClipPhase.DENOISING and pace is not None:
            return pace * (self._total - self._step) + (known.decode + known.write if known else 0)
        if known is None:
            return None
        if self._phase is ClipPhase.DECODING:
            return known.decode + known.write
        return known.write if self._phase is ClipPhase.WRITING else known.seconds(self._total)

    def _draw(self, latents: "Tensor") -> None:
        path = preview_path(self._work.database.paths, self._job.id)
        try:
            part_path(path).write_bytes(self._previewer.sketch(self._job.spec.variant, latents))
            part_path(path).replace(path)
        except OSError as error:
            log.warning("The preview of job %d could not be written: %s", self._job.number, error)
        else:
            self._preview = path
