"""What a job is: the types that the store hands out. Nothing here knows SQL."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ovi_studio.core.spec import ClipSpec


class JobState(StrEnum):
    """Where a job is on its way."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class ClipPhase(StrEnum):
    """What an engine is doing for a running job."""

    LOADING = "loading"
    TEXT = "text"
    DENOISING = "denoising"
    DECODING = "decoding"
    WRITING = "writing"


class Verdict(StrEnum):
    """What an engine hears after it reported progress."""

    CONTINUE = "continue"
    CANCEL = "cancel"
    STOP = "stop"
    """The engine was asked to end; the job goes back to the queue."""
    LOST = "lost"
    """The job is not this engine's any more."""


class EngineState(StrEnum):
    """What an engine says about itself."""

    STARTING = "starting"
    IDLE = "idle"
    WORKING = "working"


@dataclass(frozen=True)
class JobProgress:
    """How far a running job is."""

    phase: ClipPhase
    step: int = 0
    """Steps that are done."""
    total: int = 0
    seconds_per_step: float | None = None
    """Median of the recent steps."""
    seconds_left: float | None = None
    """Until the clip is written; None as long as nothing was measured."""
    part: float | None = None
    """Fraction of the phase that is done, in a phase that has no steps and can tell."""
    preview: Path | None = None
    """A JPEG that is replaced every few steps; gone when the job ends."""


@dataclass(frozen=True)
class Job:
    """A row of the queue as it was when it was read."""

    id: str
    number: int
    """Counts up from 1; what people call the job."""
    batch: int
    batch_name: str
    state: JobState
    priority: int
    """Higher ones run first."""
    position: float
    """Order within a priority; only comparisons mean something."""
    spec: ClipSpec
    attempt: int
    """How often an engine has begun it since it was queued by a person."""
    cancelling: bool
    """Running, and to be cancelled at the next step."""
    progress: JobProgress | None
    """Only while it runs."""
    error: str | None
    note: str | None
    """What people should know of how it is made, although it is no error."""
    clip: Path | None
    """The mp4 of a job that is done."""
    created: float
    """Seconds since 1970, as the next two: for display, no decision is made on them."""
    started: float | None
    finished: float | None
    seconds: float | None
    """What the clip took, loading included, by a clock that nobody sets."""

    @property
    def poster(self) -> Path | None:
        return None if self.clip is None else self.clip.with_suffix(".jpg")


@dataclass(frozen=True)
class JobBatch:
    """Jobs that were added together."""

    id: int
    name: str
    created: float
    counts: Mapping[JobState, int]
    """Every state, also those with no job."""

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def ended(self) -> bool:
        """Whether nothing of it waits or runs any more."""
        return not self.counts[JobState.QUEUED] and not self.counts[JobState.RUNNING]


@dataclass(frozen=True)
class EngineInfo:
    """An engine that has not ended, as it described itself last."""

    owner: str
    pid: int
    supervised: bool
    """Whether a supervisor started it; one that a person started alone is left alone."""
    state: EngineState
    ready: bool
    """Whether it got as far as asking for jobs."""
    variant: str | None
    """The one whose models are loaded."""
    stopping: bool


@dataclass(frozen=True)
class Notice:
    """Something that people should know and can put away."""

    id: int
    text: str
    created: float
