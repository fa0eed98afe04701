"""What can be heard in a clip of a scene: the kind of sound, its pitch, and when something hits.

Plain measurements of levels and spectra, no learned model, made for sound that went through codecs or out of a small
generative model. A sound that should last must last for most of the clip. Samples are float32 (N,), `SAMPLE_RATE` a
second. Nothing here imports torch.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from ovi_studio.core.variants import SAMPLE_RATE

_WINDOW = 1024
_HOP = 512
_SILENT = 0.012
"""Root mean square below which a moment is silent; scenes are 0.08 and more."""
_LASTING = 0.85
"""Part of the moments in which a lasting sound is heard."""
_BLOCK = 80
"""Samples of a step of the envelope, 5 ms."""
_BURST = 0.3
"""Of the loudest moment: what is louder is a burst."""
_MAX_BUSY = 0.3
"""Part of the time that hits may fill; those of scenes fill a tenth."""
_APART = 0.2
"""Seconds between two hits; a shorter time is one."""
_MIN_TONAL = 0.6
"""Part of the energy that a tone has at its pitch and overtones."""
_PITCHES = (100.0, 3000.0)
_STEADY = 3.0
"""Semitones within which a steady tone stays."""
_LEAP = 5.0
"""Semitones from one moment to the next that no gliding tone makes; one that goes in small steps is gliding."""
_WIND_TOP = 2000.0
"""Hertz below which most of the wind is."""


class SoundKind(StrEnum):
    """Kinds of sound that can be told without seeing the picture."""

    SILENCE = "silence"
    HITS = "hits"
    STEADY_TONE = "steady tone"
    GLIDING_TONE = "gliding tone"
    WIND = "wind"


@dataclass(frozen=True, eq=False)
class AudioMeasurement:
    """What was heard."""

    kind: SoundKind | None
    """None: none of the scenes' kinds."""
    pitch: float | None
    """Hertz, median; None if it is no tone."""
    pitches: np.ndarray
    """Hertz at `times`; NaN where no tone is heard."""
    times: np.ndarray
    """Seconds, the middle of each moment that was measured."""
    hits: np.ndarray
    """Seconds at which hits begin; empty for other kinds."""


def measure_audio(samples: np.ndarray) -> AudioMeasurement:
    """Measure samples; fewer than a few hundred milliseconds are silence."""
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
    """By how many semitones a pitch is higher than another."""
    return 12 * np.log2(np.asarray(pitch) / reference)


def _hits(samples: np.ndarray) -> np.ndarray:
    """Seconds at which short bursts begin; empty if the sound is anything but such bursts."""
    cut = samples[: len(samples) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    envelope = np.sqrt(np.square(cut).mean(axis=1))
    loud = envelope > _BURST * np.partition(envelope, -3)[-3]
    if loud.mean() > _MAX_BUSY:
        return np.empty(0)
    gap = round(_APART * SAMPLE_RATE / _BLOCK)
    starts, ends = [], []
    for block in np.flatnonzero(loud):
        if ends and block - ends[-1] < gap:
            ends[-1] = block
        else:
            starts.append(block)
            ends.append(block)
    for start, end in zip(starts, ends, strict=True):
        # What hits is loudest at once and dies away; the other way round it is a sound played backwards.
        loudest = start + int(envelope[start : end + 1].argmax())
        if loudest - start > max(4, 0.6 * (end - start)):
            return np.empty(0)
    return np.array([_onset(envelope, start) for start in starts])


def _onset(envelope: np.ndarray, start: int) -> float:
    """Where the envelope begins to rise before the block `start`, in seconds."""
    peak = envelope[start : start + 5].max()
    begin = start
    while begin > 0 and start - begin < 4 and envelope[begin - 1] > 0.1 * peak:
        begin -= 1
    # A hit somewhere within a block makes it only partly loud.
    filled = min(1.0, (envelope[begin] / peak) ** 2)
    return float((begin + 1 - filled) * _BLOCK / SAMPLE_RATE)


def _pitches(power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pitch of each moment in hertz, and the part of the energy at it and its first overtones."""
    step = SAMPLE_RATE / _WINDOW
    low, high = (round(pitch / step) for pitch in _PITCHES)
    peak = low + power[:, low:high].argmax(axis=1)
    moments = np.arange(len(power))
    left, middle, right = (np.log(power[moments, peak + offset] + 1e-12) for offset in (-1, 0, 1))
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
    # A tone that glides has nearly the same pitch a moment later; a sequence of notes has not.
    jumps = np.abs(semitones(heard[1:], heard[:-1]))
    return SoundKind.GLIDING_TONE if np.percentile(jumps, 90) < _LEAP else None


def _is_wind(power: np.ndarray, tonal: np.ndarray) -> bool:
    below = power[:, : round(_WIND_TOP * _WINDOW / SAMPLE_RATE)].sum() / power.sum()
    return bool(below > 0.6 and np.median(tonal) < _MIN_TONAL)
