"""Decoding in tiles and frame by frame: the same picture as in one pass, with memory independent of the clip."""

import math
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ovi_studio.models import video_vae
from ovi_studio.models.causal_layers import Past, make_channels_last, residual_block, up_block
from ovi_studio.models.video_vae import (
    build_video_vae,
    decode,
    decode_tile,
    decode_whole,
    encode,
    split_into_tiles,
    whole_frame_layers,
)

STRIDE = 16
FRAMES, HEIGHT, WIDTH = 3, 11, 13
"""Of the latents."""


def seeded(config: dict[str, Any]) -> AutoencoderKLWan:
    torch.manual_seed(0)
    return build_video_vae(config).eval().requires_grad_(False)


@pytest.fixture
def vae(tiny_dimensions: dict[str, Any]) -> AutoencoderKLWan:
    return seeded(tiny_dimensions["video_vae"])


def random_latents(frames: int = FRAMES, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    return torch.randn(8, frames, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("height", "width", "tile"), [(4, 5, 1), (5, 7, 2), (11, 13, 3), (13, 11, 5), (11, 13, 8), (2, 13, 12)]
)
def test_tiles_of_any_size_equal_the_whole(vae: AutoencoderKLWan, height: int, width: int, tile: int) -> None:
    latents = random_latents(FRAMES, height, width)
    whole = decode_whole(vae, latents)
    assert whole.shape == (3, 4 * (FRAMES - 1) + 1, height * STRIDE, width * STRIDE)
    assert whole.std() > 0.05
    torch.testing.assert_close(decode_whole(vae, latents, tile), whole, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("resnets", [0, 2])
def test_tiles_equal_the_whole_whatever_the_decoders_depth(tiny_dimensions: dict[str, Any], resnets: int) -> None:
    vae = seeded(tiny_dimensions["video_vae"] | {"num_res_blocks": resnets})
    latents = random_latents(frames=2)
    torch.testing.assert_close(decode_whole(vae, latents, 4), decode_whole(vae, latents), rtol=0, atol=1e-5)


def test_a_tile_larger_than_the_frame_is_the_whole(vae: AutoencoderKLWan) -> None:
    patches = list(decode(vae, random_latents(frames=1), tile=100))
    assert len(patches) == 1


@pytest.mark.slow
@pytest.mark.parametrize("tile", [None, 4, 6])
def test_pieces_cover_every_pixel_of_every_frame_once(vae: AutoencoderKLWan, tile: int | None) -> None:
    latents = random_latents()
    covered = torch.zeros(4 * (FRAMES - 1) + 1, HEIGHT * STRIDE, WIDTH * STRIDE, dtype=torch.int)
    for patch in decode(vae, latents, tile):
        assert patch.pixels.shape[1:] == covered[patch.frames, patch.rows, patch.columns].shape
        covered[patch.frames, patch.rows, patch.columns] += 1
    assert covered.unique().tolist() == [1]


@pytest.mark.parametrize("frames", [1, 2, 6])
def test_streamed_frames_equal_those_of_the_library(vae: AutoencoderKLWan, frames: int) -> None:
    latents = random_latents(frames, 4, 6)
    mean, std = (torch.tensor(vae.config[name]).view(-1, 1, 1, 1) for name in ("latents_mean", "latents_std"))
    expected = vae.decode((latents * std + mean).unsqueeze(0)).sample[0]
    torch.testing.assert_close(decode_whole(vae, latents, tile=3), expected, rtol=0, atol=1e-5)


def test_the_past_reaches_the_present_and_the_future_does_not(vae: AutoencoderKLWan) -> None:
    latents = random_latents(4, 4, 4)
    changed = latents.clone()
    changed[:, 2] += 1
    difference = (decode_whole(vae, changed) - decode_whole(vae, latents)).abs().amax(dim=(0, 2, 3))
    assert difference[:5].max() < 1e-6
    assert difference[5:].min() > 1e-4


class Convolved(TorchDispatchMode):
    """Records the shapes of everything that is convolved while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[torch.Size] = []

    def __torch_dispatch__(self, operation: Any, types: Any, inputs: Any = (), options: Any = None) -> Any:
        if "convolution" in str(operation):
            self.shapes.append(inputs[0].shape)
        return operation(*inputs, **(options or {}))

    @property
    def largest(self) -> int:
        return max(shape.numel() for shape in self.shapes)


def watched(vae: AutoencoderKLWan, latents: Tensor, tile: int | None = None) -> Convolved:
    """Watch what is convolved from the first up block on while latents are decoded."""
    features = whole_frame_layers(vae, latents)
    height, width = latents.shape[2:]
    sides = [math.ceil(side / (tile or side)) for side in (height, width)]
    with Convolved() as seen:
        for region in split_into_tiles(height, width, *sides):
            for _ in decode_tile(vae, features, region):
                pass
    return seen


def test_up_blocks_get_no_larger_tensors_for_a_longer_clip(vae: AutoencoderKLWan) -> None:
    short, long = (watched(vae, random_latents(frames, 4, 4)) for frames in (3, 9))
    assert len(long.shapes) > 2 * len(short.shapes)
    assert long.largest == short.largest


@pytest.mark.slow
def test_up_blocks_get_no_larger_tensors_for_a_larger_clip(vae: AutoencoderKLWan) -> None:
    # Wide enough for a tile that has its margin on both sides.
    small = watched(vae, random_latents(2, 2, 32), tile=6)
    large = watched(vae, random_latents(2, 2, 48), tile=6)
    assert len(large.shapes) > len(small.shapes)
    assert large.largest == small.largest
    assert large.largest < watched(vae, random_latents(2, 2, 32)).largest


def test_the_up_blocks_get_one_latent_frame_at_a_time(vae: AutoencoderKLWan, monkeypatch: pytest.MonkeyPatch) -> None:
    frames: list[int] = []

    def noted(block: nn.Module, x: Tensor, past: Past, *, first: bool) -> Tensor:
        if block is vae.decoder.up_blocks[0]:
            frames.append(x.shape[2])
        return up_block(block, x, past, first=first)

    monkeypatch.setattr(video_vae, "up_block", noted)
    features = whole_frame_layers(vae, random_latents(5, 4, 4))
    for region in split_into_tiles(4, 4, 2, 2):
        list(decode_tile(vae, features, region))
    assert frames == [1] * 5 * 4


def test_the_first_piece_is_available_before_the_last_frame_is_decoded(vae: AutoencoderKLWan) -> None:
    pieces = decode(vae, random_latents(5, 4, 4))
    with Convolved() as first:
        assert next(pieces).frames == slice(0, 1)
    with Convolved() as second:
        assert next(pieces).frames == slice(1, 5)
    with Convolved() as others:
        assert len(list(pieces)) == 3
    assert len(first.shapes) > len(second.shapes), "the layers before the up blocks see all frames"
    assert len(others.shapes) == 3 * len(second.shapes)


def test_a_picture_encodes_as_the_first_frame_of_a_video_does(vae: AutoencoderKLWan) -> None:
    video = torch.rand(1, 3, 5, 32, 48, generator=torch.Generator().manual_seed(2)) * 2 - 1
    latents = encode(vae, video)
    assert latents.shape == (1, 8, 2, 2, 3)
    torch.testing.assert_close(encode(vae, video[:, :, :1]), latents[:, :, :1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 5, 9, 11])
def test_encoded_latents_equal_those_of_the_library(vae: AutoencoderKLWan, frames: int) -> None:
    video = torch.rand(2, 3, frames, 32, 48, generator=torch.Generator().manual_seed(3)) * 2 - 1
    mean, std = (torch.tensor(vae.config[name]).view(-1, 1, 1, 1) for name in ("latents_mean", "latents_std"))
    expected = (vae.encode(video).latent_dist.mode() - mean) / std
    torch.testing.assert_close(encode(vae, video), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("multipliers", [[1, 2, 4, 4], [4, 2, 1, 1]])
def test_clips_equal_those_of_the_library_whatever_the_widths(
    tiny_dimensions: dict[str, Any], multipliers: list[int]
) -> None:
    # The shortcuts around upsampling take every second channel, or each of them twice.
    vae = seeded(tiny_dimensions["video_vae"] | {"dim_mult": multipliers, "dim": 8, "dec_dim": 8})
    latents = random_latents(3, 2, 3)
    mean, std = (torch.tensor(vae.config[name]).view(-1, 1, 1, 1) for name in ("latents_mean", "latents_std"))
    expected = vae.decode((latents * std + mean).unsqueeze(0)).sample[0]
    torch.testing.assert_close(decode_whole(vae, latents), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_of_zeros_are_decoded_without_dividing_by_zero(vae: AutoencoderKLWan, dtype: torch.dtype) -> None:
    vae = vae.to(dtype)
    for parameter in vae.decoder.parameters():
        if parameter.dim() == 1:
            parameter.zero_()
    features = torch.zeros_like(whole_frame_layers(vae, random_latents(2, 2, 2)))
    patches = list(decode_tile(vae, features, split_into_tiles(2, 2, 1, 1)[0]))
    assert all(patch.finite and patch.pixels.abs().max() == 0 for patch in patches)


class Layouts(TorchDispatchMode):
    """Collects what is not channels-last among the inputs, weights and results of convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.others: list[str] = []

    def __torch_dispatch__(self, operation: Any, types: Any, inputs: Any = (), options: Any = None) -> Any:
        result = operation(*inputs, **(options or {}))
        if "convolution" in str(operation):
            self.count += 1
            for name, tensor in (("input", inputs[0]), ("weight", inputs[1]), ("result", result)):
                if tensor.shape[1] > 1 and tensor.stride(1) != 1:
                    self.others.append(f"{name} {tuple(tensor.shape)} {tensor.stride()}")
        return result


def test_every_convolution_of_both_directions_is_channels_last(vae: AutoencoderKLWan) -> None:
    make_channels_last(vae)
    with Layouts() as layouts:
        encode(vae, torch.rand(1, 3, 5, 32, 32))
        decode_whole(vae, random_latents(3, 2, 2))
    assert layouts.count > 60
    assert not layouts.others


class Copied(TorchDispatchMode):
    """Counts the values that copies, concatenations and paddings write."""

    def __init__(self) -> None:
        super().__init__()
        self.values = 0

    def __torch_dispatch__(self, operation: Any, types: Any, inputs: Any = (), options: Any = None) -> Any:
        result = operation(*inputs, **(options or {}))
        if operation.overloadpacket.__name__ in {"cat", "clone", "copy_", "constant_pad_nd", "_to_copy", "stack"}:
            self.values += result.numel()
        return result


def test_continuing_a_residual_block_copies_only_the_frames_of_the_past(vae: AutoencoderKLWan) -> None:
    block = vae.decoder.up_blocks[-1].resnets[-1]
    channels = block.conv1.in_channels
    x = torch.randn(1, channels, 4, 6, 8).contiguous(memory_format=torch.channels_last_3d)
    past: Past = {}
    residual_block(block, x[:, :, :1], past)
    with Copied() as copied:
        residual_block(block, x, past)
    # Two convolutions, each of which reads its two frames of the past and replaces them.
    assert copied.values == 2 * 2 * x[:, :, :2].numel()
