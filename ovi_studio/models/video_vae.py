"""The Wan 2.2 video VAE: diffusers' model, with a decoder whose memory is bounded by one tile of a few frames.

Time: encoder and decoder are causal, so a clip goes through them latent frame by latent frame (`causal_layers`).
Space: the layers before the up blocks see the whole frame (one of them attends over it), but at latent resolution,
where that is cheap. The up blocks are convolutions alone, so they run tile by tile on a region that is larger by their
receptive field; what a block no longer needs of that margin is cropped after it. Tiles therefore agree with the whole
decode to rounding: nothing is blended and there are no seams. A refiner, if there is one, sees whole clips after that.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanDecoder3d, patchify, unpatchify
from torch import Tensor, nn

from ovi_studio.core.variants import FRAMES_PER_LATENT, decoder_levels, latent_stride
from ovi_studio.models.causal_layers import Past, causal_convolution, down_block, mid_block, timeless, up_block
from ovi_studio.models.refiner import Refiner


def build_video_vae(config: Mapping[str, Any]) -> AutoencoderKLWan:
    """Build the VAE from the official dimensions (`models/ovi.json`, entry `video_vae`).

    A config may give the decoder its own levels and patches (`core.variants.decoder_levels`), and the VAE a refiner.
    """
    encoder_patch = config["patch_size"]
    vae = AutoencoderKLWan(
        base_dim=config["dim"],
        decoder_base_dim=config["dec_dim"],
        z_dim=config["z_dim"],
        dim_mult=list(config["dim_mult"]),
        num_res_blocks=config["num_res_blocks"],
        temperal_downsample=list(config["temperal_downsample"]),
        latents_mean=list(config["latents_mean"]),
        latents_std=list(config["latents_std"]),
        is_residual=True,
        in_channels=3 * encoder_patch**2,
        out_channels=3 * encoder_patch**2,
        patch_size=encoder_patch,
        scale_factor_spatial=latent_stride(config),
    )
    multipliers, patch = decoder_levels(config)
    if multipliers != list(config["dim_mult"]):
        vae.decoder = _decoder_of_its_own(config, multipliers, patch)
    vae.refiner = Refiner(**config["refiner"]) if "refiner" in config else None
    return vae


def _decoder_of_its_own(config: Mapping[str, Any], multipliers: list[int], patch: int) -> WanDecoder3d:
    """Build a decoder whose levels beyond the encoder's draw every frame by itself."""
    further = len(multipliers) - len(config["dim_mult"])
    decoder = WanDecoder3d(
        dim=config["dec_dim"],
        z_dim=config["z_dim"],
        dim_mult=multipliers,
        num_res_blocks=config["num_res_blocks"],
        temperal_upsample=[*reversed(config["temperal_downsample"]), *(further * [False])],
        out_channels=3 * patch**2,
        is_residual=True,
    )
    if further:
        for block in decoder.up_blocks[-further:]:
            for resnet in block.resnets:
                resnet.conv1, resnet.conv2 = _timeless(resnet.conv1), _timeless(resnet.conv2)
        decoder.conv_out = _timeless(decoder.conv_out)
    return decoder


def _timeless(convolution: nn.Conv3d) -> WanCausalConv3d:
    """Return a new convolution over height and width alone."""
    return WanCausalConv3d(convolution.in_channels, convolution.out_channels, (1, 3, 3), padding=(0, 1, 1))


@torch.no_grad()
def encode(vae: AutoencoderKLWan, video: Tensor) -> Tensor:
    """Return normalised latent means of video (batch, 3, frames, height, width) in [-1, 1].

    A first frame and groups of `FRAMES_PER_LATENT` frames give a latent frame each; frames beyond the last group are
    left out.
    """
    return _encode_groups(vae, (video[:, :, group] for group in _groups(video.shape[2])))


@torch.no_grad()
def encode_frames(vae: AutoencoderKLWan, frames: np.ndarray) -> Tensor:
    """Return normalised latent means (1, channels, ...) of uint8 (T, H, W, 3), of which a few at a time are converted.

    They go to the device on which the model is.
    """
    return _encode_groups(vae, (from_bytes(frames[group]).to(vae.device) for group in _groups(len(frames))))


def _groups(frames: int) -> Iterator[slice]:
    """Yield the frames of each latent frame."""
    yield slice(0, 1)
    for start in range(1, frames - FRAMES_PER_LATENT + 1, FRAMES_PER_LATENT):
        yield slice(start, start + FRAMES_PER_LATENT)


def _encode_groups(vae: AutoencoderKLWan, groups: Iterable[Tensor]) -> Tensor:
    encoder, past = vae.encoder, Past()
    moments = []
    for index, group in enumerate(groups):
        x = _channels_last(patchify(group.to(vae.dtype), vae.config.patch_size))
        x = causal_convolution(encoder.conv_in, x, past)
        for block in encoder.down_blocks:
            x = down_block(block, x, past, first=index == 0)
        x = mid_block(encoder.mid_block, x, past)
        moments.append(causal_convolution(encoder.conv_out, x, past, encoder.norm_out))
    return normalised(vae, timeless(vae.quant_conv, torch.cat(moments, dim=2))[:, : vae.config.z_dim])


def normalised(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Return latents (..., channels, frames, height, width) as the transformer has them: mean 0, deviation 1."""
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
    """Decode normalised latents (channels, frames, height, width) piece by piece, not refined.

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


def byte_frames(pixels: Tensor) -> Tensor:
    """Convert (3, T, H, W) in [-1, 1] to uint8 (T, H, W, 3), truncated and not rounded, as in the official code."""
    return ((pixels.float() + 1) / 2 * 255).to(torch.uint8).permute(1, 2, 3, 0).contiguous()


def to_bytes(pixels: Tensor) -> np.ndarray:
    """Return `byte_frames` as an array on the host, the inverse of `from_bytes` but for the batch."""
    return byte_frames(pixels).cpu().numpy()


def decode_whole(vae: AutoencoderKLWan, latents: Tensor, tile: int | None = None, *, refined: bool = True) -> Tensor:
    """Decode a whole clip at once, (3, frames, height, width) in [-1, 1]; for short or small clips.

    Args:
        refined: whether a refiner, if there is one, redraws it.
    """
    patches = list(decode(vae, latents, tile))
    last = patches[-1]
    video = last.pixels.new_empty(3, last.frames.stop, last.rows.stop, last.columns.stop)
    for patch in patches:
        video[:, patch.frames, patch.rows, patch.columns] = patch.pixels
    return refine(vae, video).clamp(-1, 1) if refined and vae.refiner is not None else video


@torch.no_grad()
def whole_frame_layers(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Apply all layers before the up blocks, frame by frame; returns (1, channels, frames, height, width)."""
    mean, std = _statistics(vae, latents)
    scaled = _channels_last((latents.unsqueeze(0).float() * std + mean).to(vae.dtype))
    decoder, past = vae.decoder, Past()
    width = decoder.conv_in.out_channels
    features = _channels_last(scaled.new_empty(1, width, *scaled.shape[2:]))
    for index, frame in enumerate(timeless(vae.post_quant_conv, scaled).split(1, dim=2)):
        x = causal_convolution(decoder.conv_in, frame, past)
        features[:, :, index : index + 1] = mid_block(decoder.mid_block, x, past)
    return features


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


@torch.no_grad()
def decode_tile(vae: AutoencoderKLWan, features: Tensor, tile: Region) -> Iterator[Patch]:
    """Stream the frames of one tile through the up blocks and the last convolution; one patch per latent frame."""
    decoder = vae.decoder
    height, width = features.shape[-2:]
    factors, margins = _resolutions(vae)
    regions = [
        tile.scaled(factor).widened(margin, height * factor, width * factor)
        for factor, margin in zip(factors, margins, strict=True)
    ]
    drawn = tile.scaled(factors[-1])
    pixels = tile.scaled(vae.config.scale_factor_spatial)
    past = Past()
    start = 0
    for index in range(features.shape[2]):
        x = regions[0].crop(features[:, :, index : index + 1], Region(slice(0, height), slice(0, width)))
        for block, before, after in zip(decoder.up_blocks, regions, regions[1:], strict=False):
            x = up_block(block, x, past, first=index == 0)
            x = after.crop(x, before.scaled(_upsampling(block)))
        x = drawn.crop(causal_convolution(decoder.conv_out, x, past, decoder.norm_out), regions[-1])
        frames = slice(start, start + x.shape[2])
        start = frames.stop
        picture = unpatchify(x, decoder_patch(decoder))[0]
        yield Patch(frames, pixels.rows, pixels.columns, picture.clamp(-1, 1), torch.isfinite(picture).all())


@torch.no_grad()
def refine(vae: AutoencoderKLWan, video: Tensor) -> Tensor:
    """Redraw a whole decoded clip, (3, frames, height, width) in [-1, 1]; the result may be a little outside."""
    return vae.refiner(video.to(vae.dtype).transpose(0, 1)).transpose(0, 1)


def decoder_patch(decoder: WanDecoder3d) -> int:
    """Return the pixels of a side of the patches that a decoder draws."""
    return math.isqrt(decoder.conv_out.out_channels // 3)


def _resolutions(vae: AutoencoderKLWan) -> tuple[list[int], list[int]]:
    """Return pixels per latent pixel, and the margin needed, before each up block and before the last convolution.

    Counted backwards, every 3x3 convolution needs one pixel more and every upsampling half as many.
    """
    blocks = list(vae.decoder.up_blocks)
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


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d)
