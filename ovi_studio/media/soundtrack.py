"""What a clip's sound looks like: peaks for a waveform, a spectrogram, and the loudness of the band of voices.

Everything is computed from the mp4's own sound. Nothing here imports torch.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import SAMPLE_RATE

MAX_SECONDS = 900.0
"""Sound after this is not read, which bounds memory (58 MB) and time for files that somebody else put there."""
MAX_COLUMNS = 1200
COLUMNS_PER_SECOND = 100
BANDS = 80
"""Rows of a spectrogram, equally spaced on the mel scale from 0 Hz to half the sample rate."""
DECIBELS = 70
"""What a spectrogram and a loudness show below their loudest value."""
_SILENCE = -80.0
"""Decibels of a full-scale sine; a clip whose loudest column is below has nothing to show."""
_WINDOW = 1024
_MAX_WINDOWS = 8
"""Windows that are averaged in a column; in long clips a column is longer than all of them."""
_VOICE = (150.0, 4000.0)
"""Hertz; where nearly all energy of speech is."""


@dataclass(frozen=True)
class Soundtrack:
    """The sound of one clip in `N` columns of equal duration."""

    seconds: float
    peaks: np.ndarray
    """int8 (N, 2): the lowest and the highest sample of each column, -127 to 127."""
    spectrogram: np.ndarray
    """uint8 (BANDS, N): 255 is the loudest, 0 is `DECIBELS` or more below it; the highest band comes first."""
    voice: np.ndarray
    """uint8 (N,): the loudness between 150 and 4000 Hz, on the same scale."""


def read_soundtrack(path: Path) -> Soundtrack:
    """Analyse the sound of an mp4; raises `JobError` if it has none or cannot be decoded."""
    return analyse(read_samples(path))


def analyse(samples: np.ndarray) -> Soundtrack:
    """Analyse sound: float32 (S,) in [-1, 1], mono, `SAMPLE_RATE` a second. Raises `JobError` without samples."""
    if not len(samples):
        raise JobError("The clip has no sound.")
    samples = np.nan_to_num(samples)
    seconds = len(samples) / SAMPLE_RATE
    count = max(1, min(MAX_COLUMNS, math.ceil(seconds * COLUMNS_PER_SECOND)))
    edges = np.linspace(0, len(samples), count + 1).astype(int)
    starts = np.minimum(edges[:-1], len(samples) - 1)
    peaks = np.stack([np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)], -1)
    power = _column_power(samples, edges)
    bands = power @ _mel_filters().T
    frequencies = np.fft.rfftfreq(_WINDOW, 1 / SAMPLE_RATE)
    voice = power[:, (frequencies >= _VOICE[0]) & (frequencies <= _VOICE[1])].sum(-1)
    return Soundtrack(
        seconds=seconds,
        peaks=np.round(127 * np.clip(peaks, -1, 1)).astype(np.int8),
        spectrogram=_levels(bands).T[::-1],
        voice=_levels(voice),
    )


def read_samples(path: Path) -> np.ndarray:
    """The sound of an mp4 as float32 (S,), mono, `SAMPLE_RATE` a second; empty if its track is.

    Raises `JobError` if it has no sound or cannot be decoded.
    """
    try:
        with path.open("rb") as file, av.open(file, "r", format="mp4", metadata_errors="replace") as container:
            if not container.streams.audio:
                raise JobError("The clip has no sound.")
            stream = container.streams.audio[0]
            # The last block of the stream is padded with silence; its duration is the true one.
            seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else MAX_SECONDS
            limit = round(min(seconds, MAX_SECONDS) * SAMPLE_RATE)
            resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
            found, length = [], 0
            for frame in container.decode(audio=0):
                parts = [part.to_ndarray()[0] for part in resampler.resample(frame)]
                found += parts
                length += sum(map(len, parts))
                if length >= limit:
                    break
            found += [part.to_ndarray()[0] for part in resampler.resample(None)]
    except (av.FFmpegError, OSError, IndexError, ValueError) as error:
        raise JobError(f"The sound of {path.name} cannot be decoded; the file is broken.") from error
    return np.concatenate(found)[:limit] if found else np.zeros(0, np.float32)


def _column_power(samples: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Power spectrum of each column: (N, _WINDOW // 2 + 1), relative to a full-scale sine in one bin."""
    longest = int(np.diff(edges).max())
    windows = max(1, min(_MAX_WINDOWS, math.ceil(longest / _WINDOW)))
    padded = np.pad(samples, _WINDOW // 2)
    offsets = np.arange(_WINDOW)
    hann = np.hanning(_WINDOW).astype(np.float32)
    total = np.zeros((len(edges) - 1, _WINDOW // 2 + 1), np.float32)
    for number in range(windows):
        # The padding moves a window's start to where its centre was.
        centres = edges[:-1] + np.diff(edges) * (2 * number + 1) // (2 * windows)
        spectra = np.fft.rfft(padded[centres[:, None] + offsets] * hann)
        total += np.abs(spectra).astype(np.float32) ** 2
    return total / windows / (hann.sum() / 2) ** 2


def _mel_filters() -> np.ndarray:
    """Triangular filters (BANDS, _WINDOW // 2 + 1), whose centres are equally spaced on the mel scale."""
    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(_WINDOW, 1 / SAMPLE_RATE)
    rising = (bins - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    falling = (corners[2:, None] - bins) / (corners[2:] - corners[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def _levels(power: np.ndarray) -> np.ndarray:
    decibels = 10 * np.log10(np.maximum(power, 1e-20))
    loudest = float(decibels.max())
    if loudest < _SILENCE:
        return np.zeros(power.shape, np.uint8)
    return np.round(255 * np.clip(1 + (decibels - loudest) / DECIBELS, 0, 1)).astype(np.uint8)
