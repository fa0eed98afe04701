"""`Clip`, the result of the pipeline, and `Picture`, the first frame of a clip. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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


@dataclass(frozen=True, eq=False)
class Clip:
    """A finished clip and everything that is needed to make it again. Compared by identity."""

    spec: ClipSpec
    frames: np.ndarray
    """uint8 (T, H, W, 3), RGB, `FRAME_RATE` a second; H and W are multiples of 32."""
    samples: np.ndarray
    """float32 (N,) in [-1, 1], mono, `SAMPLE_RATE` a second."""
    picture: Picture | None = None
    """The first frame that was given; present if and only if `spec.image` is set."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """How the clip was made: versions, checkpoint hashes, timings. JSON values."""
