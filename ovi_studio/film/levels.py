"""One loudness for all shots of a film (ITU-R BS.1770), without clipping."""

import numpy as np

from ovi_studio.core.variants import SAMPLE_RATE
from ovi_studio.takes.loudness import measure_loudness

LOUDNESS = -20.0
"""LUFS. Within the range of speech in online video (-24 to -16); most clips reach it without being limited."""
MAX_GAIN = 12.0
"""Decibels; a shot that is quieter than this allows is quiet on purpose, and more would lift its noise."""
CEILING = 10 ** (-1 / 20)
"""Highest sample; AAC overshoots by up to a decibel."""
_LOOK_AHEAD = SAMPLE_RATE // 200


def shot_gain(samples: np.ndarray, loudness: float = LOUDNESS) -> float:
    """Decibels that bring float32 (N,) to a loudness, at most `MAX_GAIN`; 0 for silence. Raises `JobError`."""
    found = measure_loudness(samples)
    return 0.0 if found == float("-inf") else min(MAX_GAIN, loudness - found)


def amplify(samples: np.ndarray, gain: float) -> np.ndarray:
    """Apply a gain in decibels to float32 (N,), and turn the volume down around samples above `CEILING`."""
    louder = samples * np.float32(10 ** (gain / 20))
    needed = CEILING / np.maximum(np.abs(louder), CEILING)
    if needed.min(initial=1) >= 1:
        return louder
    # The mean over minima that all contain the peak is no more than what the peak needs.
    for reduce in (np.min, np.mean):
        padded = np.pad(needed, _LOOK_AHEAD, mode="edge")
        needed = reduce(np.lib.stride_tricks.sliding_window_view(padded, 2 * _LOOK_AHEAD + 1), axis=-1)
    return (louder * needed).astype(np.float32)
