"""A refiner redraws the frames of a decoded clip, all as the kind of object that most of them show."""

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from ovi_studio.models.refiner import Refiner
from ovi_studio.models.video_vae import build_video_vae, decode, decode_whole

KINDS = 3


def refiner(*widths: int) -> Refiner:
    """A refiner whose corrections are large, and differ between kinds."""
    torch.manual_seed(0)
    made = Refiner(widths, KINDS).eval().requires_grad_(False)
    nn.init.normal_(made.out.weight)
    nn.init.normal_(made.modulation.weight)
    return made


def frames(count: int, side: int = 16) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def kind(number: int) -> Tensor:
    return nn.functional.one_hot(torch.tensor([number]), KINDS).float()


def votes(model: Refiner, *kinds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the frames of the next clip that vote say that they show these kinds."""
    said = iter(kinds)
    monkeypatch.setattr(model, "score", lambda seen: torch.cat([5 * kind(next(said)) for _ in range(len(seen[-1]))]))


def thrice(model: Refiner, clip: Tensor, kind: Tensor) -> Tensor:
    for _ in range(3):
        clip = model.redraw(clip, kind)
    return clip


def test_every_frame_is_redrawn_as_the_kind_of_most_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    model, clip = refiner(4, 4, 4), frames(20)
    votes(model, *3 * [0], *4 * [2], monkeypatch=monkeypatch)
    expected = thrice(model, clip, kind(2))
    torch.testing.assert_close(model(clip), expected, rtol=0, atol=1e-5)
    assert (thrice(model, clip, kind(0)) - expected).abs().mean() > 0.05


def test_a_frame_that_is_sure_counts_more() -> None:
    model = refiner(4, 4, 4)
    doubtful, sure = torch.tensor([[0.1, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 9.0]])
    assert torch.equal(model.vote(torch.cat((doubtful, doubtful, sure))), kind(2))


def test_one_kind_for_all_frames_is_that_kind_for_each() -> None:
    model, clip = refiner(4, 4, 4), frames(3)
    each = model.redraw(clip, kind(2).expand(len(clip), -1))
    torch.testing.assert_close(model.redraw(clip, kind(2)), each, rtol=0, atol=1e-5)


def test_corrections_of_another_number_format_leave_frames_in_theirs() -> None:
    torch.manual_seed(0)
    model, clip = Refiner([4, 4, 4], KINDS).requires_grad_(False), frames(3)
    nn.init.zeros_(model.out.weight)
    nn.init.zeros_(model.out.bias)
    assert torch.equal(model.bfloat16()(clip), clip)


def test_an_untrained_one_hardly_changes_a_frame_and_draws_all_kinds_alike() -> None:
    torch.manual_seed(0)
    model, clip = Refiner([4, 4, 4], KINDS), frames(2)
    drawn = [model.redraw(clip, kind(number)) for number in range(KINDS)]
    assert (drawn[0] - clip).abs().max() < 0.05
    assert all(torch.equal(drawn[0], one) for one in drawn)


def test_a_decoded_clip_is_refined_as_a_whole_also_from_tiles(tiny_dimensions: dict[str, Any]) -> None:
    vae = vae_with(refiner(4, 4, 4), tiny_dimensions)
    latents = torch.randn(8, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    refined = decode_whole(vae, latents)
    patches = torch.cat([patch.pixels for patch in decode(vae, latents)], dim=1)
    assert torch.equal(decode_whole(vae, latents, refined=False), patches)
    expected = vae.refiner(patches.transpose(0, 1)).clamp(-1, 1).transpose(0, 1)
    assert (refined - patches).abs().mean() > 0.05
    torch.testing.assert_close(refined, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(decode_whole(vae, latents, 2), refined, rtol=0, atol=1e-4)


def vae_with(model: Refiner, dimensions: dict[str, Any]) -> AutoencoderKLWan:
    torch.manual_seed(0)
    config = dimensions["video_vae"] | {"refiner": {"widths": [4, 4, 4], "kinds": KINDS}}
    vae = build_video_vae(config).eval().requires_grad_(False)
    vae.refiner.load_state_dict(model.state_dict())
    return vae
