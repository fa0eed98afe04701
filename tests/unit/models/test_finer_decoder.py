"""A decoder with more levels than the encoder draws the same latents in finer patches, each frame by itself."""

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, unpatchify

from ovi_studio.core.variants import decoder_levels, latent_stride
from ovi_studio.models.video_vae import build_video_vae, decode_whole, encode

MULTIPLIERS = [1, 1, 2, 4, 4]


@pytest.fixture
def vae(tiny_dimensions: dict[str, Any]) -> AutoencoderKLWan:
    torch.manual_seed(0)
    return build_video_vae(tiny_dimensions["video_vae"] | {"dec_dim_mult": MULTIPLIERS}).eval().requires_grad_(False)


def random_latents() -> torch.Tensor:
    return torch.randn(8, 3, 5, 4, generator=torch.Generator().manual_seed(1))


def test_clips_equal_those_of_the_librarys_layers(vae: AutoencoderKLWan) -> None:
    latents = random_latents()
    mean, std = (torch.tensor(vae.config[name]).view(-1, 1, 1, 1) for name in ("latents_mean", "latents_std"))
    frames = vae.post_quant_conv((latents * std + mean).unsqueeze(0)).split(1, dim=2)
    past = [None] * sum(isinstance(layer, WanCausalConv3d) for layer in vae.decoder.modules())
    pieces = [vae.decoder(frame, past, [0], first_chunk=index == 0) for index, frame in enumerate(frames)]
    expected = unpatchify(torch.cat(pieces, dim=2), 1)[0].clamp(-1, 1)
    decoded = decode_whole(vae, latents)
    assert decoded.shape == (3, 9, 5 * 16, 4 * 16)
    torch.testing.assert_close(decoded, expected, rtol=0, atol=1e-5)


def test_tiles_equal_the_whole(vae: AutoencoderKLWan) -> None:
    latents = random_latents()
    torch.testing.assert_close(decode_whole(vae, latents, 2), decode_whole(vae, latents), rtol=0, atol=1e-5)


def test_the_encoder_stays(vae: AutoencoderKLWan, tiny_dimensions: dict[str, Any]) -> None:
    torch.manual_seed(0)
    plain = build_video_vae(tiny_dimensions["video_vae"])
    video = torch.rand(1, 3, 5, 32, 32)
    assert torch.equal(encode(vae, video), encode(plain, video))


def test_the_levels_of_a_decoder_divide_the_patches(tiny_dimensions: dict[str, Any]) -> None:
    config = tiny_dimensions["video_vae"]
    assert decoder_levels(config) == (config["dim_mult"], config["patch_size"])
    finer = {"patch_size": 6, "dim_mult": [1, 2, 2], "dec_dim_mult": [4, 3, 6, 6]}
    assert decoder_levels(finer) == ([4, 3, 6, 6], 3)
    assert latent_stride(finer) == 24
    for wrong in ([4, 3], [1, 4, 3, 6, 6]):
        with pytest.raises(ValueError, match="levels do"):
            decoder_levels(finer | {"dec_dim_mult": wrong})
