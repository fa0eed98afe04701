"""From noise to latents: the number of model calls, guidance, and stopping."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ovi_studio.core.errors import JobError, Stopped
from ovi_studio.core.solvers import SOLVERS
from ovi_studio.models.transformer import OviTransformer, Pass
from ovi_studio.sampling.denoise import Latents, Schedule, Step, denoise, draw_noise
from ovi_studio.sampling.guidance import Guidance, guided_velocity
from ovi_studio.sampling.solvers import advance, build_scheduler, timesteps

VIDEO, AUDIO = (8, 3, 4, 4), (11, 20)
NOISELESS = [solver for solver in SOLVERS if solver != "restart"]
"""Solvers that are deterministic for given noise."""
CPU = torch.device("cpu")


@pytest.fixture
def model(tiny_dimensions: dict[str, Any]) -> OviTransformer:
    torch.manual_seed(0)
    return OviTransformer(**tiny_dimensions["fusion"]).eval().requires_grad_(False)


@pytest.fixture
def calls(model: OviTransformer, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return a list that collects the model calls of every step."""
    seen: list[dict[str, Any]] = []
    velocities = model.velocities

    def watched(*inputs: Any, **options: Any) -> Any:
        seen.append(dict(zip(("video", "audio", "timestep", "passes"), inputs, strict=True)) | options)
        return velocities(*inputs, **options)

    monkeypatch.setattr(model, "velocities", watched)
    return seen


def random(*size: int, seed: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def guidance(model: OviTransformer, video: float = 4.0, audio: float = 3.0, skip: int | None = 1) -> Guidance:
    positive, video_negative, audio_negative = (random(1, 5, 16, seed=seed) for seed in (1, 2, 3))
    guided = video != 1 or audio != 1
    return Guidance(
        positive=model.prepare_text(positive, positive),
        negative=model.prepare_text(video_negative, audio_negative) if guided else None,
        video_scale=video,
        audio_scale=audio,
        skip_block=skip,
    )


def noise(seed: int = 5) -> Latents:
    return draw_noise(VIDEO, AUDIO, seed, CPU, torch.float32)


def first_frame() -> Tensor:
    return random(8, 1, 4, 4, seed=9)


# Noise


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_stream_is_drawn_from_its_own_generator_with_the_seed(dtype: torch.dtype) -> None:
    drawn = draw_noise(VIDEO, AUDIO, 103, CPU, dtype)
    for latents, shape in ((drawn.video, VIDEO), (drawn.audio, AUDIO)):
        expected = torch.randn(shape, generator=torch.Generator().manual_seed(103), dtype=dtype)
        assert torch.equal(latents, expected.float())
        assert latents.dtype == torch.float32


def test_drawing_noise_does_not_change_the_global_generator() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    noise()
    assert torch.equal(torch.rand(3), expected)


# Guidance


def velocity(model: OviTransformer, steering: Guidance) -> tuple[Tensor, Tensor]:
    start = noise()
    timestep = torch.tensor([600.0])
    return guided_velocity(
        model, start.video.unsqueeze(0), start.audio.unsqueeze(0), timestep, steering, clean_first_frame=False
    )


def test_each_tower_moves_away_from_the_negative_pass_by_its_own_scale(model: OviTransformer) -> None:
    steering = guidance(model, video=4.0, audio=3.0)
    start, timestep = noise(), torch.tensor([600.0])
    inputs = start.video.unsqueeze(0), start.audio.unsqueeze(0), timestep
    towards = model(*inputs, steering.positive)
    away = model(*inputs, steering.negative, skip_block=1)
    result = velocity(model, steering)
    torch.testing.assert_close(result[0], away[0] + 4 * (towards[0] - away[0]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(result[1], away[1] + 3 * (towards[1] - away[1]), rtol=1e-4, atol=1e-5)


def test_a_tower_with_scale_1_follows_the_positive_pass_alone(model: OviTransformer) -> None:
    positive = velocity(model, guidance(model, video=1, audio=1))
    only_audio = velocity(model, guidance(model, video=1, audio=3))
    assert torch.equal(only_audio[0], positive[0])
    assert not torch.allclose(only_audio[1], positive[1], atol=1e-3)
    only_video = velocity(model, guidance(model, video=4, audio=1))
    assert torch.equal(only_video[1], positive[1])
    assert not torch.allclose(only_video[0], positive[0], atol=1e-3)


def test_a_tower_with_scale_0_follows_the_negative_pass_alone(model: OviTransformer) -> None:
    steering = guidance(model, video=0, audio=0)
    start = noise()
    inputs = start.video.unsqueeze(0), start.audio.unsqueeze(0), torch.tensor([600.0])
    away = model(*inputs, steering.negative, skip_block=1)
    for result, expected in zip(velocity(model, steering), away, strict=True):
        assert torch.equal(result, expected)


def test_a_block_is_skipped_only_in_the_negative_pass(model: OviTransformer, calls: list[dict[str, Any]]) -> None:
    steering = guidance(model, skip=1)
    velocity(model, steering)
    assert [call["passes"] for call in calls] == [[Pass(steering.positive), Pass(steering.negative, 1)]]


def test_both_passes_go_from_block_to_block_together(model: OviTransformer) -> None:
    served: list[int] = []
    for block in model.fusion_blocks:
        block.register_forward_pre_hook(lambda _, inputs: served.append(len(inputs[0])))
    velocity(model, guidance(model, skip=1))
    expected = [2] * len(model.fusion_blocks)
    expected[1] = 1
    assert served == expected


# The loop


@pytest.mark.parametrize(("video", "audio", "count"), [(1.0, 1.0, 1), (1.0, 3.0, 2), (4.0, 1.0, 2), (4.0, 3.0, 2)])
def test_a_step_computes_the_negative_pass_only_if_it_changes_something(
    model: OviTransformer, calls: list[dict[str, Any]], video: float, audio: float, count: int
) -> None:
    denoise(model, noise(), guidance(model, video, audio), Schedule("unipc", 3, 5.0))
    assert [len(call["passes"]) for call in calls] == [count] * 3


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_any_number_of_steps_gives_finite_latents(model: OviTransformer, solver: str, steps: int) -> None:
    result = denoise(model, noise(), guidance(model), Schedule(solver, steps, 5.0))
    assert result.video.shape == VIDEO
    assert result.audio.shape == AUDIO
    assert result.video.isfinite().all()
    assert result.audio.isfinite().all()
    assert not torch.allclose(result.video, noise().video)


def test_every_solver_that_can_be_named_is_another_one() -> None:
    schedulers = [build_scheduler(solver, 4, 5.0) for solver in SOLVERS]
    assert len({type(scheduler) for scheduler in schedulers}) == len(SOLVERS)


@pytest.mark.parametrize("solver", ["ddim", "UniPC", "", None])
def test_a_solver_that_is_not_known_is_refused_with_the_names_there_are(solver: Any) -> None:
    with pytest.raises(JobError, match=r"Unknown solver .*; choose one of unipc, euler, dpm\+\+, restart\.$"):
        build_scheduler(solver, 4, 5.0)


@pytest.mark.parametrize("solver", NOISELESS)
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_a_solver_reaches_the_end_of_a_straight_way_in_any_number_of_steps(solver: str, steps: int) -> None:
    start, end = random(1, 100, seed=1), random(1, 100, seed=2)
    scheduler = build_scheduler(solver, steps, 5.0)
    latents = start
    for _ in timesteps(scheduler):
        latents = advance(scheduler, start - end, latents)
    # The official UniPC grid does not begin at pure noise, which leaves 0.0002 of it.
    torch.testing.assert_close(latents, end, rtol=0, atol=2e-3)


TIMESTEPS = (1000.0, 750.0, 500.0, 250.0)


@pytest.mark.parametrize("solver", NOISELESS)
def test_explicit_timesteps_reach_the_end_of_a_straight_way(solver: str) -> None:
    start, end = random(1, 100, seed=1), random(1, 100, seed=2)
    # A shift would move the grid; explicit timesteps stay where they are.
    scheduler = build_scheduler(solver, 4, 5.0, TIMESTEPS)
    assert list(timesteps(scheduler)) == list(TIMESTEPS)
    latents = start
    for timestep in timesteps(scheduler):
        sigma = timestep / 1000
        torch.testing.assert_close(latents, sigma * start + (1 - sigma) * end, rtol=0, atol=5e-3)
        latents = advance(scheduler, start - end, latents)
    torch.testing.assert_close(latents, end, rtol=0, atol=5e-3)


def test_restart_predicts_the_clean_latents_and_adds_fresh_noise() -> None:
    fresh = iter([random(1, 10, seed=20 + index) for index in range(3)])
    added: list[Tensor] = []
    scheduler = build_scheduler("restart", 4, 1.0, TIMESTEPS, lambda _: added.append(next(fresh)) or added[-1])
    latents, velocity = random(1, 10, seed=1), random(1, 10, seed=2)
    for index, sigma in enumerate([1.0, 0.75, 0.5, 0.25]):
        clean = latents - sigma * velocity
        latents = advance(scheduler, velocity, latents)
        following = [0.75, 0.5, 0.25, 0.0][index]
        expected = (1 - following) * clean + (following * added[index] if following else 0)
        torch.testing.assert_close(latents, expected, rtol=1e-5, atol=1e-5)
    assert len(added) == 3


def test_restart_is_reproducible_and_draws_other_noise_for_each_stream_seed_and_step(model: OviTransformer) -> None:
    for name, parameter in model.named_parameters():
        if ".head.head." in name:
            parameter.zero_()  # the velocity is zero: a step is (1 - sigma) * latents + sigma * noise

    def drawn(seed: int) -> list[Tensor]:
        steps: list[Latents] = [noise()]
        schedule = Schedule("restart", 4, 1.0, TIMESTEPS, seed)
        denoise(model, noise(), guidance(model, 1, 1), schedule, on_step=lambda step: steps.append(step.latents))
        sigmas = (0.75, 0.5, 0.25)
        found = []
        for before, after, sigma in zip(steps, steps[1:], sigmas, strict=False):
            found += [
                (getattr(after, name) - (1 - sigma) * getattr(before, name)) / sigma for name in ("video", "audio")
            ]
        return found

    first = drawn(7)
    assert all(torch.equal(one, other) for one, other in zip(first, drawn(7), strict=True))
    everything = [noise(7).video, noise(7).audio, noise(8).video, noise(8).audio, *first, *drawn(8)]
    for index, one in enumerate(everything):
        assert one.std().item() == pytest.approx(1, abs=0.15)
        for other in everything[index + 1 :]:
            count = min(one.numel(), other.numel())
            # The official initial noise of both streams begins alike, which is as it must be.
            if index < 4 and other is everything[index ^ 1]:
                continue
            assert not torch.allclose(one.flatten()[:count], other.flatten()[:count], atol=0.1)


def test_a_hook_before_a_step_can_replace_its_guidance(model: OviTransformer, calls: list[dict[str, Any]]) -> None:
    first, second = guidance(model, 1, 1), guidance(model, 1, 1)
    denoise(model, noise(), first, Schedule("euler", 3, 5.0), before_step=lambda index: second if index == 1 else None)
    assert [call["passes"][0].text for call in calls] == [first.positive, second.positive, second.positive]


def test_the_model_is_asked_at_the_solvers_timesteps_from_noise_to_clean(
    model: OviTransformer, calls: list[dict[str, Any]]
) -> None:
    denoise(model, noise(), guidance(model, 1, 1), Schedule("euler", 4, 5.0))
    asked = [entry["timestep"].item() for entry in calls]
    assert asked == pytest.approx(timesteps(build_scheduler("euler", 4, 5.0)))
    assert asked == sorted(asked, reverse=True)


@pytest.mark.parametrize("solver", NOISELESS)
def test_latents_are_not_rounded_to_the_models_dtype_between_steps(model: OviTransformer, solver: str) -> None:
    model = torch.nn.Module.to(model, torch.bfloat16)
    for name, parameter in model.named_parameters():
        if ".head.head." in name:
            parameter.zero_()  # the velocity is zero: the latents stay what they are
    text = model.prepare_text(*(random(1, 5, 16, seed=seed).bfloat16() for seed in (1, 2)))
    result = denoise(model, noise(), Guidance(text, None, 1, 1, None), Schedule(solver, 5, 5.0))
    torch.testing.assert_close(result.video, noise().video, rtol=0, atol=1e-5)
    torch.testing.assert_close(result.audio, noise().audio, rtol=0, atol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_first_frame_stands_before_every_step_and_at_the_end(
    model: OviTransformer, calls: list[dict[str, Any]], solver: str
) -> None:
    given = first_frame()
    result = denoise(model, noise(), guidance(model), Schedule(solver, 3, 5.0), first_frame=given)
    assert torch.equal(result.video[:, :1], given)
    assert not torch.allclose(result.video[:, 1:2], given, atol=1e-2)
    assert len(calls) == 3
    for entry in calls:
        assert torch.equal(entry["video"][0, :, :1], given)
        assert entry["clean_first_frame"] is True


def test_without_a_first_frame_none_is_said_to_be_clean(model: OviTransformer, calls: list[dict[str, Any]]) -> None:
    denoise(model, noise(), guidance(model), Schedule("unipc", 2, 5.0))
    assert [entry["clean_first_frame"] for entry in calls] == [False] * 2


def test_the_noise_is_not_overwritten(model: OviTransformer) -> None:
    start = noise()
    denoise(model, start, guidance(model), Schedule("unipc", 2, 5.0), first_frame=first_frame())
    assert torch.equal(start.video, noise().video)
    assert torch.equal(start.audio, noise().audio)


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_step_is_reported_once_with_its_latents(model: OviTransformer, solver: str) -> None:
    seen: list[Step] = []
    result = denoise(model, noise(), guidance(model), Schedule(solver, 4, 5.0), on_step=seen.append)
    assert [(step.index, step.total) for step in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert torch.equal(seen[-1].latents.video, result.video)
    assert torch.equal(seen[-1].latents.audio, result.audio)
    assert not torch.equal(seen[-2].latents.video, result.video)


def test_a_report_that_raises_ends_the_run_at_once(model: OviTransformer, calls: list[dict[str, Any]]) -> None:
    def stop(step: Step) -> None:
        if step.index == 2:
            raise Stopped

    with pytest.raises(Stopped):
        denoise(model, noise(), guidance(model), Schedule("unipc", 50, 5.0), on_step=stop)
    assert len(calls) == 2
