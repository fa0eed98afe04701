"""Jobs that improve a clip instead of making one: `JobImprover` does it, `ImprovementMonitor` follows it."""

import time
from collections.abc import Callable
from pathlib import Path

from ovi_studio.core.allocator import free_unused_memory
from ovi_studio.core.errors import Stopped
from ovi_studio.engine.monitor import ask
from ovi_studio.improve.chunk_folder import discard_chunks
from ovi_studio.improve.improver import ClipImprover, Target
from ovi_studio.improve.upscaler_library import UpscalerLibrary
from ovi_studio.media.clip_names import file_stem
from ovi_studio.queue.estimates import History
from ovi_studio.queue.files import clip_name
from ovi_studio.queue.model import ClipPhase, ClipToImprove, Job, JobProgress, Verdict
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.work import EngineSession
from ovi_studio.runtime.clip_runner import ClipRunner

REPORT_SECONDS = 0.25
"""Progress is reported this often at most; there are several tiles a second."""
_TRUSTED_FRACTION = 0.05
"""How much must be done in this attempt for its pace to say anything about the rest."""


class ImprovementMonitor:
    """The `Progress` of an improvement; raises `Stopped` when the job must end, and `verdict` then says why."""

    def __init__(self, work: EngineSession, job: Job, improves: ClipToImprove, stopping: Callable[[], bool]) -> None:
        self.verdict = Verdict.CONTINUE
        self.resumed = False
        """Whether an earlier attempt has done a part of it."""
        self._work, self._job, self._stopping = work, job, stopping
        self._known = History(work.database).improvement(improves.improvement, improves.pixels)
        self._reported = 0.0
        self._begun: tuple[float, float] | None = None
        """When frames of this attempt were first done, and how many that were."""

    def __call__(self, done: float, total: int) -> None:
        """See `improver.Progress`."""
        now = time.monotonic()
        if self._begun is None and done > 0:
            self._begun = now, done
            self.resumed = done > 1
        if now - self._reported < REPORT_SECONDS:
            return
        self._reported = now
        progress = JobProgress(
            ClipPhase.IMPROVING, int(done), total, seconds_left=self._left(now, done, total), fraction=done / total
        )
        self.verdict = ask(self._work, self._job, progress, self._stopping)
        if self.verdict is not Verdict.CONTINUE:
            raise Stopped

    def _left(self, now: float, done: float, total: int) -> float | None:
        if self._begun is not None:
            start, before = self._begun
            if done - before > _TRUSTED_FRACTION * total:
                return (now - start) / (done - before) * (total - done)
        return None if self._known is None else self._known * (1 - done / total)


class JobImprover:
    """Improves the clips of jobs.

    Args:
        runner: makes the clips of other jobs in this process; its models leave the GPU for an upscaler.
    """

    def __init__(self, paths: StudioPaths, runner: ClipRunner) -> None:
        self._paths, self._runner = paths, runner
        options = runner.options
        self._improver = ClipImprover(UpscalerLibrary(options.upscalers), options.device, options.dtype)

    def improve(self, job: Job, improves: ClipToImprove, monitor: ImprovementMonitor) -> Path:
        """Write the improved clip; returns its path. Raises `JobError`, and what `monitor` raises."""
        if improves.clip is None:
            raise ValueError(f"job {job.id} was claimed without its clip")
        if improves.improvement.upscaler is not None:
            self._runner.unload()
        stem = file_stem(clip_name(job.number, job.id, job.spec.prompt))
        target = Target(self._paths.outputs, stem, self._paths.improving, job.id)
        try:
            return self._improver.improve(improves.clip, improves.improvement, target, monitor, job=job.id)
        finally:
            free_unused_memory()

    def discard(self, job: Job) -> None:
        """Remove what was done for a job that was cancelled."""
        discard_chunks(self._paths.improving, job.id)
