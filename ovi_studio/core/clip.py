"""`Clip`: what the pipeline hands to whoever writes or shows it. Nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ovi_studio.core.spec import ClipSpec
from ovi_studio.media.pictures import Picture


@dataclass(frozen=True, eq=False)
class Clip:
    """One finished clip and everything that is needed to make it again. Compared by identity."""

    spec: ClipSpec
    frames: np.ndarray
    """uint8 (T, H, W, 3), RGB, `FRAME_RATE` a second; H and W are multiples of 32."""
    samples: np.ndarray
    """float32 (N,) in [-1, 1], mono, `SAMPLE_RATE` a second."""
    picture: Picture | None = None
    """The first frame as it was given; there is one exactly if `spec.image` is set."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """How the clip was made: versions, checkpoint hashes, timings. JSON values."""
