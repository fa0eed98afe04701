"""`JobMonitor`: follows one job, writes its progress to the store, and ends the job when the store says so."""

import logging
import statistics
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from ovi_studio.core.errors import JobError, Stopped
from ovi_studio.core.step_caches import OFF
from ovi_studio.engine.slot import EngineSlot
from ovi_studio.media.small_files import part_path
from ovi_studio.queue.estimates import ClipKind, DrawingTimes, History, PhaseTimes
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
"""The maximum number of previews per clip."""
_TRUSTED_FRACTION = 0.2
"""How much of a clip must be decoded for the pace so far to say anything about the rest."""

log = logging.getLogger(__name__)


def is_previewed(index: int, total: int) -> bool:
    """Whether there is a preview after step `index`, from 1 to `total`."""
    return index < total and index % max(1, -(-total // PREVIEWS)) == 0


class JobMonitor:
    """A `ProgressSink` that raises `Stopped` when the job must end; `verdict` then says why."""

    def __init__(self, work: EngineSession, job: Job, previewer: "Previewer", stopping: "Callable[[], bool]") -> None:
        self.verdict = Verdict.CONTINUE
        self.latents: Tensor | None = None
        """Video latents after the last step."""
        self._work = work
        self._job = job
        self._previewer = previewer
        self._stopping = stopping
        history, maker = History(work.database), EngineSlot.of(work.owner).name
        self._known = history.phase_times(ClipKind.of(job.spec), maker)
        self._edges = history.edges(job.spec.variant, maker) or self._known
        self._compilation = history.compilation(maker)
        self._previews = read_settings(work.database).previews
        self._phase = ClipPhase.LOADING
        self._preview: Path | None = None
        self._step, self._total = 0, job.spec.made_steps
        self._fraction: float | None = None
        self._started: dict[ClipPhase, float] = {}
        self._step_times: list[float] = []
        self._drawing = job.spec.to_draw
        self._drawing_known = None if self._drawing is None else history.drawing(self._drawing.model, maker)
        self._drawing_steps: list[float] = []

    def phase(self, phase: ClipPhase) -> None:
        """See `ProgressSink`."""
        self._phase, self._fraction = phase, None
        self._started[phase] = time.monotonic()
        self._report()

    def step(self, index: int, total: int, latents: "Tensor | None" = None) -> None:
        """See `ProgressSink`."""
        self._phase, self._step, self._total, self.latents = ClipPhase.DENOISING, index, total, latents
        self._step_times.append(time.monotonic())
        if self._previews and latents is not None and is_previewed(index, total):
            self._write_preview(latents, self._job.spec.variant)
        self._report()
        if index == total:
            self.phase(ClipPhase.DECODING)

    def drawn(self, index: int, total: int, latents: "Tensor | None" = None) -> None:
        """See `ProgressSink`."""
        self._phase, self._step, self._total = ClipPhase.DRAWING, index, total
        self._drawing_steps.append(time.monotonic())
        if self._previews and latents is not None and is_previewed(index, total):
            self._write_preview(latents, "first frame")
        self._report()

    def end_drawing(self) -> DrawingTimes | None:
        """Note that the first frame is drawn; returns the times of that, None if they are incomplete."""
        begun, steps = self._started.get(ClipPhase.DRAWING), self._drawing_steps
        self._started.clear()  # the clip itself has phases of the same names
        self._drawing, self._step, self._total = None, 0, self._job.spec.made_steps
        step = _median_pace(steps)
        if begun is None or step is None:
            return None
        return DrawingTimes(step, max(0.0, time.monotonic() - begun - len(steps) * step), len(steps))

    def decoded(self, fraction: float) -> None:
        """See `ProgressSink`."""
        self._fraction = fraction
        self._report()

    def waiting(self) -> None:
        """Nothing has happened for a while; ends the job during a step if it must end."""
        self._report()

    def pace(self) -> PhaseTimes | None:
        """Return the times of the phases, once the clip is written; None if they are incomplete."""
        started, step = self._started, self._seconds_per_step(len(self._step_times))
        if step is None or not {ClipPhase.TEXT, ClipPhase.DECODING, ClipPhase.WRITING} <= set(started):
            return None
        until = started.get(ClipPhase.COMPILING, self._step_times[0] - step)
        return PhaseTimes(
            text=max(0.0, until - started[ClipPhase.TEXT]),
            step=step,
            decode=started[ClipPhase.WRITING] - started[ClipPhase.DECODING],
            write=time.monotonic() - started[ClipPhase.WRITING],
        )

    def compilation(self) -> float | None:
        """Return the seconds that compiling took; None if nothing was compiled, or if that is not known."""
        start, step = self._started.get(ClipPhase.COMPILING), self._seconds_per_step(len(self._step_times))
        if start is None or step is None or len(self._step_times) < 2:
            return None
        return max(0.0, self._step_times[0] - start - step)

    def once(self) -> dict[ClipPhase, float]:
        """Return the seconds of the phases that only some clips have: loading models, and compiling."""
        started, compiling = self._started, self.compilation()
        once = {} if compiling is None else {ClipPhase.COMPILING: compiling}
        if {ClipPhase.LOADING, ClipPhase.TEXT} <= set(started):
            once[ClipPhase.LOADING] = started[ClipPhase.TEXT] - started[ClipPhase.LOADING]
        return once

    def _report(self) -> None:
        drawing = self._phase is ClipPhase.DRAWING
        pace = (
            _median_pace(self._drawing_steps[-RECENT_STEPS - 1 :]) if drawing else self._seconds_per_step(RECENT_STEPS)
        )
        left = self._seconds_left(pace)
        progress = JobProgress(self._phase, self._step, self._total, pace, left, self._fraction, self._preview)
        # A clip that is nearly written is not discarded because the engine must end.
        computed = self._phase in (ClipPhase.DECODING, ClipPhase.WRITING)
        verdict = ask(self._work, self._job, progress, self._stopping)
        if verdict is not Verdict.CONTINUE and not (verdict is Verdict.STOP and computed):
            self.verdict = verdict
            raise Stopped

    def _seconds_per_step(self, recent: int) -> float | None:
        """Return the average of recent steps; the first, which includes encoding text, counts only if it is alone.

        The median, unless a step cache makes steps of two lengths. A step in which blocks were compiled never counts.
        """
        times = self._step_times[-recent - 1 :]
        if len(times) > 1:
            average = statistics.median if self._job.spec.step_cache == OFF else statistics.fmean
            return average(later - earlier for earlier, later in pairwise(times))
        if times and ClipPhase.TEXT in self._started and ClipPhase.COMPILING not in self._started:
            return times[0] - self._started[ClipPhase.TEXT]
        return None

    def _drawing_left(self, pace: float | None) -> float | None:
        """Return the seconds until the clip is written, as long as its first frame is not drawn."""
        known, clip, done = self._drawing_known, self._known, len(self._drawing_steps)
        if known is None or clip is None or self._drawing is None:
            return None
        total = self._total if done else self._drawing.steps or known.steps
        step = known.step if pace is None else pace
        return step * (total - done) + known.rest + clip.seconds(self._job.spec.evaluated_steps)

    def _seconds_left(self, pace: float | None) -> float | None:
        known, edges = self._known, self._edges
        if self._drawing is not None:
            return self._drawing_left(pace)
        if self._phase is ClipPhase.DECODING:
            return self._decoding_left()
        if self._phase is ClipPhase.WRITING:
            return edges.write if edges else None
        if self._phase is ClipPhase.DENOISING and pace is not None:
            return pace * (self._total - self._step) + (edges.decode + edges.write if edges else 0)
        if known is None:
            return None
        if self._phase is ClipPhase.COMPILING:
            return self._compilation + known.seconds(self._job.spec.evaluated_steps) - known.text
        return known.seconds(self._job.spec.evaluated_steps)

    def _decoding_left(self) -> float | None:
        """Return the seconds until the clip is written.

        The first frames are slow, since the decoder must be moved or compiled: the pace so far counts only as much as
        the part that is done, and the recorded one for the rest.
        """
        taken, done = time.monotonic() - self._started[ClipPhase.DECODING], self._fraction or 0.0
        if self._edges is None:
            return taken * (1 / done - 1) if done >= _TRUSTED_FRACTION else None
        return (1 - done) * ((1 - done) * self._edges.decode + taken) + self._edges.write

    def _write_preview(self, latents: "Tensor", kind: str) -> None:
        path = preview_path(self._work.database.paths, self._job.id)
        try:
            part_path(path).write_bytes(self._previewer.sketch(kind, latents))
            part_path(path).replace(path)
        except OSError as error:
            log.warning("The preview of job %d could not be written: %s", self._job.number, error)
        else:
            self._preview = path


def _median_pace(times: list[float]) -> float | None:
    """The seconds from one of these times to the next; None for a single one."""
    return statistics.median(later - earlier for earlier, later in pairwise(times)) if len(times) > 1 else None


def ask(work: EngineSession, job: Job, progress: JobProgress, stopping: "Callable[[], bool]") -> Verdict:
    """Report progress; returns whether to continue."""
    if work.database.replaced():
        raise RuntimeError(f"{work.database.paths.database} was replaced by another file")
    try:
        verdict = work.report(job, progress)
    except JobError as error:
        # Progress is not worth failing a clip; only the final transition is retried until it succeeds.
        log.warning("The progress of job %d could not be written: %s", job.number, error)
        verdict = Verdict.CONTINUE
    return Verdict.STOP if verdict is Verdict.CONTINUE and stopping() else verdict
