"""The sound of a room in which nobody speaks: noise with the spectrum of the quietest moments of shots."""

import numpy as np

_WINDOW = 1024
_QUIETEST = 0.1
"""Fraction of the windows that count as the room."""
_SILENT = 1e-7
"""Mean power (-70 dBFS) below which a window is digital silence and not a room."""


def room_spectrum(samples: np.ndarray) -> np.ndarray:
    """Power spectrum (W,) of the room in float32 (N,): 1 everywhere for noise of power 1; zeros for silence."""
    padded = np.pad(samples, (0, max(0, _WINDOW - len(samples))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[:: _WINDOW // 2]
    power = np.square(windows).mean(-1)
    audible = windows[power > _SILENT]
    if not len(audible):
        return np.zeros(_WINDOW // 2 + 1)
    order = np.argsort(power[power > _SILENT], kind="stable")
    quiet = audible[order[: max(1, round(_QUIETEST * len(order)))]]
    hann = np.hanning(_WINDOW)
    return (np.abs(np.fft.rfft(quiet * hann)) ** 2).mean(0) / np.square(hann).sum()


def make_tone(spectrum: np.ndarray, length: int, seed: int) -> np.ndarray:
    """Noise with this power spectrum, float32 (length,); the same seed gives the same noise."""
    white = np.random.default_rng(seed).standard_normal(max(length, _WINDOW))
    coloured = np.fft.rfft(white)
    frequencies = np.linspace(0, 1, len(coloured))
    coloured *= np.sqrt(np.interp(frequencies, np.linspace(0, 1, len(spectrum)), spectrum))
    return np.fft.irfft(coloured, len(white))[:length].astype(np.float32)
