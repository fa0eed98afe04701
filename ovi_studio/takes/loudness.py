"""Loudness by ITU-R BS.1770-4, measured by `pyloudnorm` (extra `film`)."""

from types import ModuleType

import numpy as np

from ovi_studio.core.extras import import_extra
from ovi_studio.core.variants import SAMPLE_RATE

SHORTEST = 0.4
"""Seconds; the block of BS.1770. Shorter sound is repeated to this length."""


def import_loudness_meter() -> ModuleType:
    """Import `pyloudnorm`; raises `JobError` if it is missing."""
    return import_extra("pyloudnorm", "film", "Measuring loudness")


def measure_loudness(samples: np.ndarray) -> float:
    """Integrated loudness in LUFS of float32 (N,), mono, `SAMPLE_RATE` a second; minus infinity for silence.

    Raises `JobError` if the package is missing.
    """
    meter = import_loudness_meter().Meter(SAMPLE_RATE, block_size=SHORTEST)
    if not samples.any():
        return float("-inf")
    block = round(SHORTEST * SAMPLE_RATE)
    long_enough = np.resize(samples, max(len(samples), block)).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = float(meter.integrated_loudness(long_enough))
    # NaN: every block is below the absolute threshold of -70 LUFS.
    return found if found == found else float("-inf")
