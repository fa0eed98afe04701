"""A refiner redraws decoded frames: each by itself, and the same ones whether they are decoded in tiles or not."""

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan

from ovi_studio.models.refiner import Refiner
from ovi_studio.models.video_vae import build_video_vae, decode, decode_whole


@pytest.fixture
def vae(tiny_dimensions: dict[str, Any]) -> AutoencoderKLWan:
    torch.manual_seed(0)
    vae = build_video_vae(tiny_dimensions["video_vae"] | {"refiner": [4, 4, 4]}).eval().requires_grad_(False)
    torch.nn.init.normal_(vae.refiner.out.weight)
    vae.decoder.conv_out.weight.mul_(0.3)  # nothing is clamped before it is refined
    return vae


def latents(side: int) -> torch.Tensor:
    return torch.randn(8, 2, side, side, generator=torch.Generator().manual_seed(1))


def test_every_frame_is_redrawn_by_itself(vae: AutoencoderKLWan) -> None:
    refined = decode_whole(vae, latents(3))
    refiner, vae.refiner = vae.refiner, None
    pieces = [patch.pixels for patch in decode(vae, latents(3))]
    plain = torch.cat(pieces, dim=1).transpose(0, 1)
    expected = torch.cat([refiner(frame.unsqueeze(0)) for frame in plain]).clamp(-1, 1).transpose(0, 1)
    assert (refined - plain.transpose(0, 1)).abs().mean() > 0.05
    assert plain.abs().max() < 1
    torch.testing.assert_close(refined, expected, rtol=0, atol=1e-5)


def test_tiles_equal_the_whole(vae: AutoencoderKLWan) -> None:
    whole = decode_whole(vae, latents(6))
    torch.testing.assert_close(decode_whole(vae, latents(6), 2), whole, rtol=0, atol=1e-5)


def test_the_reach_is_that_of_the_layers() -> None:
    torch.manual_seed(0)
    refiner = Refiner([4, 4, 4, 4])
    side = 4 * 64
    frames = torch.zeros(1, 3, side, side, requires_grad=True)
    refiner(frames)[0, 0, side // 2, side // 2].backward()
    rows = frames.grad[0].abs().sum(dim=(0, 2)).nonzero()
    reached = side // 2 - int(rows.min())
    assert refiner.reach - refiner.granularity < reached <= refiner.reach
