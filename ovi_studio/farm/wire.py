"""What goes to the maker of a clip in another process and comes back: requests and events, as plain values.

Imports no torch or ray.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from ovi_studio.core.spec import ClipSpec
from ovi_studio.engine.executor import ClipFacts
from ovi_studio.farm.files import Content
from ovi_studio.queue.model import ClipPhase

PICTURE = "picture"
SOURCE = "source"
ADAPTERS = "adapters"
"""Folders of a clip's files."""


@dataclass(frozen=True)
class ClipRequest:
    """A clip to make. Its files were sent before."""

    spec: ClipSpec
    files: Mapping[str, Content]
    """By folder and name."""
    facts: ClipFacts


@dataclass(frozen=True)
class PhaseEvent:
    phase: ClipPhase


@dataclass(frozen=True, eq=False)
class StepEvent:
    index: int
    total: int
    latents: np.ndarray | None
    """float16 (channels, frames, height, width): the middle frame for a preview, all after the last step."""


@dataclass(frozen=True)
class DecodedEvent:
    fraction: float


@dataclass(frozen=True)
class AliveEvent:
    """Nothing has happened, but the machine is there."""


@dataclass(frozen=True)
class PieceEvent:
    """The next piece of the mp4."""

    data: bytes


@dataclass(frozen=True, eq=False)
class KeptFrames:
    """The `Frames` that previews learn from."""

    shape: tuple[int, ...]
    kept: Mapping[int, np.ndarray]

    def __getitem__(self, index: int, /) -> np.ndarray:
        """Return one frame, uint8 (H, W, 3)."""
        return self.kept[index]


@dataclass(frozen=True, eq=False)
class DoneEvent:
    """The clip is made and its mp4 was sent."""

    poster: bytes
    frames: KeptFrames
    movie_bytes: int


class Failure(StrEnum):
    """Why there is no clip."""

    JOB = "job"
    """A `JobError`: the text is for people."""
    MACHINE = "machine"
    """The machine and not the job is the cause; the text is for people."""
    MEMORY = "memory"
    STOPPED = "stopped"
    DEFECT = "defect"
    """Any other error; the text is its traceback."""


@dataclass(frozen=True)
class FailedEvent:
    failure: Failure
    text: str = ""


Event = PhaseEvent | StepEvent | DecodedEvent | AliveEvent | PieceEvent | DoneEvent | FailedEvent
