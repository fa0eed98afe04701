"""Training of the video decoder alone, once the encoder is fixed: all of it, and then its last levels for longer.

Outlines are what is hard, so pixels are compared around the object only. That costs little in the last levels, whose
inputs are stored for that: what is below them takes most of the time of a step, but decides less about outlines.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, unpatchify
from torch import Tensor, nn
from torch.nn import functional

from ovi_studio.core.variants import FRAMES_PER_LATENT
from ovi_studio.demo.decoder_clips import DecoderClips
from ovi_studio.demo.fit import NamedLosses, TrainingBudget, fit
from ovi_studio.demo.scenes import FRAMES, Scene, path, render
from ovi_studio.demo.sheets import SheetRow
from ovi_studio.models.video_vae import decoder_patch, from_bytes, to_bytes

LATENT_NOISE = 0.15
_STORED_CLIPS, _WINDOWS = 160, 4
"""Clips whose features are stored, and the clips of which a step compares some frames."""
_CLIPS, _WINDOWS_OF_A_CLIP, _LATENT_FRAMES = 2, 4, 6
"""Clips of a step of the whole decoder, the windows compared of each, and the latent frames that have gradients."""
_COMPARED = 4
"""Frames of a window."""
_FIRST = 0.125
"""Fraction of the windows at the start of a clip: the first frame is unlike others, and may have been given."""
_CROP, _MARGIN, _SHIFT, _ANYWHERE = 14, 2, 2.0, 0.125
"""Side of the part of a frame, in places of the features, its border that is not compared unless it is the frame's, how
far it may be off the object, and the fraction of the parts that are anywhere."""
_EDGES = 1.0
"""Weight of the loss of edges."""
_CONTRAST, _LEAST_CONTRAST, _LARGEST_WEIGHT = 0.03, 0.01, 4.0
"""Mean squared contrast of a clip (pixels range over 2): half of the usual one, an offset, and the maximum weight."""
_SHOWN = 4
"""Clips on a sample sheet."""


class LastLevels(nn.Module):
    """The two last levels of a decoder, its own layers and not copies: from features at full frame rate to pixels."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.before, self.last = decoder.up_blocks[-2:]
        self.norm_out, self.conv_out = decoder.norm_out, decoder.conv_out
        self.patch = decoder_patch(decoder)

    @property
    def context(self) -> int:
        """Frames that a frame depends on, besides itself: two for each causal convolution."""
        return 4 * len(self.before.resnets)

    def forward(self, below: Tensor, context: int = 0) -> Tensor:
        """Draw pixels (clips, 3, frames, height, width) from `features_below`, or from a part of them.

        Args:
            context: frames at the start that are not drawn.
        """
        features = below
        for resnet in self.before.resnets:
            features = resnet(features)
        x = self.before.upsampler(features[:, :, context:]) + self.before.avg_shortcut(below[:, :, context:])
        x = self.conv_out(functional.silu(self.norm_out(self.last(x))))
        return unpatchify(x, self.patch)


def features_below(vae: AutoencoderKLWan, latents: Tensor, since: int = 0) -> Tensor:
    """Return what the last levels draw from: (clips, channels, frames, height, width).

    Args:
        latents: (clips, channels, frames, height, width), at their scale before normalisation.
        since: the first latent frame whose frames have gradients; what comes before it is state.
    """
    decoder = vae.decoder
    x = decoder.mid_block(decoder.conv_in(vae.post_quant_conv(latents)))
    past = [None] * sum(isinstance(layer, WanCausalConv3d) for layer in decoder.modules())
    pieces = []
    for index, piece in enumerate(x.split(1, dim=2)):
        at = [0]
        with torch.set_grad_enabled(torch.is_grad_enabled() and index >= since):
            for block in decoder.up_blocks[:-2]:
                piece = block(piece, past, at, first_chunk=index == 0)
        pieces.append(piece)
    return torch.cat(pieces, dim=2)


def draw(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Decode latents as `features_below` takes them, with gradients, to pixels in [-1, 1]."""
    return LastLevels(vae.decoder)(features_below(vae, latents)).clamp(-1, 1)


def train_decoder(vae: AutoencoderKLWan, clips: DecoderClips, budget: TrainingBudget, folder: Path, seed: int) -> None:
    """Train the whole decoder on parts of clips.

    The decoder is causal and keeps state: trained without what comes before, it drifts a second into a clip.
    """
    vae.requires_grad_(False)
    vae.decoder.requires_grad_(True)
    vae.post_quant_conv.requires_grad_(True)
    losses = partial(_decoder_losses, clips=clips, seed=seed)
    fit(vae, losses, budget, folder, partial(_rows, clips=clips, seed=seed))


def train_last_levels(
    vae: AutoencoderKLWan, clips: DecoderClips, budget: TrainingBudget, folder: Path, seed: int
) -> None:
    """Train the last levels of the decoder on stored features; everything below them stays."""
    vae.requires_grad_(False)
    folder.mkdir(parents=True, exist_ok=True)
    paths = clips.paths[:_STORED_CLIPS]
    stored = folder / "features.npy"
    if not stored.is_file():
        _store_features(vae, [clips.read(path)[0] for path in paths], stored)
    features, scenes = np.load(stored, mmap_mode="r"), [clips.read(path)[1] for path in paths]
    levels = LastLevels(vae.decoder).requires_grad_(True)
    losses = partial(_last_levels_losses, features=features, scenes=scenes, seed=seed)
    fit(levels, losses, budget, folder, lambda _: _rows(vae, clips, seed))
    stored.unlink()


@torch.no_grad()
def _store_features(vae: AutoencoderKLWan, latents: Sequence[Tensor], target: Path) -> None:
    """Write the features below the last levels, float16 (clips, channels, frames, height, width)."""
    part = target.with_name(f"{target.name}.part")
    stored = None
    for index, each in enumerate(latents):
        below = features_below(vae, each.unsqueeze(0))[0].half().numpy()
        if stored is None:
            stored = np.lib.format.open_memmap(part, "w+", np.float16, (len(latents), *below.shape))
        stored[index] = below
    part.replace(target)


def _last_levels_losses(
    levels: LastLevels, step: int, *, features: np.ndarray, scenes: Sequence[Scene], seed: int
) -> NamedLosses:
    random = np.random.default_rng([seed, step])
    device = next(levels.parameters()).device
    frame = _draw_frame(random, 0, FRAMES)
    windows = []
    for clip in random.integers(len(scenes), size=_WINDOWS):
        place = _Place.draw(scenes[clip], frame, features.shape[-1], random)
        below = torch.from_numpy(features[clip][place.inputs(levels.context)].astype(np.float32))
        windows.append((below, *place.pixels(scenes[clip])))
    return _difference(levels, min(frame, levels.context), windows, device)


def _decoder_losses(vae: AutoencoderKLWan, step: int, *, clips: DecoderClips, seed: int) -> NamedLosses:
    random = np.random.default_rng([seed, step])
    generator = torch.Generator().manual_seed(step)
    device = next(vae.parameters()).device
    levels = LastLevels(vae.decoder)
    # The same frames of all clips, so that they are computed together.
    count = clips.read(clips.paths[0])[0].shape[1]
    stop = int(random.integers(min(_LATENT_FRAMES, count), count + 1))
    since = max(0, stop - _LATENT_FRAMES)
    first, last = (0 if latent == 0 else FRAMES_PER_LATENT * (latent - 1) + 1 for latent in (since, stop))
    drawn = [clips.draw(random) for _ in range(_CLIPS)]
    latents = torch.stack([each for each, _ in drawn])[:, :, :stop]
    # Random, up to the noise of the first training: with the maximum in every clip, edges stay soft.
    size = LATENT_NOISE * torch.rand(_CLIPS, 1, 1, 1, 1, generator=generator)
    noisy = latents + size * torch.randn(latents.shape, generator=generator)
    with autocast(device):
        below = features_below(vae, noisy.to(device), since)
    losses = []
    for _ in range(_WINDOWS_OF_A_CLIP):
        frame = _draw_frame(random, first, last)
        windows = []
        for features, (_, scene) in zip(below, drawn, strict=True):
            place = _Place.draw(scene, frame, below.shape[-1], random)
            windows.append((features[place.inputs(levels.context)], *place.pixels(scene)))
        losses.append(_difference(levels, min(frame, levels.context), windows, device))
    return {name: torch.stack([each[name] for each in losses]).mean() for name in losses[0]}


def _draw_frame(random: np.random.Generator, start: int, stop: int) -> int:
    """Draw the first frame of a window between these frames."""
    return start if random.random() < _FIRST else int(random.integers(start, stop - _COMPARED + 1))


@dataclass(frozen=True)
class _Place:
    """Where a window is in a clip: from which frame on, and in features of which size."""

    frame: int
    top: int
    left: int
    size: int

    @classmethod
    def draw(cls, scene: Scene, frame: int, size: int, random: np.random.Generator) -> "_Place":
        """Draw a place that is mostly around the object."""
        middle = path(scene)[frame : frame + _COMPARED].mean(axis=0)
        if random.random() < _ANYWHERE:
            middle = random.random(2)
        corner = size * middle + random.uniform(-_SHIFT, _SHIFT, 2) - _CROP / 2
        left, top = np.clip(np.rint(corner), 0, size - _CROP).astype(int)
        return cls(frame, int(top), int(left), size)

    def inputs(self, context: int) -> tuple[slice, ...]:
        """Return the part of features (channels, frames, height, width), with what comes before it."""
        start = max(0, self.frame - context)
        return slice(None), slice(start, self.frame + _COMPARED), *self._part(self.size)

    def pixels(self, scene: Scene) -> tuple[Tensor, Tensor]:
        """Return the pixels (3, frames, height, width) to draw, and their weights (height, width)."""
        video = from_bytes(render(scene, slice(self.frame, self.frame + _COMPARED)))[0]
        side = video.shape[-1]
        compared = torch.zeros(side, side)
        rows, columns = self._part(side, _MARGIN)
        compared[rows, columns] = outline_weight(video)
        part = self._part(side)
        return video[:, :, *part], compared[*part]

    def _part(self, side: int, margin: int = 0) -> tuple[slice, slice]:
        """Return rows and columns at some resolution.

        Inside a frame, what is beside the part is missing, so its margin cannot be right.
        """
        scale = side // self.size
        spans = []
        for start in (self.top, self.left):
            stop = start + _CROP
            start, stop = start + margin * (start > 0), stop - margin * (stop < self.size)
            spans.append(slice(start * scale, stop * scale))
        return spans[0], spans[1]


def _difference(
    levels: LastLevels, context: int, windows: Sequence[tuple[Tensor, Tensor, Tensor]], device: torch.device
) -> NamedLosses:
    """Compare what is drawn.

    Args:
        windows: features, pixels and weights.
    """
    below, pixels, weights = (torch.stack(each).to(device) for each in zip(*windows, strict=True))
    with autocast(device):
        drawn = levels(below, context)
    return compare(drawn, pixels, weights[:, None, None])


def compare(drawn: Tensor, pixels: Tensor, weights: Tensor) -> NamedLosses:
    """Compare pixels, and the steps between neighbours: a soft edge in the right place costs as much as a shifted one.

    Where an edge may be in several places, the smallest absolute difference is a sharp edge, unlike that of squares.
    """
    difference = weights * (drawn.float() - pixels)
    across, down = (difference.diff(dim=side).abs().mean() for side in (-1, -2))
    return {"absolute": difference.abs().mean(), "edges": _EDGES * (across + down)}


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Compute in bfloat16 where that is possible, in half the time."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def outline_weight(video: Tensor) -> float:
    """Return a weight that makes the outlines of low-contrast objects count as much as others."""
    background = video.median(dim=-1, keepdim=True).values  # no object covers half of a row
    contrast = (video - background).square().mean().item()
    return min(_LARGEST_WEIGHT, _CONTRAST / (contrast + _LEAST_CONTRAST)) ** 0.5


def _rows(vae: AutoencoderKLWan, clips: DecoderClips, seed: int) -> list[SheetRow]:
    rows = []
    random = np.random.default_rng(seed)
    for _ in range(_SHOWN):
        latents, scene = clips.draw(random)
        decoded = draw(vae, latents.unsqueeze(0).to(next(vae.parameters()).device))
        rows += [SheetRow("scene", render(scene)), SheetRow("decoded", to_bytes(decoded[0]))]
    return rows
