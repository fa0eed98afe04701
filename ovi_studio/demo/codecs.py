"""What the codecs of the embedded model learn from scenes: video VAE, audio VAE, vocoder, each from scratch.

Both VAEs learn with noise added to their latents, and latents are kept near unit size: the transformer's latents are
never exact, and the decoders must not mind.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from ovi_studio.demo.fit import Budget, Losses, fit
from ovi_studio.demo.scenes import FRAMES, Scene, Sound, draw_scene, render, synthesise
from ovi_studio.demo.sheets import Row
from ovi_studio.models.audio_vae import AudioVAE, MPConv1d
from ovi_studio.models.mel import HOP, mel_spectrogram
from ovi_studio.models.video_vae import decode_whole, encode, from_bytes, to_bytes
from ovi_studio.models.vocoder import Vocoder

LATENT_NOISE = 0.15
LATENT_PENALTY = 2e-3
_WINDOWS = ((300, 8, 5), (450, 4, 9), (None, 2, 17))
"""Until which step, how many scenes of how many frames: first many short windows, in the end long ones."""
_DECODED_CLIPS = 2
"""Whole clips of a step of the decoder's own training."""
_CONTRAST, _LEAST_CONTRAST, _LARGEST_WEIGHT = 0.03, 0.01, 4.0
"""Of a clip's pixels, in squares of their range of 2: half of what is usual, and what is added to be not too strict."""
_AUDIO_BATCH = 8
_VOCODER_BATCH, _VOCODER_FRAMES = 8, 24
_WAVE_WEIGHT = 50.0
_FLOOR = 0.2
"""Magnitude below which it does not count how quiet a band is; else silence is the best answer to every tone."""
_TONES = (Sound.LOW_TONE, Sound.HIGH_TONE, Sound.FOLLOWING_TONE)
_SPECTRA = (256, 512, 1024, 2048)
_EXAMPLES = 256
_SHOWN = 4
"""Scenes on a sample sheet."""

EncodedClips = Callable[[np.random.Generator], tuple[Tensor, Tensor]]
"""Draws a scene: what the video encoder makes of it (1, channels, frames, height, width), and its pixels."""


def train_video_vae(vae: AutoencoderKLWan, budget: Budget, folder: Path, seed: int) -> None:
    """On windows of scenes; afterwards `latent_statistics` gives the numbers that the bundle needs."""
    fit(vae, partial(_video_losses, seed=seed), budget, folder, _video_rows)


def train_video_decoder(vae: AutoencoderKLWan, clips: EncodedClips, budget: Budget, folder: Path, seed: int) -> None:
    """The decoder alone, on whole scenes, for latents that are settled.

    It is causal and remembers: after short windows alone, its pictures go astray a second into a clip.
    """
    vae.requires_grad_(False)
    vae.decoder.requires_grad_(True)
    vae.post_quant_conv.requires_grad_(True)
    random = np.random.default_rng(seed)
    fixed = [clips(random) for _ in range(_SHOWN)]
    fit(vae, partial(_decoder_losses, clips=clips, seed=seed), budget, folder, partial(_decoder_rows, clips=fixed))


def train_audio_vae(vae: AudioVAE, budget: Budget, folder: Path, seed: int) -> None:
    """On log-mel spectrograms of whole scenes, whose statistics become part of the model."""
    random = np.random.default_rng(seed)
    mels = _mel(torch.stack([_wave(_heard_scene(random)) for _ in range(_EXAMPLES)]))
    vae.data_mean.copy_(mels.mean(dim=(0, 2), keepdim=True))
    vae.data_std.copy_(mels.std(dim=(0, 2), keepdim=True).clamp(min=0.1))
    # The forward pass normalises weights anyway; from unit size an optimiser's steps turn them as far as it intends.
    for module in vae.modules():
        if isinstance(module, MPConv1d):
            module.weight.data.copy_(module.effective_weight().detach())
    fit(vae, partial(_audio_losses, seed=seed), budget, folder, _audio_rows)
    scale_latents(vae, mels)


@torch.no_grad()
def scale_latents(vae: AudioVAE, mels: Tensor) -> None:
    """Bring latents to unit size, which is that of the noise; the decoder's first norm makes it blind to their size."""
    size = vae.encode(mels.to(vae.data_mean.device)).square().mean().sqrt()
    vae.encoder.learnable_gain.copy_((1 + vae.encoder.learnable_gain) / size - 1)


def train_vocoder(vocoder: Vocoder, audio_vae: AudioVAE, budget: Budget, folder: Path, seed: int) -> None:
    """On spectrograms as they are and as the audio VAE gives them back."""
    audio_vae.eval().requires_grad_(False)
    losses = partial(_vocoder_losses, audio_vae=audio_vae, seed=seed)
    fit(vocoder, losses, budget, folder, partial(_vocoder_rows, audio_vae=audio_vae))


def latent_statistics(latents: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of (clips, channels, frames, height, width)."""
    mean, std = latents.mean(dim=(0, 2, 3, 4)), latents.std(dim=(0, 2, 3, 4))
    return [round(value, 5) for value in mean.tolist()], [round(value, 5) for value in std.tolist()]


def _video_losses(vae: nn.Module, step: int, *, seed: int) -> Losses:
    count, length = next((count, length) for until, count, length in _WINDOWS if until is None or step < until)
    video = _windows(vae, step, seed, count, length)
    latents = vae.encode(video).latent_dist.mode()
    return _reconstruction(vae, latents, video, step) | {"size": LATENT_PENALTY * latents.square().mean()}


def _decoder_losses(vae: nn.Module, step: int, *, clips: EncodedClips, seed: int) -> Losses:
    random = np.random.default_rng([seed, step])
    drawn = zip(*(clips(random) for _ in range(_DECODED_CLIPS)), strict=True)
    latents, video = (torch.cat(parts).to(next(vae.parameters()).device) for parts in drawn)
    # Up to what it was before: with that much in every clip, edges stay soft.
    generator = torch.Generator().manual_seed(step)
    size = LATENT_NOISE * torch.rand(len(latents), 1, 1, 1, 1, generator=generator)
    noise = (size * torch.randn(latents.shape, generator=generator)).to(latents)
    return _difference(vae.decode(latents + noise).sample, video, _weight(video))


def _reconstruction(vae: nn.Module, latents: Tensor, video: Tensor, step: int) -> Losses:
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(step)).to(latents)
    return _difference(vae.decode(latents + LATENT_NOISE * noise).sample, video)


def _difference(decoded: Tensor, video: Tensor, weight: Tensor | float = 1.0) -> Losses:
    difference = decoded - video
    return {
        "square": (weight * difference.square()).mean(),
        "absolute": 0.2 * (weight**0.5 * difference.abs()).mean(),
    }


def _weight(video: Tensor) -> Tensor:
    """(clips, 1, 1, 1, 1): the outline of what stands out little from its ground counts as much as any other."""
    ground = video.median(dim=-1, keepdim=True).values  # no object covers half of a row
    contrast = (video - ground).square().mean(dim=(1, 2, 3, 4), keepdim=True)
    return (_CONTRAST / (contrast + _LEAST_CONTRAST)).clamp(max=_LARGEST_WEIGHT)


def _windows(vae: nn.Module, step: int, seed: int, count: int, length: int) -> Tensor:
    random = np.random.default_rng([seed, step])
    return torch.cat([_window(random, length) for _ in range(count)]).to(next(vae.parameters()).device)


def _window(random: np.random.Generator, length: int) -> Tensor:
    """Some frames of a scene."""
    start = int(random.integers(FRAMES - length + 1))
    return from_bytes(render(draw_scene(random), slice(start, start + length)))


def _audio_losses(vae: nn.Module, step: int, *, seed: int) -> Losses:
    random = np.random.default_rng([seed, step])
    device = vae.data_mean.device
    mel = _mel(torch.stack([_wave(_heard_scene(random)) for _ in range(_AUDIO_BATCH)])).to(device)
    latents = vae.encode(mel)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(step)).to(latents)
    difference = (vae.decode(latents + LATENT_NOISE * noise) - mel) / vae.data_std
    return {
        "absolute": difference.abs().mean(),
        "square": difference.square().mean(),
        "size": LATENT_PENALTY * latents.square().mean(),
    }


def _vocoder_losses(vocoder: nn.Module, step: int, *, audio_vae: AudioVAE, seed: int) -> Losses:
    random = np.random.default_rng([seed, step])
    device = next(vocoder.parameters()).device
    audio_vae = audio_vae.to(device)
    scenes = [_heard_scene(random) for _ in range(_VOCODER_BATCH)]
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
    # Magnitudes alone hardly lead from silence to a tone. What phase a tone has follows from its spectrogram; noise has
    # none that could be learned.
    tonal = torch.tensor([scene.sound in _TONES for scene in scenes], device=device)
    wave = ((made - real).square().mean(dim=1) * tonal).mean()
    return {"spectra": _spectral_distance(made, real), "wave": _WAVE_WEIGHT * wave}


def _spectral_distance(made: Tensor, real: Tensor) -> Tensor:
    """Log magnitudes and magnitudes at several resolutions (multi-resolution STFT loss, arXiv 1910.11480)."""
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


# Sample sheets: each scene, and below it what the model makes of it


def _video_rows(vae: nn.Module) -> list[Row]:
    rows = []
    for scene in _shown_scenes(draw_scene):
        frames = render(scene)
        decoded = decode_whole(vae, encode(vae, from_bytes(frames).to(next(vae.parameters()).device))[0])
        rows += [Row(_title(scene), frames), Row("encoded and decoded", to_bytes(decoded))]
    return rows


def _decoder_rows(vae: nn.Module, clips: Sequence[tuple[Tensor, Tensor]]) -> list[Row]:
    rows = []
    for latents, video in clips:
        decoded = vae.decode(latents.to(next(vae.parameters()).device)).sample.clamp(-1, 1)
        rows += [Row("scene", to_bytes(video[0])), Row("decoded", to_bytes(decoded[0]))]
    return rows


def _audio_rows(vae: nn.Module) -> list[Row]:
    rows = []
    for scene in _shown_scenes(_heard_scene):
        mel = _mel(_wave(scene).unsqueeze(0)).to(vae.data_mean.device)
        rows += [Row(_title(scene), mel=mel[0]), Row("encoded and decoded", mel=vae.decode(vae.encode(mel))[0])]
    return rows


def _vocoder_rows(vocoder: nn.Module, *, audio_vae: AudioVAE) -> list[Row]:
    rows = []
    for scene in _shown_scenes(_heard_scene):
        mel = _mel(_wave(scene).unsqueeze(0)).to(next(vocoder.parameters()).device)
        coded = audio_vae.to(mel.device).decode(audio_vae.encode(mel))
        again = [_mel(vocoder(each)[:, 0])[0] for each in (mel, coded)]
        rows += [Row(_title(scene), mel=mel[0]), Row("of its spectrogram", mel=again[0])]
        rows += [Row("of the audio VAE's", mel=again[1])]
    return rows


def _shown_scenes(draw: Callable[[np.random.Generator], Scene]) -> list[Scene]:
    """The same ones on every sheet."""
    random = np.random.default_rng(_SHOWN)
    return [draw(random) for _ in range(_SHOWN)]


def _title(scene: Scene) -> str:
    return f"{scene.colour} {scene.shape}, {scene.background}, {scene.motion}, {scene.sound}"


def _heard_scene(random: np.random.Generator) -> Scene:
    """Impacts and tones are drawn more often than they are heard: they are harder than wind and silence."""
    while True:
        scene = draw_scene(random)
        if scene.sound in (Sound.IMPACT, *_TONES) or random.random() < 0.5:
            return scene


def _wave(scene: Scene) -> Tensor:
    return torch.from_numpy(synthesise(scene))


def _mel(waves: Tensor) -> Tensor:
    """Log-mel spectrograms (clips, 80, an even number of frames) of waveforms (clips, samples)."""
    mel = mel_spectrogram(waves)
    return mel[..., : mel.shape[-1] // 2 * 2]
