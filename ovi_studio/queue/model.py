"""Jobs, batches, engines and notices: the types that the store returns. Independent of SQL."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ovi_studio.core.improvement import Improvement
from ovi_studio.core.spec import ClipSpec

FIRST_ENGINE = "engine"
"""Slot of the engine of a page that has only one."""


class JobState(StrEnum):
    """The state of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class ClipPhase(StrEnum):
    """The phase of a running job."""

    LOADING = "loading"
    DRAWING = "drawing"
    """The first frame; its steps are those of the image model."""
    TEXT = "text"
    COMPILING = "compiling"
    """The first step of the first clip of a kind."""
    DENOISING = "denoising"
    DECODING = "decoding"
    WRITING = "writing"
    IMPROVING = "improving"
    """The only phase of a job that improves a clip; its steps are the clip's frames."""


class Verdict(StrEnum):
    """The store's answer to a progress report."""

    CONTINUE = "continue"
    CANCEL = "cancel"
    STOP = "stop"
    """The engine was asked to stop; the job goes back to the queue."""
    LOST = "lost"
    """The job no longer belongs to this engine."""


class EngineState(StrEnum):
    """The state that an engine reports."""

    STARTING = "starting"
    IDLE = "idle"
    WORKING = "working"


@dataclass(frozen=True)
class JobProgress:
    """The progress of a running job."""

    phase: ClipPhase
    step: int = 0
    """Completed steps."""
    total: int = 0
    seconds_per_step: float | None = None
    """Median of the recent steps."""
    seconds_left: float | None = None
    """Until the clip is written; None until something has been measured."""
    fraction: float | None = None
    """Completed fraction of a phase that has no steps but can measure its progress."""
    preview: Path | None = None
    """A JPEG that is replaced every few steps and removed when the job ends."""


@dataclass(frozen=True)
class Dependency:
    """What a waiting job waits for: the clip of another job, whose last frame is its first one."""

    number: int | None
    """The other job; None if it was deleted."""
    blocked: bool
    """Whether nothing will happen until a person does something."""
    sentence: str
    """What it waits for, or why it is blocked and what to do."""


@dataclass(frozen=True)
class ImprovementOrder:
    """A clip that is to be improved: one that exists, or that of a job which may not be done yet."""

    spec: ClipSpec
    """The clip's own, for display."""
    improvement: Improvement
    pixels: int
    """Of all frames of the clip, for estimates."""
    clip: str | None = None
    """Name of the mp4 in the output folder; None: the clip of `job`."""
    job: str | None = None
    """The id of a job."""


@dataclass(frozen=True)
class ClipToImprove:
    """What a job does that makes no new clip."""

    improvement: Improvement
    pixels: int
    """Of all frames of the clip."""
    clip: Path | None
    """The mp4; None until the job that makes it is done."""


@dataclass(frozen=True)
class Job:
    """A snapshot of a job in the queue."""

    id: str
    number: int
    """Counts up from 1; shown to the user."""
    batch: int
    batch_name: str
    state: JobState
    priority: int
    """Higher priorities run first."""
    position: float
    """Order within a priority; only comparisons are meaningful."""
    spec: ClipSpec
    attempt: int
    """How many times an engine has started the job since the user queued it."""
    cancelling: bool
    """The job is running and will be cancelled at the next step."""
    owner: str | None
    """The engine that runs the job; None unless it is running."""
    progress: JobProgress | None
    """None unless the job is running."""
    error: str | None
    note: str | None
    """A remark for the user that is not an error, such as a fallback that was used."""
    clip: Path | None
    """The mp4 of a finished job."""
    created: float
    """Seconds since 1970. Like `started` and `finished` for display only; nothing depends on it."""
    started: float | None
    finished: float | None
    seconds: float | None
    """How long the clip took, including loading, by a monotonic clock."""
    parent: str | None = None
    """The id of the job that this one continues or improves: its first frame is the last one of that job's clip."""
    dependency: Dependency | None = None
    """None unless the job waits for its parent."""
    improves: ClipToImprove | None = None
    """None unless the job improves a clip; `spec` is that clip's then."""
    made_by: str | None = None
    """The engine that runs the job or ran it last; None while the job waits."""

    @property
    def poster(self) -> Path | None:
        """The JPEG next to the clip."""
        return None if self.clip is None else self.clip.with_suffix(".jpg")


@dataclass(frozen=True)
class JobBatch:
    """Jobs that were added together."""

    id: int
    name: str
    created: float
    counts: Mapping[JobState, int]
    """Number of jobs in every state, including zeros."""

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def ended(self) -> bool:
        """Whether no job of the batch is queued or running."""
        return not self.counts[JobState.QUEUED] and not self.counts[JobState.RUNNING]


@dataclass(frozen=True)
class EngineInfo:
    """An engine that has not ended, as it last described itself."""

    owner: str
    pid: int
    supervised: bool
    """Whether a supervisor started it; supervisors do not touch engines that the user started."""
    state: EngineState
    ready: bool
    """Whether it has started to ask for jobs."""
    variant: str | None
    """The variant whose models are loaded."""
    stopping: bool
    started: float | None = None
    """Seconds since 1970, for display."""


@dataclass(frozen=True)
class Notice:
    """A message for the user that can be dismissed."""

    id: int
    text: str
    created: float
