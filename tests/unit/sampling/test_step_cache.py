"""Steps that reuse what guidance added before: what they compute, and what they leave out."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from known_shapes import KnownShapes
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ovi_studio.bench.steps import random_inputs, shapes
from ovi_studio.core.solvers import SOLVERS
from ovi_studio.core.step_caches import OFF, STEP_CACHES, StepCache
from ovi_studio.distributed import pass_layout
from ovi_studio.models.audio_branch import AudioBranch
from ovi_studio.models.token_layout import UNSHARDED
from ovi_studio.models.transformer import OviTransformer, Pass, TextContext
from ovi_studio.sampling.denoise import Latents, Schedule, Step, denoise, draw_noise
from ovi_studio.sampling.guidance import Guidance, GuidanceCache, guided_velocity
from ovi_studio.sampling.solvers import advance, build_scheduler, timesteps

VIDEO, AUDIO = (8, 3, 4, 4), (11, 20)
FAST = STEP_CACHES["fast"]
HALVES = StepCache("halves", "Halves", "for few steps", interval=0.5)
"""Of eight steps the first four and the last one compute both passes."""


@pytest.fixture
def model(tiny_dimensions: dict[str, Any]) -> OviTransformer:
    return build(tiny_dimensions["fusion"])


@pytest.fixture
def one_block(tiny_dimensions: dict[str, Any]) -> OviTransformer:
    return build({tower: {**sizes, "num_layers": 1} for tower, sizes in tiny_dimensions["fusion"].items()})


def build(dimensions: dict[str, Any]) -> OviTransformer:
    torch.manual_seed(0)
    return OviTransformer(**dimensions).eval().requires_grad_(False)


def random(*size: int, seed: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def text(model: OviTransformer, video: int, audio: int) -> TextContext:
    return model.prepare_text(random(1, 5, 16, seed=video), random(1, 5, 16, seed=audio))


def guidance(model: OviTransformer, *, video: float = 4.0, audio: float = 3.0, audio_negative: int = 3) -> Guidance:
    guided = video != 1 or audio != 1
    return Guidance(
        positive=text(model, 1, 1),
        negative=text(model, 2, audio_negative) if guided else None,
        video_scale=video,
        audio_scale=audio,
        skip_block=1,
    )


def noise() -> Latents:
    return draw_noise(VIDEO, AUDIO, 5, torch.device("cpu"), torch.float32)


def latents() -> tuple[Tensor, Tensor, Tensor]:
    """A batch of video, audio and timestep."""
    return noise().video.unsqueeze(0), noise().audio.unsqueeze(0), torch.tensor([600.0])


def watch_passes(model: OviTransformer, monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Pass]]:
    """Return a list that collects the passes of every step."""
    seen: list[Sequence[Pass]] = []
    velocities = model.velocities

    def watched(video: Tensor, audio: Tensor, timestep: Tensor, passes: Sequence[Pass], **options: Any) -> Any:
        seen.append(passes)
        return velocities(video, audio, timestep, passes, **options)

    monkeypatch.setattr(model, "velocities", watched)
    return seen


def equal(one: Latents, other: Latents) -> bool:
    return torch.equal(one.video, other.video) and torch.equal(one.audio, other.audio)


# Off


@pytest.mark.slow
@pytest.mark.parametrize("solver", [solver for solver in SOLVERS if solver != "restart"])
def test_without_a_cache_every_step_mixes_two_whole_passes_bit_for_bit(model: OviTransformer, solver: str) -> None:
    given, schedule = guidance(model), Schedule(solver, 6, 5.0)
    solvers = [build_scheduler(solver, 6, 5.0) for _ in range(2)]
    state = [noise().video.unsqueeze(0), noise().audio.unsqueeze(0)]
    for timestep in timesteps(solvers[0]):
        inputs = (*state, torch.tensor([float(timestep)]))
        away, towards = model(*inputs, given.negative, skip_block=1), model(*inputs, given.positive)
        mixed = [torch.lerp(*pair) for pair in zip(away, towards, (4.0, 3.0), strict=True)]
        state = [advance(*each) for each in zip(solvers, mixed, state, strict=True)]
    result = denoise(model, noise(), given, schedule)
    assert torch.equal(result.video, state[0][0])
    assert torch.equal(result.audio, state[1][0])


def test_without_guidance_a_cache_changes_nothing(model: OviTransformer) -> None:
    given = guidance(model, video=1, audio=1)
    results = [
        denoise(model, noise(), given, Schedule("unipc", 8, 5.0, cache=cache)) for cache in (STEP_CACHES[OFF], HALVES)
    ]
    assert all(equal(result, results[0]) for result in results)


# What is computed


@pytest.mark.slow
def test_the_rule_decides_which_steps_compute_both_passes(
    model: OviTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, reported = watch_passes(model, monkeypatch), list[Step]()
    given = guidance(model)
    denoise(model, noise(), given, Schedule("unipc", 50, 5.0, cache=FAST), on_step=reported.append)
    both = [Pass(given.positive), Pass(given.negative, 1)]
    reuses = [Pass(given.positive, audio_branch=AudioBranch(given.negative.audio, 1))]
    assert seen == [both if FAST.computes_both_passes(step, 50) else reuses for step in range(50)]
    assert [step.video_passes for step in reported] == [len(passes) for passes in seen]
    assert 100 / sum(step.video_passes for step in reported) >= 1.5


@pytest.mark.slow
def test_a_step_that_reuses_costs_one_pass_and_the_audio_of_another() -> None:
    """Counted on the full-size towers with two blocks, for 5 seconds at 704x704."""
    shape = shapes()["704x704_5s"]
    with torch.device("meta"):
        model = OviTransformer(**{tower: {**sizes, "num_layers": 2} for tower, sizes in shape.fusion.items()})
    *inputs, context = random_inputs(model, shape, torch.device("meta"), torch.float32)

    def operations(*passes: Pass) -> int:
        with FlopCounterMode(display=False) as counter:
            model.velocities(*inputs, passes)
        return counter.get_total_flops()

    one, two = operations(Pass(context)), operations(Pass(context), Pass(context))
    branched = operations(Pass(context, audio_branch=AudioBranch(context.audio)))
    assert 0.005 < (branched - one) / (two - one) < 0.02


@pytest.mark.slow
def test_a_step_that_reuses_reads_no_tensor_on_the_host(tiny_dimensions: dict[str, Any]) -> None:
    """On the meta device there is nothing to read."""
    with torch.device("meta"):
        model = OviTransformer(**tiny_dimensions["fusion"])
        texts = [model.prepare_text(*torch.randn(2, 1, 5, 16)) for _ in range(2)]
        start = Latents(torch.randn(VIDEO), torch.randn(AUDIO))
    given = Guidance(texts[0], texts[1], 4.0, 3.0, skip_block=1)
    with KnownShapes():
        result = denoise(model, start, given, Schedule("unipc", 8, 5.0, cache=HALVES))
    assert result.audio.device.type == "meta"


@pytest.mark.slow
@pytest.mark.usefixtures("graphs_alone")
def test_compiled_blocks_compute_a_branch_as_eager_ones_do(model: OviTransformer) -> None:
    own, other = text(model, 1, 1), text(model, 2, 3)
    passes = [Pass(own)], [Pass(own, audio_branch=AudioBranch(other.audio))]
    with torch.no_grad():
        expected = [model.velocities(*latents(), each)[0] for each in passes]
        model.compile_blocks()
        for each, eager in zip(passes, expected, strict=True):
            for found, wanted in zip(model.velocities(*latents(), each)[0], eager, strict=True):
                torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_block_is_called_once_in_every_step(model: OviTransformer) -> None:
    """Streamed and gathered blocks are fetched once, and all ranks fetch the same ones."""
    calls: list[int] = []
    for depth, block in enumerate(model.fusion_blocks):
        block.register_forward_pre_hook(lambda _, __, depth=depth: calls.append(depth))
    denoise(model, noise(), guidance(model), Schedule("unipc", 8, 5.0, cache=HALVES))
    assert calls == [0, 1] * 8


@pytest.mark.parametrize("audio", [1.0, 3.0])
def test_video_adds_the_last_difference_between_the_passes(
    model: OviTransformer, monkeypatch: pytest.MonkeyPatch, audio: float
) -> None:
    found: list[tuple[Tensor, list[tuple[Tensor, Tensor]]]] = []
    velocities = model.velocities

    def watched(video: Tensor, *inputs: Any, **options: Any) -> Any:
        found.append((video, velocities(video, *inputs, **options)))
        return found[-1][1]

    monkeypatch.setattr(model, "velocities", watched)
    denoise(model, noise(), guidance(model, audio=audio), Schedule("euler", 5, 5.0, cache=HALVES))
    sigmas = build_scheduler("euler", 5, 5.0).sigmas.tolist()
    assert [len(passes) for _, passes in found] == [2, 2, 2, 1, 1]
    (_, both), (before, reusing), (after, _) = found[2:]
    difference = both[0][0] - both[1][0]
    expected = before + (sigmas[4] - sigmas[3]) * (reusing[0][0] + 3 * difference)
    torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-5)


def test_what_changes_the_model_between_two_steps_makes_both_passes_be_computed(
    model: OviTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch_passes(model, monkeypatch)
    changes = {5: guidance(model)}
    denoise(model, noise(), guidance(model), Schedule("unipc", 8, 5.0, cache=HALVES), before_step=changes.get)
    assert [len(passes) for passes in seen] == [2, 2, 2, 2, 1, 2, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("with_picture", [False, True])
def test_every_solver_takes_reused_guidance(model: OviTransformer, solver: str, with_picture: bool) -> None:
    first_frame = random(8, 1, 4, 4, seed=9) if with_picture else None
    results = [
        denoise(model, noise(), guidance(model), Schedule(solver, 8, 5.0, cache=cache), first_frame=first_frame)
        for cache in (HALVES, HALVES, STEP_CACHES[OFF])
    ]
    assert equal(results[0], results[1])
    assert not torch.equal(results[0].video, results[2].video)
    assert results[0].video.isfinite().all()
    assert results[0].audio.isfinite().all()
    if first_frame is not None:
        assert torch.equal(results[0].video[:, :1], first_frame)


@pytest.mark.parametrize("rank", [0, 1])
def test_ranks_in_two_halves_refuse_a_single_pass_instead_of_waiting(
    rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pass_layout.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(pass_layout.dist, "get_rank", lambda: rank)
    layout = pass_layout.SharedPassLayout(2, UNSHARDED)
    assert list(layout.own_passes(["positive", "negative"])) == [["positive", "negative"][rank]]
    with pytest.raises(ValueError, match="cannot be distributed over 2 halves"):
        layout.own_passes(["positive"])


# Audio


def test_audio_of_the_negative_pass_is_computed_in_every_step(model: OviTransformer) -> None:
    cache = GuidanceCache(HALVES, 4)
    for step in range(4):
        cache.begin(step, changed=False)
        results = [
            guided_velocity(model, *latents(), given, clean_first_frame=False, cache=cache)[1]
            for given in (guidance(model, audio_negative=seed) for seed in (3, 4))
        ]
        assert not torch.allclose(*results, atol=1e-2), step


@pytest.mark.parametrize("clean_first_frame", [False, True])
def test_a_branch_is_the_audio_of_a_pass_that_has_the_same_video_tokens(
    one_block: OviTransformer, clean_first_frame: bool
) -> None:
    """In a model with one block, the video tokens that audio attends to do not depend on the text."""
    own, other = text(one_block, 1, 1), text(one_block, 2, 3)
    branched = Pass(own, audio_branch=AudioBranch(other.audio))
    options = {"clean_first_frame": clean_first_frame}
    [(video, audio)] = one_block.velocities(*latents(), [branched], **options)
    expected = [one_block.velocities(*latents(), [Pass(context)], **options)[0] for context in (own, other)]
    torch.testing.assert_close(video, expected[0][0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(audio, torch.cat([expected[0][1], expected[1][1]]), rtol=1e-5, atol=1e-6)


def test_a_branch_with_the_text_of_its_pass_is_its_audio(model: OviTransformer) -> None:
    own = text(model, 1, 1)
    [(_, audio)] = model.velocities(*latents(), [Pass(own, audio_branch=AudioBranch(own.audio))])
    expected = model(*latents(), own)[1]
    torch.testing.assert_close(audio, torch.cat([expected, expected]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("skipped", [0, 1])
def test_a_branch_skips_its_block_and_its_pass_does_not(model: OviTransformer, skipped: int) -> None:
    own, other = text(model, 1, 1), text(model, 2, 3)
    [(video, audio)] = model.velocities(*latents(), [Pass(own, audio_branch=AudioBranch(other.audio, skipped))])
    expected = model(*latents(), own)
    torch.testing.assert_close(video, expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(audio[:1], expected[1], rtol=1e-5, atol=1e-6)
    [(_, whole)] = model.velocities(*latents(), [Pass(own, audio_branch=AudioBranch(other.audio))])
    assert not torch.allclose(audio[1:], whole[1:], atol=1e-3)
    if skipped == 1:  # the text of the skipped block has no effect
        changed = [other.audio[0], text(model, 8, 8).audio[1]]
        [(_, same)] = model.velocities(*latents(), [Pass(own, audio_branch=AudioBranch(changed, 1))])
        assert torch.equal(same, audio)


def test_a_batch_keeps_its_clips_apart(model: OviTransformer) -> None:
    own, other = text(model, 1, 1), text(model, 2, 3)
    branched = [Pass(own, audio_branch=AudioBranch(other.audio, 1))]
    clips = [random(2, *shape, seed=seed) for seed, shape in ((7, VIDEO), (8, AUDIO))]
    wide = [Pass(repeat(own), audio_branch=AudioBranch(repeat(other).audio, 1))]
    [(video, audio)] = model.velocities(*clips, torch.tensor([600.0, 600.0]), wide)
    for index in range(2):
        single = [x[index : index + 1] for x in clips]
        [(own_video, own_audio)] = model.velocities(*single, torch.tensor([600.0]), branched)
        torch.testing.assert_close(video[index : index + 1], own_video, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(audio[index::2], own_audio, rtol=1e-4, atol=1e-5)


def repeat(context: TextContext) -> TextContext:
    """The text of two clips."""
    towers = ([type(each)(*(torch.cat([x, x]) for x in each)) for each in blocks] for blocks in context)
    return TextContext(*towers)
