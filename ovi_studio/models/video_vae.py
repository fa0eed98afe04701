"""The Wan 2.2 video VAE: diffusers' model, with a decoder whose memory is bounded by one tile of a few frames.

Time: the decoder is causal, so latent frames go through it one by one and each convolution keeps its last two inputs.
Space: the layers before the up blocks see the whole frame (one of them attends over it), but at latent resolution,
where that is cheap. The up blocks are convolutions alone, so they run tile by tile on a region that is larger by their
receptive field; what a block no longer needs of that margin is cropped after it. Tiles therefore agree with the whole
decode to rounding: nothing is blended and there are no seams.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanDecoder3d, unpatchify
from torch import Tensor, nn
from torch.nn import functional

_CACHED_FRAMES = 2
"""Inputs that a causal convolution with three taps in time keeps from the past."""


def build_video_vae(config: Mapping[str, Any]) -> AutoencoderKLWan:
    """Build the VAE from the official dimensions (`models/ovi.json`, entry `video_vae`)."""
    patch = config["patch_size"]
    return AutoencoderKLWan(
        base_dim=config["dim"],
        decoder_base_dim=config["dec_dim"],
        z_dim=config["z_dim"],
        dim_mult=list(config["dim_mult"]),
        num_res_blocks=config["num_res_blocks"],
        temperal_downsample=list(config["temperal_downsample"]),
        latents_mean=list(config["latents_mean"]),
        latents_std=list(config["latents_std"]),
        is_residual=True,
        in_channels=3 * patch**2,
        out_channels=3 * patch**2,
        patch_size=patch,
        scale_factor_spatial=patch * 2 ** (len(config["dim_mult"]) - 1),
    )


def encode(vae: AutoencoderKLWan, video: Tensor) -> Tensor:
    """Return normalised latent means of video (batch, 3, frames, height, width) in [-1, 1]."""
    latents = vae.encode(video.to(vae.dtype)).latent_dist.mode()
    mean, std = _statistics(vae, latents)
    return (latents.float() - mean) / std


@dataclass(frozen=True)
class Patch:
    """A piece of the decoded clip: pixels (3, frames, height, width) in [-1, 1] and where they belong."""

    frames: slice
    rows: slice
    columns: slice
    pixels: Tensor
    finite: Tensor
    """bool, a scalar: whether all pixels were finite before they were clamped."""


def decode(vae: AutoencoderKLWan, latents: Tensor, tile: int | None = None) -> Iterator[Patch]:
    """Decode normalised latents (channels, frames, height, width) piece by piece.

    Args:
        tile: latent pixels along each side of a tile; None decodes whole frames.
    """
    features = whole_frame_layers(vae, latents)
    height, width = latents.shape[2:]
    for region in split_into_tiles(
        height, width, math.ceil(height / (tile or height)), math.ceil(width / (tile or width))
    ):
        yield from decode_tile(vae, features, region)


def from_bytes(frames: np.ndarray) -> Tensor:
    """Convert uint8 (T, H, W, 3) to (1, 3, T, H, W) in [-1, 1]."""
    return torch.from_numpy(frames).permute(3, 0, 1, 2).unsqueeze(0).float() / 127.5 - 1


def to_bytes(pixels: Tensor) -> np.ndarray:
    """Convert (3, T, H, W) in [-1, 1] to uint8 (T, H, W, 3), truncated and not rounded, as in the official code."""
    return ((pixels.float() + 1) / 2 * 255).to(torch.uint8).permute(1, 2, 3, 0).cpu().numpy()


def decode_whole(vae: AutoencoderKLWan, latents: Tensor, tile: int | None = None) -> Tensor:
    """Decode a whole clip at once, (3, frames, height, width) in [-1, 1]; for short or small clips."""
    patches = list(decode(vae, latents, tile))
    last = patches[-1]
    video = last.pixels.new_empty(3, last.frames.stop, last.rows.stop, last.columns.stop)
    for patch in patches:
        video[:, patch.frames, patch.rows, patch.columns] = patch.pixels
    return video


def whole_frame_layers(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Apply all layers before the up blocks, frame by frame; returns (1, channels, frames, height, width)."""
    mean, std = _statistics(vae, latents)
    scaled = (latents.unsqueeze(0).float() * std + mean).to(vae.dtype)
    decoder = vae.decoder
    cache = empty_cache(decoder)
    features = []
    for frame in vae.post_quant_conv(scaled).split(1, dim=2):
        x = _cached_convolution(decoder.conv_in, frame, cache, 0)
        features.append(decoder.mid_block(x, feat_cache=cache, feat_idx=[1]))
    return torch.cat(features, dim=2)


@dataclass(frozen=True)
class Region:
    """Part of a frame, in pixels of some resolution."""

    rows: slice
    columns: slice

    def scaled(self, factor: int) -> "Region":
        """Return this region at a resolution `factor` times as high."""
        return Region(*(slice(side.start * factor, side.stop * factor) for side in (self.rows, self.columns)))

    def widened(self, margin: int, height: int, width: int) -> "Region":
        """Return this region with a margin on every side, clipped to the frame."""
        return Region(
            *(
                slice(max(0, side.start - margin), min(size, side.stop + margin))
                for side, size in ((self.rows, height), (self.columns, width))
            )
        )

    def crop(self, x: Tensor, covered: "Region") -> Tensor:
        """Crop x, which covers the region `covered`, to this region."""
        top, left = covered.rows.start, covered.columns.start
        rows = slice(self.rows.start - top, self.rows.stop - top)
        return x[..., rows, self.columns.start - left : self.columns.stop - left]


def decode_tile(vae: AutoencoderKLWan, features: Tensor, tile: Region) -> Iterator[Patch]:
    """Stream the frames of one tile through the up blocks and the last convolution; one patch per latent frame."""
    decoder = vae.decoder
    height, width = features.shape[-2:]
    factors, margins = _resolutions(decoder)
    regions = [
        tile.scaled(factor).widened(margin, height * factor, width * factor)
        for factor, margin in zip(factors, margins, strict=True)
    ]
    target = tile.scaled(factors[-1])
    pixels = tile.scaled(vae.config.scale_factor_spatial)
    cache = empty_cache(decoder)
    start = 0
    for index in range(features.shape[2]):
        x = regions[0].crop(features[:, :, index : index + 1], Region(slice(0, height), slice(0, width)))
        position = [0]
        for block, before, after in zip(decoder.up_blocks, regions, regions[1:], strict=False):
            x = block(x, feat_cache=cache, feat_idx=position, first_chunk=index == 0)
            x = after.crop(x, before.scaled(_upsampling(block)))
        x = _cached_convolution(decoder.conv_out, functional.silu(decoder.norm_out(x)), cache, position[0])
        x = target.crop(x, regions[-1])
        frames = slice(start, start + x.shape[2])
        start = frames.stop
        picture = unpatchify(x, vae.config.patch_size)[0]
        yield Patch(frames, pixels.rows, pixels.columns, picture.clamp(-1, 1), torch.isfinite(picture).all())


def _resolutions(decoder: WanDecoder3d) -> tuple[list[int], list[int]]:
    """Return pixels per latent pixel, and the margin needed, before each up block and before the last convolution.

    Counted backwards, every 3x3 convolution needs one pixel more and every upsampling half as many.
    """
    blocks = list(decoder.up_blocks)
    factors = [1]
    for block in blocks:
        factors.append(factors[-1] * _upsampling(block))
    margins = [1]
    for block in reversed(blocks):
        after_resnets = margins[0] if block.upsampler is None else math.ceil((margins[0] + 1) / 2)
        margins.insert(0, after_resnets + 2 * len(block.resnets))
    return factors, margins


def _upsampling(block: nn.Module) -> int:
    return 1 if block.upsampler is None else 2


def empty_cache(decoder: nn.Module) -> list[Any]:
    """Return one slot for the past inputs of every causal convolution, as diffusers' blocks use it."""
    return [None] * sum(isinstance(module, WanCausalConv3d) for module in decoder.modules())


def _cached_convolution(convolution: nn.Module, x: Tensor, cache: list[Any], position: int) -> Tensor:
    """Apply a causal convolution that continues from the inputs kept in `cache`."""
    past = cache[position]
    recent = x[:, :, -_CACHED_FRAMES:]
    if past is not None and recent.shape[2] < _CACHED_FRAMES:
        recent = torch.cat([past[:, :, -1:], recent], dim=2)
    cache[position] = recent
    return convolution(x, past)


def split_into_tiles(height: int, width: int, rows: int, columns: int) -> list[Region]:
    """Split a frame into rows x columns tiles of nearly equal size."""
    return [Region(down, across) for down in _spans(height, rows) for across in _spans(width, columns)]


def _spans(length: int, count: int) -> list[slice]:
    edges = [length * index // count for index in range(count + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


def _statistics(vae: AutoencoderKLWan, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Return means and standard deviations of the latent channels, float32 (channels, 1, 1, 1)."""
    values = torch.tensor([vae.config.latents_mean, vae.config.latents_std], dtype=torch.float32)
    mean, std = values.to(latents.device).view(2, -1, 1, 1, 1)
    return mean, std
