"""Faults of a take's sound: no numbers, clipping, silence where somebody should speak, too quiet."""

from collections.abc import Iterator

import numpy as np

from ovi_studio.core.prompt_check import FAST_PACE, count_words
from ovi_studio.core.variants import SAMPLE_RATE
from ovi_studio.takes.faults import Fault, FaultKind

_FULL = 0.9
"""Level from which samples count as clipped: AAC bends what was flat. Speech with its peak at 0.98 is there for 0 ms,
and speech that was turned up 1.5 times more for 9 ms (measured)."""
_RUN = 3
"""Samples in a row; one at the top is a peak and no clipping."""
_MAX_CLIPPED = 0.005
"""Seconds of clipped sound that nobody hears."""
_BLOCK = SAMPLE_RATE // 50
_AUDIBLE = 10 ** (-45 / 20)
"""Root mean square of a block of 20 ms in which a voice may be heard: -45 dBFS."""


def sound_faults(samples: np.ndarray, speech: str) -> Iterator[Fault]:
    """Faults of float32 (N,), mono, `SAMPLE_RATE` a second, in which `speech` should be heard; empty: nobody speaks."""
    if not np.isfinite(samples).all():
        yield Fault(FaultKind.NOT_FINITE, "Some values of the sound are NaN or infinite.")
        return
    if (clipped := clipped_seconds(samples)) > _MAX_CLIPPED:
        yield Fault(FaultKind.CLIPPED, f"The sound is clipped for {1000 * clipped:.0f} ms.")
    needed = count_words(speech) / (2 * FAST_PACE)
    if needed and (heard := audible_seconds(samples)) < needed:
        yield Fault(FaultKind.SILENT, f"Somebody should speak, but only {heard:.1f} s of the sound are audible.")


def clipped_seconds(samples: np.ndarray) -> float:
    """Time in which at least three samples in a row are at the upper or the lower end of the range."""
    total = 0
    for at_end in (samples >= _FULL, samples <= -_FULL):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], at_end.astype(np.int8), [0]])))
        lengths = edges[1::2] - edges[::2]
        total += int(lengths[lengths >= _RUN].sum())
    return total / SAMPLE_RATE


def audible_seconds(samples: np.ndarray) -> float:
    """Time in which the sound is loud enough for a voice."""
    whole = samples[: len(samples) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    return float((np.sqrt(np.square(whole).mean(-1)) > _AUDIBLE).sum() * _BLOCK / SAMPLE_RATE)
