"""Measure the sound of a scene: its kind, its pitch, and the times of impacts.

Plain measurements of levels and spectra without a learned model, for sound that went through codecs or comes from a
small generative model. A continuous sound must last for most of the clip. Samples are float32 (N,) at `SAMPLE_RATE`.
Imports no torch.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from ovi_studio.core.variants import SAMPLE_RATE

_WINDOW = 1024
_HOP = 512
_SILENT = 0.012
"""Root mean square below which a window is silent; scenes have at least 0.08."""
_LASTING = 0.85
"""Fraction of the windows in which a continuous sound must be heard."""
_BLOCK = 80
"""Samples per value of the envelope, 5 ms."""
_BURST = 0.3
"""Level of a burst, relative to the loudest blocks."""
_MAX_BUSY = 0.3
"""Maximum fraction of the time filled by hits; those of scenes fill a tenth."""
_APART = 0.2
"""Minimum seconds between two hits; closer ones count as one."""
_MIN_TONAL = 0.6
"""Minimum fraction of a tone's energy at its pitch and overtones."""
_PITCHES = (100.0, 3000.0)
"""Lowest and highest pitch in hertz."""
_STEADY = 3.0
"""Maximum range of a steady tone in semitones."""
_LEAP = 5.0
"""Semitones between two windows that exceed a gliding tone; a tone that moves in small steps counts as gliding."""
_WIND_TOP = 2000.0
"""Hertz below which most of the energy of wind lies."""


class SoundKind(StrEnum):
    """Kinds of sound that can be recognised without the picture."""

    SILENCE = "silence"
    HITS = "hits"
    STEADY_TONE = "steady tone"
    GLIDING_TONE = "gliding tone"
    WIND = "wind"


@dataclass(frozen=True, eq=False)
class AudioMeasurement:
    """What a clip sounds like."""

    kind: SoundKind | None
    """Kind of the sound, None if it is none of the scenes' kinds."""
    pitch: float | None
    """Median pitch in hertz, None if the sound is not a tone."""
    pitches: np.ndarray
    """Pitch in hertz at `times`; NaN where no tone is heard."""
    times: np.ndarray
    """Centres of the measured windows in seconds."""
    hits: np.ndarray
    """Times in seconds at which hits start; empty for other kinds."""


def measure_audio(samples: np.ndarray) -> AudioMeasurement:
    """Measure samples, padded with silence to at least a quarter of a second."""
    if len(samples) < 4 * _WINDOW:
        samples = np.pad(samples, (0, 4 * _WINDOW - len(samples)))
    blocks = np.lib.stride_tricks.sliding_window_view(np.asarray(samples, np.float32), _WINDOW)[::_HOP]
    times = (np.arange(len(blocks)) * _HOP + _WINDOW / 2) / SAMPLE_RATE
    levels = np.sqrt(np.square(blocks).mean(axis=1))
    audible = levels > _SILENT
    nothing = np.full(len(blocks), np.nan)
    if audible.mean() < 0.05:
        return AudioMeasurement(SoundKind.SILENCE, None, nothing, times, np.empty(0))
    if len(hits := _hits(samples)):
        return AudioMeasurement(SoundKind.HITS, None, nothing, times, hits)
    power = np.square(np.abs(np.fft.rfft(blocks * np.hanning(_WINDOW).astype(np.float32), axis=1)))
    pitches, tonal = _pitches(power)
    pitches = np.where(audible & (tonal > _MIN_TONAL), pitches, np.nan)
    kind, pitch = None, None
    if np.isfinite(pitches).mean() > _LASTING:
        kind, pitch = _kind_of_tone(pitches), float(np.nanmedian(pitches))
    elif audible.mean() > _LASTING and _is_wind(power, tonal):
        kind = SoundKind.WIND
    return AudioMeasurement(kind, pitch, pitches, times, np.empty(0))


def semitones(pitch: np.ndarray | float, reference: np.ndarray | float) -> np.ndarray:
    """Return by how many semitones a pitch is above the reference."""
    return 12 * np.log2(np.asarray(pitch) / reference)


def _hits(samples: np.ndarray) -> np.ndarray:
    """Return the times in seconds at which short bursts start; empty if the sound is anything but such bursts."""
    cut = samples[: len(samples) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    envelope = np.sqrt(np.square(cut).mean(axis=1))
    loud = envelope > _BURST * np.partition(envelope, -3)[-3]
    if loud.mean() > _MAX_BUSY:
        return np.empty(0)
    gap = round(_APART * SAMPLE_RATE / _BLOCK)
    starts: list[int] = []
    ends: list[int] = []
    for block in np.flatnonzero(loud).tolist():
        if ends and block - ends[-1] < gap:
            ends[-1] = block
        else:
            starts.append(block)
            ends.append(block)
    for start, end in zip(starts, ends, strict=True):
        # A hit is loudest at its start and decays; otherwise the sound is played backwards.
        loudest = start + int(envelope[start : end + 1].argmax())
        if loudest - start > max(4, 0.6 * (end - start)):
            return np.empty(0)
    return np.array([_onset(envelope, start) for start in starts])


def _onset(envelope: np.ndarray, start: int) -> float:
    """Return the time in seconds at which the envelope starts to rise before the block `start`."""
    peak = envelope[start : start + 5].max()
    begin = start
    while begin > 0 and start - begin < 4 and envelope[begin - 1] > 0.1 * peak:
        begin -= 1
    # A hit that starts within a block fills only a part of it.
    filled = min(1.0, (envelope[begin] / peak) ** 2)
    return float((begin + 1 - filled) * _BLOCK / SAMPLE_RATE)


def _pitches(power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pitch of each window in hertz, and the fraction of the energy at it and its first overtones."""
    step = SAMPLE_RATE / _WINDOW
    low, high = (round(pitch / step) for pitch in _PITCHES)
    peak = low + power[:, low:high].argmax(axis=1)
    windows = np.arange(len(power))
    left, middle, right = (np.log(power[windows, peak + offset] + 1e-12) for offset in (-1, 0, 1))
    curvature = np.minimum(left - 2 * middle + right, -1e-6)
    pitches = (peak + np.clip(0.5 * (left - right) / curvature, -0.5, 0.5)) * step
    frequencies = np.arange(power.shape[1]) * step
    overtone = np.arange(1, 4)[:, None, None]
    near = np.abs(frequencies - overtone * pitches[:, None]) < 2.5 * step + 0.03 * overtone * pitches[:, None]
    tonal = (power * near.any(axis=0)).sum(axis=1) / np.maximum(power.sum(axis=1), 1e-9)
    return pitches, tonal


def _kind_of_tone(pitches: np.ndarray) -> SoundKind | None:
    heard = pitches[np.isfinite(pitches)]
    low, high = np.percentile(heard, (5, 95))
    if semitones(high, low) < _STEADY:
        return SoundKind.STEADY_TONE
    # A gliding tone has nearly the same pitch in the next window; a sequence of notes has not.
    jumps = np.abs(semitones(heard[1:], heard[:-1]))
    return SoundKind.GLIDING_TONE if np.percentile(jumps, 90) < _LEAP else None


def _is_wind(power: np.ndarray, tonal: np.ndarray) -> bool:
    below = power[:, : round(_WIND_TOP * _WINDOW / SAMPLE_RATE)].sum() / power.sum()
    return bool(below > 0.6 and np.median(tonal) < _MIN_TONAL)
