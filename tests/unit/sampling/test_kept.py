"""Kept latents: put back at each step's noise level, exact at the end, and what is made depends on them."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ovi_studio.core.solvers import SOLVERS
from ovi_studio.sampling.denoise import Latents, Schedule, Step, denoise, draw_noise
from ovi_studio.sampling.guidance import Guidance
from ovi_studio.sampling.kept import Kept, KeptStream

FRAMES, LENGTH = 4, 6
VIDEO, AUDIO = (3, FRAMES, 2, 4), (LENGTH, 5)
GUIDANCE = Guidance(positive=None, negative=None, video_scale=1, audio_scale=1, skip_block=None)  # type: ignore[arg-type]
CPU = torch.device("cpu")


def noise(seed: int = 1) -> Latents:
    return draw_noise(VIDEO, AUDIO, seed, CPU, torch.float32)


def clean() -> Latents:
    return Latents(noise(2).video * 2 + 1, noise(2).audio * 2 - 1)


def kept(frames: list[bool], length: list[bool], **options: Any) -> Kept:
    source = clean()
    return Kept(KeptStream.of_video(source.video, frames), KeptStream.of_audio(source.audio, length), **options)


class LinearModel:
    """A model whose velocity is linear in both streams, which sees one stream in the other."""

    dtype = torch.float32

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor, float]] = []

    def velocities(self, video: Tensor, audio: Tensor, timestep: Tensor, passes: Any, **_: Any) -> list[Any]:
        self.seen.append((video[0].clone(), audio[0].clone(), float(timestep)))
        return [(0.5 * video + audio.mean(), 0.5 * audio + video.mean())]


SOME, OTHERS = [True, False, False, True], [False, True, True, False, False, True]


def noise_level(solver: str, index: int, steps: int, shift: float) -> float:
    """The grid of the official code: even, then shifted; UniPC starts just below 1, Euler's last is above 0."""
    end = shift * 0.001 / (1 + (shift - 1) * 0.001)
    if solver == "euler":
        even = 1 - (1 - end) * index / (steps - 1)
    else:
        even = (0.999 if solver == "unipc" else 1.0) * (1 - index / steps)
    return shift * even / (1 + (shift - 1) * even)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("shift", [1.0, 5.0])
def test_the_model_sees_what_is_kept_at_the_noise_level_of_each_step(solver: str, shift: float) -> None:
    model, source, start = LinearModel(), clean(), noise()
    denoise(model, start, GUIDANCE, Schedule(solver, 5, shift), kept=kept(SOME, OTHERS))
    assert len(model.seen) == 5
    for index, (video, audio, timestep) in enumerate(model.seen):
        sigma = noise_level(solver, index, 5, shift)
        assert timestep == pytest.approx(1000 * sigma, abs=1)
        expected = (1 - sigma) * source.video + sigma * start.video
        torch.testing.assert_close(video[:, SOME], expected[:, SOME], rtol=0, atol=1e-5)
        expected = (1 - sigma) * source.audio + sigma * start.audio
        torch.testing.assert_close(audio[OTHERS], expected[OTHERS], rtol=0, atol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("resamples", [0, 2])
def test_what_is_kept_is_equal_to_the_bit_and_the_rest_is_not(solver: str, resamples: int) -> None:
    source = clean()
    made = denoise(
        LinearModel(), noise(), GUIDANCE, Schedule(solver, 4, 5.0), kept=kept(SOME, OTHERS, resamples=resamples)
    )
    assert torch.equal(made.video[:, SOME], source.video[:, SOME])
    assert torch.equal(made.audio[OTHERS], source.audio[OTHERS])
    others = [not one for one in SOME], [not one for one in OTHERS]
    assert ((made.video - source.video)[:, others[0]].abs() > 1e-3).all(dim=0).any()
    assert (made.audio - source.audio)[others[1]].abs().max() > 0.1


def test_what_is_made_depends_on_what_is_kept() -> None:
    schedule = Schedule("euler", 4, 5.0)
    one = denoise(LinearModel(), noise(), GUIDANCE, schedule, kept=kept([True] * 4, [False] * 6))
    other = Kept(KeptStream.of_video(clean().video + 1, [True] * 4))
    assert not torch.allclose(
        one.audio, denoise(LinearModel(), noise(), GUIDANCE, schedule, kept=other).audio, atol=0.1
    )


def test_nothing_kept_is_the_same_as_no_source() -> None:
    schedule = Schedule("unipc", 4, 5.0)
    plain = denoise(LinearModel(), noise(), GUIDANCE, schedule)
    same = denoise(LinearModel(), noise(), GUIDANCE, schedule, kept=kept([False] * 4, [False] * 6))
    assert torch.equal(plain.video, same.video)
    assert torch.equal(plain.audio, same.audio)


@pytest.mark.parametrize(("strength", "steps"), [(1.0, 10), (0.5, 5), (0.25, 2), (0.01, 1)])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_strength_makes_the_last_steps_from_the_source_at_their_noise_level(
    solver: str, strength: float, steps: int
) -> None:
    model, seen = LinearModel(), []
    part = kept([False] * 4, [False] * 6, strength=strength)
    made = denoise(model, noise(), GUIDANCE, Schedule(solver, 10, 1.0), kept=part, on_step=seen.append)
    assert [(step.index, step.total) for step in seen] == [(index + 1, steps) for index in range(steps)]
    assert len(model.seen) == steps
    sigma = noise_level(solver, 10 - steps, 10, 1.0)
    expected = noise().video if strength == 1 else (1 - sigma) * clean().video + sigma * noise().video
    torch.testing.assert_close(model.seen[0][0], expected, rtol=0, atol=1e-5)
    assert model.seen[0][2] == pytest.approx(1000 * sigma, abs=1)
    assert torch.isfinite(made.video).all()


def test_a_weaker_start_stays_nearer_to_the_source() -> None:
    source, distances = clean(), []
    for strength in (0.2, 0.5, 0.8):
        part = kept([False] * 4, [False] * 6, strength=strength)
        made = denoise(LinearModel(), noise(), GUIDANCE, Schedule("euler", 10, 1.0), kept=part)
        distances.append(float((made.video - source.video).square().mean()))
    assert distances == sorted(distances)


class PairedModel:
    """The exact velocity for pairs of numbers, in neighbouring columns, that are normal with a correlation of 0.9."""

    dtype = torch.float32
    correlation = 0.9

    def __init__(self) -> None:
        self.steps: list[float] = []

    def velocities(self, video: Tensor, audio: Tensor, timestep: Tensor, passes: Any, **_: Any) -> list[Any]:
        t = float(timestep) / 1000
        pairs = video.unflatten(-1, (-1, 2))
        joint = torch.tensor([[1, self.correlation], [self.correlation, 1]])
        clean_part = (1 - t) * joint @ torch.linalg.inv((1 - t) ** 2 * joint + t**2 * torch.eye(2))
        x0 = (pairs @ clean_part.T).flatten(-2)
        return [((video - x0) / max(t, 1e-4), audio * 0)]


def paired(resamples: int) -> float:
    """Mean distance of the made columns from their expectation, given the kept columns."""
    shape = (1, 2, 100, 2)
    generator = torch.Generator().manual_seed(3)
    source = torch.randn(shape, generator=generator)
    start = draw_noise(shape, (2, 2), 4, CPU, torch.float32)
    stream = KeptStream(source, torch.tensor([True, False]).view(1, 1, 1, 2))
    part = Kept(stream, resamples=resamples)
    made = denoise(PairedModel(), start, GUIDANCE, Schedule("euler", 20, 1.0), kept=part)  # type: ignore[arg-type]
    assert torch.equal(made.video[..., 0], source[..., 0])
    return float((made.video[..., 1] - PairedModel.correlation * source[..., 0]).square().mean())


def test_what_is_made_fits_to_what_is_kept_and_resampling_improves_it() -> None:
    # The exact conditional distribution has a variance of 1 - 0.81 = 0.19 around its mean; independent values, 1.81.
    plain, resampled = paired(0), paired(5)
    assert plain < 0.9
    assert resampled < 0.3
    assert resampled > 0.15


def test_a_first_frame_stays_in_front_of_a_kept_end() -> None:
    frame = torch.full((3, 1, 2, 4), 7.0)
    part = kept([False, False, False, True], [False] * 6)
    made = denoise(LinearModel(), noise(), GUIDANCE, Schedule("unipc", 3, 5.0), kept=part, first_frame=frame)
    assert torch.equal(made.video[:, :1], frame)
    assert torch.equal(made.video[:, 3], clean().video[:, 3])


def test_resampled_steps_count_as_one_and_their_passes_as_many() -> None:
    seen: list[Step] = []
    part = kept(SOME, OTHERS, resamples=2)
    model = LinearModel()
    denoise(model, noise(), GUIDANCE, Schedule("euler", 3, 5.0), kept=part, on_step=seen.append)
    assert [(step.index, step.video_passes) for step in seen] == [(1, 3), (2, 3), (3, 3)]
    assert len(model.seen) == 9


def test_the_same_seed_resamples_the_same_and_another_does_not() -> None:
    part = kept(SOME, OTHERS, resamples=1)
    made = [
        denoise(LinearModel(), noise(), GUIDANCE, Schedule("euler", 3, 5.0, seed=seed), kept=part) for seed in (5, 5, 6)
    ]
    assert torch.equal(made[0].video, made[1].video)
    assert not torch.equal(made[0].video, made[2].video)
