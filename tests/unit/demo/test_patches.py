"""A video VAE with larger patches has the same latents for the same picture at more pixels."""

import torch
from torch.nn import functional

from ovi_studio.demo.dimensions import DIMENSIONS
from ovi_studio.demo.patches import with_patch_size
from ovi_studio.models.video_vae import build_video_vae, decode_whole, encode

TINY = {**DIMENSIONS["video_vae"], "dim": 4, "dec_dim": 4, "patch_size": 2}


def enlarged(video: torch.Tensor, factor: int) -> torch.Tensor:
    return video.repeat_interleave(factor, dim=-1).repeat_interleave(factor, dim=-2)


def test_latents_stay_the_same_and_pictures_grow() -> None:
    torch.manual_seed(0)
    small = build_video_vae(TINY).eval()
    large = build_video_vae({**TINY, "patch_size": 6}).eval()
    large.load_state_dict(with_patch_size(small.state_dict(), 6))
    video = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    latents = encode(small, video)
    torch.testing.assert_close(encode(large, enlarged(video, 3)), latents, rtol=1e-4, atol=1e-5)
    before, after = decode_whole(small, latents[0]), decode_whole(large, latents[0])
    assert after.shape == (3, 5, 48, 48)
    torch.testing.assert_close(functional.avg_pool2d(after, 6), functional.avg_pool2d(before, 2), rtol=0.05, atol=0.05)


def test_patches_that_are_no_multiple_average_what_they_cover() -> None:
    torch.manual_seed(0)
    small = build_video_vae(TINY).eval()
    large = build_video_vae({**TINY, "patch_size": 3}).eval()
    large.load_state_dict(with_patch_size(small.state_dict(), 3))
    grey = torch.rand(1, 3, 1, 1, 1) - 0.5
    latents = [encode(vae, grey.expand(1, 3, 1, side, side)) for vae, side in ((small, 16), (large, 24))]
    torch.testing.assert_close(latents[0], latents[1], rtol=1e-4, atol=1e-5)
    ramp = torch.linspace(-1, 1, 48)
    fine = functional.avg_pool1d(ramp[None, None], 2)[0, 0].expand(1, 3, 1, 24, 24)
    coarse = functional.avg_pool1d(ramp[None, None], 3)[0, 0].expand(1, 3, 1, 16, 16)
    torch.testing.assert_close(encode(large, fine), encode(small, coarse), rtol=0.02, atol=5e-3)


def test_the_same_size_changes_nothing() -> None:
    weights = build_video_vae(TINY).state_dict()
    same = with_patch_size(weights, 2)
    assert all(torch.equal(same[name], tensor) for name, tensor in weights.items())
