"""Decoding in tiles and frame by frame: the same picture as in one pass, with memory independent of the clip."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from ovi_studio.models.video_vae import build_video_vae, decode, decode_whole, encode

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


@pytest.mark.parametrize("resnets", [0, 2])
def test_tiles_equal_the_whole_whatever_the_decoders_depth(tiny_dimensions: dict[str, Any], resnets: int) -> None:
    vae = seeded(tiny_dimensions["video_vae"] | {"num_res_blocks": resnets})
    latents = random_latents(frames=2)
    torch.testing.assert_close(decode_whole(vae, latents, 4), decode_whole(vae, latents), rtol=0, atol=1e-5)


def test_a_tile_larger_than_the_frame_is_the_whole(vae: AutoencoderKLWan) -> None:
    patches = list(decode(vae, random_latents(frames=1), tile=100))
    assert len(patches) == 1


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


def watched(vae: AutoencoderKLWan, consume: Callable[[], None]) -> list[tuple[int, ...]]:
    """Return the input shapes of all layers from the first up block on while `consume` runs."""
    seen: list[tuple[int, ...]] = []

    def note(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.extend(tuple(x.shape) for x in inputs if isinstance(x, Tensor))

    layers = [vae.decoder.conv_out, *vae.decoder.up_blocks.modules()]
    handles = [layer.register_forward_pre_hook(note) for layer in layers]
    consume()
    for handle in handles:
        handle.remove()
    return seen


def largest(shapes: list[tuple[int, ...]]) -> int:
    return max(torch.Size(shape).numel() for shape in shapes)


def test_up_blocks_get_no_larger_tensors_for_a_longer_clip(vae: AutoencoderKLWan) -> None:
    short = watched(vae, lambda: decode_whole(vae, random_latents(3, 4, 4)))
    long = watched(vae, lambda: decode_whole(vae, random_latents(9, 4, 4)))
    assert len(long) > 2 * len(short)
    assert largest(long) == largest(short)


def test_up_blocks_get_no_larger_tensors_for_a_larger_clip(vae: AutoencoderKLWan) -> None:
    # Wide enough for a tile that has its margin on both sides.
    small = watched(vae, lambda: decode_whole(vae, random_latents(2, 2, 32), tile=6))
    large = watched(vae, lambda: decode_whole(vae, random_latents(2, 2, 48), tile=6))
    assert len(large) > len(small)
    assert largest(large) == largest(small)
    assert largest(large) < largest(watched(vae, lambda: decode_whole(vae, random_latents(2, 2, 32))))


def test_the_up_blocks_get_one_latent_frame_at_a_time(vae: AutoencoderKLWan) -> None:
    frames: list[int] = []
    vae.decoder.up_blocks[0].register_forward_pre_hook(lambda _, inputs: frames.append(inputs[0].shape[2]))
    decode_whole(vae, random_latents(5, 4, 4), tile=2)
    assert frames == [1] * 5 * 4


def test_the_first_piece_is_available_before_the_last_frame_is_decoded(vae: AutoencoderKLWan) -> None:
    passes = []
    vae.decoder.up_blocks[0].register_forward_pre_hook(lambda *_: passes.append(1))
    pieces = decode(vae, random_latents(5, 4, 4))
    assert next(pieces).frames == slice(0, 1)
    assert len(passes) == 1
    assert next(pieces).frames == slice(1, 5)
    assert len(passes) == 2


def test_a_picture_encodes_as_the_first_frame_of_a_video_does(vae: AutoencoderKLWan) -> None:
    video = torch.rand(1, 3, 5, 32, 48, generator=torch.Generator().manual_seed(2)) * 2 - 1
    latents = encode(vae, video)
    assert latents.shape == (1, 8, 2, 2, 3)
    torch.testing.assert_close(encode(vae, video[:, :, :1]), latents[:, :, :1], rtol=0, atol=1e-5)
