"""`Clip`, the result of the pipeline, its frames, and `Picture`, the first frame of a clip. Imports no torch."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ovi_studio.core.spec import ClipSpec


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture file after reading. Compared by identity; compare `sha256` for equal content."""

    data: bytes
    """The bytes of the file."""
    pixels: np.ndarray
    """uint8 (H, W, 3), RGB, upright."""
    sha256: str
    """Hash of `data`, in hexadecimal."""
    notes: tuple[str, ...] = ()
    """Sentences about how the file was read, for the person who chose it."""


class Frames(Protocol):
    """The frames of a clip: an array of all of them, or a `media.film.Film`, where they are encoded already."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, H, W, 3)."""

    def __getitem__(self, index: int, /) -> np.ndarray:
        """One frame, uint8 (H, W, 3); a film has only a few of them."""


class FrameSink(AbstractContextManager["FrameSink"], Protocol):
    """Takes the frames of a clip as they are decoded, within a `with` block; an error in the block discards them."""

    def add(self, frames: np.ndarray) -> None:
        """Take the next frames, uint8 (n, H, W, 3); the sink may keep the array."""

    def result(self) -> Frames:
        """Return the frames, after the block."""


class NewFrameSink(Protocol):
    """Makes the `FrameSink` for a clip of this many frames, height and width."""

    def __call__(self, count: int, height: int, width: int) -> FrameSink: ...


@dataclass(frozen=True, eq=False)
class Clip:
    """A finished clip and everything that is needed to make it again. Compared by identity."""

    spec: ClipSpec
    frames: Frames
    """uint8 (T, H, W, 3), RGB, `FRAME_RATE` a second; H and W are multiples of the variant's `size_unit`."""
    samples: np.ndarray
    """float32 (N,) in [-1, 1], mono, `SAMPLE_RATE` a second."""
    picture: Picture | None = None
    """The first frame that was given; present if and only if `spec.image` is set."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """How the clip was made: versions, checkpoint hashes, timings. JSON values."""
