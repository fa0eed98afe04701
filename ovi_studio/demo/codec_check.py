"""What the codecs of a bundle keep of scenes: video VAE there and back, audio VAE and vocoder there and back.

The other side of the evaluation: no clip can be better than this. Scenes are held out ones, which no codec was trained
on either.
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
    """How far one scene is from itself after the codecs."""

    psnr: float
    """Decibels, over all frames."""
    worst_psnr: float
    """Of the worst frame."""
    mel_distance: float
    """Mean absolute difference of log10 mel magnitudes, after the audio VAE alone; 0.05 is a decibel."""
    sound_distance: float
    """The same for the spectrogram of what the vocoder makes of it."""


@torch.no_grad()
def reconstruct(
    pipeline: Pipeline, frames: np.ndarray, samples: np.ndarray
) -> tuple[np.ndarray, np.ndarray, CodecDistances]:
    """Frames, uint8 (T, H, W, 3), and samples, float32 (N,), through the codecs of a bundle, and the distances."""
    models, device = pipeline.models, pipeline.compute.device
    latents = video_vae.encode(models.video_vae, from_bytes(frames).to(device))[0]
    decoded = video_vae.decode_whole(models.video_vae, latents)
    after = to_bytes(decoded)
    errors = np.square(after.astype(np.float32) - frames).mean(axis=(1, 2, 3))
    mel = _mel(samples).to(device)
    latents = models.audio_vae.encode(mel)
    sound = pipeline.decode_audio(latents[0].T)
    distances = [
        float((other.cpu() - mel.cpu()).abs().mean())
        for other in (models.audio_vae.decode(latents), _mel(sound.numpy()))
    ]
    codecs = CodecDistances(_psnr(errors.mean()), _psnr(errors.max()), *distances)
    return after, sound.numpy(), codecs


def check_codecs(pipeline: Pipeline, count: int) -> Iterator[dict[str, Any]]:
    """Rows for `count` scenes, with the judges' verdict on what came back."""
    for prompt in _held_out(count):
        frames, samples, codecs = reconstruct(pipeline, render(prompt.scene), synthesise(prompt.scene))
        verdict = verdict_row(measure(frames, samples), prompt.scene)
        yield {"setting": "codecs", "prompt": prompt.index, "held_out": True, **asdict(codecs), **verdict}


def summary(rows: list[dict[str, Any]]) -> str:
    """Means over the scenes, as sentences."""
    psnr, mel, sound = (np.mean([row[name] for row in rows]) for name in ("psnr", "mel_distance", "sound_distance"))
    worst = min(row["worst_psnr"] for row in rows)
    return (
        f"Video VAE: {psnr:.1f} dB on average, {worst:.1f} dB in the worst frame of {len(rows)} scenes. "
        f"Log10 mel distance: {mel:.3f} after the audio VAE, {sound:.3f} after the vocoder too."
    )


def _held_out(count: int) -> list[EvaluationPrompt]:
    return [prompt for prompt in prompts(2 * count) if prompt.held_out]


def _mel(samples: np.ndarray) -> Tensor:
    whole = len(samples) // SAMPLES_PER_LATENT * SAMPLES_PER_LATENT
    return mel_spectrogram(torch.from_numpy(samples[:whole]).unsqueeze(0))


def _psnr(error: float) -> float:
    return float(10 * np.log10(255**2 / max(error, 1e-9)))
