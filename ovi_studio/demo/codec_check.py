"""Measure how well the codecs of a bundle reconstruct scenes: the video VAE, and the audio VAE with the vocoder.

This is an upper bound for the evaluation: no clip can be better than its codecs. The scenes are held out, so no codec
was trained on them either.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ovi_studio.core.variants import SAMPLES_PER_LATENT
from ovi_studio.demo.evaluate import EvaluationPrompt, prompts, verdict_row
from ovi_studio.demo.judges import measure
from ovi_studio.demo.scenes import render, synthesise
from ovi_studio.models import video_vae
from ovi_studio.models.mel import mel_spectrogram
from ovi_studio.models.video_vae import from_bytes, to_bytes
from ovi_studio.runtime.pipeline import Pipeline


@dataclass(frozen=True)
class CodecDistances:
    """Reconstruction errors of one scene."""

    psnr: float
    """Decibels, over all frames."""
    worst_psnr: float
    """Decibels of the worst frame."""
    mel_distance: float
    """Mean absolute difference of log10 mel magnitudes after the audio VAE alone; 0.05 is a decibel."""
    sound_distance: float
    """Mean absolute difference of log10 mel magnitudes after audio VAE and vocoder."""


@torch.no_grad()
def reconstruct(
    pipeline: Pipeline, frames: np.ndarray, samples: np.ndarray
) -> tuple[np.ndarray, np.ndarray, CodecDistances]:
    """Encode and decode frames, uint8 (T, H, W, 3), and samples, float32 (N,); returns both and the errors."""
    models, device = pipeline.models, pipeline.compute.device
    latents = video_vae.encode(models.video_vae, from_bytes(frames).to(device))[0]
    decoded = video_vae.decode_whole(models.video_vae, latents)
    after = to_bytes(decoded)
    errors = np.square(after.astype(np.float32) - frames).mean(axis=(1, 2, 3))
    mel = log_mel(samples).to(device)
    latents = models.audio_vae.encode(mel)
    sound = pipeline.decoder.audio(latents[0].T)
    distances = [
        float((other.cpu() - mel.cpu()).abs().mean())
        for other in (models.audio_vae.decode(latents), log_mel(sound.numpy()))
    ]
    return after, sound.numpy(), CodecDistances(psnr(errors.mean()), psnr(errors.max()), *distances)


def check_codecs(pipeline: Pipeline, count: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each of `count` scenes, with the judges' verdict on the reconstruction."""
    for prompt in _held_out(count):
        frames, samples, distances = reconstruct(pipeline, render(prompt.scene), synthesise(prompt.scene))
        verdict = verdict_row(measure(frames, samples), prompt.scene)
        yield {"setting": "codecs", "prompt": prompt.index, "held_out": True, **asdict(distances), **verdict}


def summary(rows: list[dict[str, Any]]) -> str:
    """Return the means over the scenes in sentences."""
    psnr, mel, sound = (np.mean([row[name] for row in rows]) for name in ("psnr", "mel_distance", "sound_distance"))
    worst = min(row["worst_psnr"] for row in rows)
    return (
        f"Video VAE: {psnr:.1f} dB on average, {worst:.1f} dB in the worst frame of {len(rows)} scenes. "
        f"Log10 mel distance: {mel:.3f} after the audio VAE, {sound:.3f} after audio VAE and vocoder."
    )


def _held_out(count: int) -> list[EvaluationPrompt]:
    return [prompt for prompt in prompts(2 * count) if prompt.held_out]


def log_mel(samples: np.ndarray) -> Tensor:
    """Return the log10 mel magnitudes of samples, float32 (N,), as the audio VAE takes them."""
    whole = len(samples) // SAMPLES_PER_LATENT * SAMPLES_PER_LATENT
    return mel_spectrogram(torch.from_numpy(samples[:whole]).unsqueeze(0))


def psnr(error: float) -> float:
    """Return decibels for a mean squared error of pixels in units of 1/255."""
    return float(10 * np.log10(255**2 / max(error, 1e-9)))
