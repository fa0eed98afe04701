"""Log mel spectrograms at 16 kHz as the audio VAE and the vocoder of MMAudio were trained on them."""

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLE_RATE = 16_000
WINDOW = 1024
HOP = 256
NUM_MELS = 80
FLOOR = 1e-5
"""Smaller magnitudes count as silence."""


def mel_spectrogram(waveform: Tensor) -> Tensor:
    """Waveform (B, samples) at 16 kHz -> log10 mel magnitudes (B, 80, samples // 256) in float32.

    Samples are clipped to [-1, 1]; at least 385 are needed. The ends are mirrored, and frame i is centred on
    sample 256 i + 128. Constants of MMAudio (arXiv 2412.15322), from Make-An-Audio 2 (arXiv 2305.18474).
    """
    margin = (WINDOW - HOP) // 2
    padded = F.pad(waveform.float().clamp(-1, 1), (margin, margin), mode="reflect")
    window = torch.hann_window(WINDOW, device=padded.device)
    spectrum = torch.stft(padded, WINDOW, HOP, window=window, center=False, return_complex=True)
    # Added inside the root, so that the gradient at silence stays finite.
    magnitude = (torch.view_as_real(spectrum).square().sum(-1) + 1e-9).sqrt()
    bands = mel_filterbank().to(padded.device) @ magnitude
    return bands.clamp(min=FLOOR).log10()


@functools.cache
def mel_filterbank() -> Tensor:
    """Triangular filters (80, 513) of unit area from 0 to 8 kHz, as in Slaney's Auditory Toolbox (1998)."""
    bins = np.linspace(0, SAMPLE_RATE / 2, WINDOW // 2 + 1)
    edges = _mel_to_hz(np.linspace(0, _hz_to_mel(SAMPLE_RATE / 2), NUM_MELS + 2))[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    filters = np.maximum(triangles, 0) * 2 / (high - low)
    return torch.from_numpy(filters.astype(np.float32))


# Slaney's scale is linear up to 1 kHz, 15 mels, and logarithmic above: 27 mels for a factor of 6.4.
_HZ_PER_MEL = 200 / 3
_KNEE_HZ, _KNEE_MEL = 1000.0, 15.0
_LOG_STEP = np.log(6.4) / 27


def _hz_to_mel(hz: float) -> float:
    return hz / _HZ_PER_MEL if hz < _KNEE_HZ else _KNEE_MEL + np.log(hz / _KNEE_HZ) / _LOG_STEP


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < _KNEE_MEL, mel * _HZ_PER_MEL, _KNEE_HZ * np.exp((mel - _KNEE_MEL) * _LOG_STEP))
