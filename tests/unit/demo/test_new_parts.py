"""A bundle whose video VAE has fewer parts is trained further: what it has stays."""

import pytest
import torch

from ovi_studio.demo.dimensions import DIMENSIONS
from ovi_studio.demo.new_parts import with_new_parts
from ovi_studio.models.video_vae import build_video_vae, encode

FINE = {**DIMENSIONS["video_vae"], "dim": 4, "dec_dim": 2}
COARSE = {name: value for name, value in FINE.items() if name != "refiner"} | {"dec_dim_mult": [3, 6, 6]}
RANDOM = (
    "decoder.up_blocks.3.",
    "decoder.up_blocks.2.upsampler.",
    "decoder.norm_out.",
    "decoder.conv_out.",
    "refiner.",
)

KINDS = ("refiner.kinds.", "refiner.modulation.")


def test_all_but_the_last_level_and_the_refiner_stays() -> None:
    old, new = build_video_vae(COARSE), build_video_vae(FINE)
    new.load_state_dict(with_new_parts(old.state_dict(), FINE))
    kept = old.state_dict()
    for name, tensor in new.state_dict().items():
        assert name.startswith(RANDOM) or torch.equal(tensor, kept[name]), name
    video = torch.rand(1, 3, 5, 48, 48) * 2 - 1
    assert torch.equal(encode(old, video), encode(new, video))


def test_a_refiner_that_knows_no_kinds_learns_them_and_draws_as_before() -> None:
    weights = build_video_vae(FINE).state_dict()
    older = {name: tensor for name, tensor in weights.items() if not name.startswith(KINDS)}
    same = with_new_parts(older, FINE)
    assert same.keys() == weights.keys()
    assert all(torch.equal(same[name], tensor) for name, tensor in older.items())
    assert not same["refiner.modulation.weight"].any()


def test_a_video_vae_that_has_all_parts_stays() -> None:
    weights = build_video_vae(FINE).state_dict()
    same = with_new_parts(weights, FINE)
    assert same.keys() == weights.keys()
    assert all(torch.equal(same[name], tensor) for name, tensor in weights.items())


def test_other_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"encoder\.conv_in\.weight"):
        with_new_parts(build_video_vae({**COARSE, "dim": 8}).state_dict(), FINE)
