"""Training of the embedded model's codecs on scenes: video VAE, audio VAE and vocoder, each from scratch.

Both VAEs are trained with noise added to their latents, whose size is kept near 1: the transformer's latents are never
exact, and the decoders must tolerate that.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from ovi_studio.demo.drawing import LATENT_NOISE, draw
from ovi_studio.demo.fit import NamedLosses, TrainingBudget, fit
from ovi_studio.demo.scenes import FRAMES, Scene, Sound, draw_scene, render, synthesise
from ovi_studio.demo.sheets import SheetRow
from ovi_studio.models.audio_vae import AudioVAE, MPConv1d
from ovi_studio.models.mel import HOP, mel_spectrogram
from ovi_studio.models.video_vae import decode_whole, encode, from_bytes, to_bytes
from ovi_studio.models.vocoder import Vocoder

LATENT_PENALTY = 2e-3
_WINDOWS = ((300, 8, 5), (450, 4, 9), (None, 2, 17))
"""(last step, scenes, frames): many short windows at first, long ones in the end."""
_AUDIO_BATCH = 8
_VOCODER_BATCH, _VOCODER_FRAMES = 8, 24
_WAVE_WEIGHT = 50.0
_FLOOR = 0.2
"""Magnitude below which differences hardly count; otherwise silence would be the best answer to every tone."""
_TONES = (Sound.LOW_TONE, Sound.HIGH_TONE, Sound.FOLLOWING_TONE)
_SPECTRA = (256, 512, 1024, 2048)
_EXAMPLES = 256
"""Scenes from which the statistics of mel spectrograms are measured."""
_SHOWN = 4
"""Scenes on a sample sheet."""


def train_video_vae(vae: AutoencoderKLWan, budget: TrainingBudget, folder: Path, seed: int) -> None:
    """Train on windows of scenes; afterwards `latent_statistics` gives the numbers that the bundle needs."""
    fit(vae, partial(_video_losses, seed=seed), budget, folder, _video_rows)


def train_audio_vae(vae: AudioVAE, budget: TrainingBudget, folder: Path, seed: int) -> None:
    """Train on log-mel spectrograms of whole scenes, whose statistics become part of the model."""
    random = np.random.default_rng(seed)
    mels = _mel(torch.stack([_wave(_draw_audible_scene(random)) for _ in range(_EXAMPLES)]))
    vae.data_mean.copy_(mels.mean(dim=(0, 2), keepdim=True))
    vae.data_std.copy_(mels.std(dim=(0, 2), keepdim=True).clamp(min=0.1))
    # The forward pass normalises weights anyway; at unit size, an optimizer step rotates them as far as intended.
    for module in vae.modules():
        if isinstance(module, MPConv1d):
            module.weight.data.copy_(module.effective_weight().detach())
    fit(vae, partial(_audio_losses, seed=seed), budget, folder, _audio_rows)
    scale_latents(vae, mels)


@torch.no_grad()
def scale_latents(vae: AudioVAE, mels: Tensor) -> None:
    """Scale latents to unit size, like the noise; the decoder's first norm makes it independent of their size."""
    size = vae.encode(mels.to(vae.data_mean.device)).square().mean().sqrt()
    vae.encoder.learnable_gain.copy_((1 + vae.encoder.learnable_gain) / size - 1)


def train_vocoder(vocoder: Vocoder, audio_vae: AudioVAE, budget: TrainingBudget, folder: Path, seed: int) -> None:
    """Train on original spectrograms and on those reconstructed by the audio VAE."""
    audio_vae.eval().requires_grad_(False)
    losses = partial(_vocoder_losses, audio_vae=audio_vae, seed=seed)
    fit(vocoder, losses, budget, folder, partial(_vocoder_rows, audio_vae=audio_vae))


def latent_statistics(latents: Tensor) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each channel of (clips, channels, frames, height, width)."""
    mean, std = latents.mean(dim=(0, 2, 3, 4)), latents.std(dim=(0, 2, 3, 4))
    return [round(value, 5) for value in mean.tolist()], [round(value, 5) for value in std.tolist()]


def _video_losses(vae: AutoencoderKLWan, step: int, *, seed: int) -> NamedLosses:
    count, length = next((count, length) for until, count, length in _WINDOWS if until is None or step < until)
    video = _windows(vae, step, seed, count, length)
    latents = vae.encode(video).latent_dist.mode()
    return {**_reconstruction(vae, latents, video, step), "size": LATENT_PENALTY * latents.square().mean()}


def _reconstruction(vae: AutoencoderKLWan, latents: Tensor, video: Tensor, step: int) -> NamedLosses:
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(step)).to(latents)
    difference = draw(vae, latents + LATENT_NOISE * noise) - video
    return {"square": difference.square().mean(), "absolute": 0.2 * difference.abs().mean()}


def _windows(vae: nn.Module, step: int, seed: int, count: int, length: int) -> Tensor:
    random = np.random.default_rng([seed, step])
    return torch.cat([_window(random, length) for _ in range(count)]).to(next(vae.parameters()).device)


def _window(random: np.random.Generator, length: int) -> Tensor:
    """Draw a scene and return `length` consecutive frames."""
    start = int(random.integers(FRAMES - length + 1))
    return from_bytes(render(draw_scene(random), slice(start, start + length)))


def _audio_losses(vae: AudioVAE, step: int, *, seed: int) -> NamedLosses:
    random = np.random.default_rng([seed, step])
    device = vae.data_mean.device
    mel = _mel(torch.stack([_wave(_draw_audible_scene(random)) for _ in range(_AUDIO_BATCH)])).to(device)
    latents = vae.encode(mel)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(step)).to(latents)
    difference = (vae.decode(latents + LATENT_NOISE * noise) - mel) / vae.data_std
    return {
        "absolute": difference.abs().mean(),
        "square": difference.square().mean(),
        "size": LATENT_PENALTY * latents.square().mean(),
    }


def _vocoder_losses(vocoder: nn.Module, step: int, *, audio_vae: AudioVAE, seed: int) -> NamedLosses:
    random = np.random.default_rng([seed, step])
    device = next(vocoder.parameters()).device
    audio_vae = audio_vae.to(device)
    scenes = [_draw_audible_scene(random) for _ in range(_VOCODER_BATCH)]
    waves = torch.stack([_wave(scene) for scene in scenes])
    mels = _mel(waves).to(device)
    if step % 2:
        with torch.no_grad():
            mels = audio_vae.decode(audio_vae.encode(mels))
    starts = random.integers(0, mels.shape[-1] - _VOCODER_FRAMES + 1, _VOCODER_BATCH)
    spans = [slice(start, start + _VOCODER_FRAMES) for start in starts]
    mel = torch.stack([row[:, span] for row, span in zip(mels, spans, strict=True)])
    made = vocoder(mel).squeeze(1)
    real = torch.stack([row[span.start * HOP : span.stop * HOP] for row, span in zip(waves, spans, strict=True)])
    real = real.to(device)
    # Magnitudes alone hardly lead from silence to a tone. The phase of a tone follows from its spectrogram; that of
    # noise cannot be learned.
    tonal = torch.tensor([scene.sound in _TONES for scene in scenes], device=device)
    wave = ((made - real).square().mean(dim=1) * tonal).mean()
    return {"spectra": _spectral_distance(made, real), "wave": _WAVE_WEIGHT * wave}


def _spectral_distance(made: Tensor, real: Tensor) -> Tensor:
    """Compare magnitudes and log magnitudes at several resolutions (multi-resolution STFT loss, arXiv 1910.11480)."""
    total = made.new_zeros(())
    for size in _SPECTRA:
        window = torch.hann_window(size, device=made.device)
        ours, theirs = (
            torch.view_as_real(torch.stft(wave, size, size // 4, window=window, return_complex=True))
            .square()
            .sum(-1)
            .add(1e-7)
            .sqrt()
            for wave in (made, real)
        )
        total = (
            total
            + ((ours + _FLOOR).log() - (theirs + _FLOOR).log()).abs().mean()
            + (ours - theirs).norm() / (theirs.norm() + 1)
        )
    return total / len(_SPECTRA)


# Sample sheets: each scene, followed by the model's reconstruction


def _video_rows(vae: AutoencoderKLWan) -> list[SheetRow]:
    rows = []
    for scene in _shown_scenes(draw_scene):
        frames = render(scene)
        latents = encode(vae, from_bytes(frames).to(next(vae.parameters()).device))[0]
        # The refiner is trained by itself, later.
        decoded = decode_whole(vae, latents, refined=False)
        rows += [SheetRow(_title(scene), frames), SheetRow("encoded and decoded", to_bytes(decoded))]
    return rows


def _audio_rows(vae: AudioVAE) -> list[SheetRow]:
    rows = []
    for scene in _shown_scenes(_draw_audible_scene):
        mel = _mel(_wave(scene).unsqueeze(0)).to(vae.data_mean.device)
        rows += [
            SheetRow(_title(scene), mel=mel[0]),
            SheetRow("encoded and decoded", mel=vae.decode(vae.encode(mel))[0]),
        ]
    return rows


def _vocoder_rows(vocoder: nn.Module, *, audio_vae: AudioVAE) -> list[SheetRow]:
    rows = []
    for scene in _shown_scenes(_draw_audible_scene):
        mel = _mel(_wave(scene).unsqueeze(0)).to(next(vocoder.parameters()).device)
        coded = audio_vae.to(mel.device).decode(audio_vae.encode(mel))
        original, decoded = (_mel(vocoder(each)[:, 0])[0] for each in (mel, coded))
        rows += [SheetRow(_title(scene), mel=mel[0]), SheetRow("vocoder, from this spectrogram", mel=original)]
        rows += [SheetRow("vocoder, from the audio VAE's spectrogram", mel=decoded)]
    return rows


def _shown_scenes(draw: Callable[[np.random.Generator], Scene]) -> list[Scene]:
    """Draw the scenes of a sample sheet, the same for every sheet."""
    random = np.random.default_rng(_SHOWN)
    return [draw(random) for _ in range(_SHOWN)]


def _title(scene: Scene) -> str:
    return f"{scene.colour} {scene.shape}, {scene.background}, {scene.motion}, {scene.sound}"


def _draw_audible_scene(random: np.random.Generator) -> Scene:
    """Draw a scene with more impacts and tones than usual, which are harder than wind and silence."""
    while True:
        scene = draw_scene(random)
        if scene.sound in (Sound.IMPACT, *_TONES) or random.random() < 0.5:
            return scene


def _wave(scene: Scene) -> Tensor:
    return torch.from_numpy(synthesise(scene))


def _mel(waves: Tensor) -> Tensor:
    """Return log-mel spectrograms (clips, 80, an even number of frames) of waveforms (clips, samples)."""
    mel = mel_spectrogram(waves)
    return mel[..., : mel.shape[-1] // 2 * 2]
