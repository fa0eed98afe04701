"""Memory tiers: predictions, live tensors compared with the formulas, and clips that do not depend on the tier."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from known_shapes import KnownShapes
from live_tensors import Live
from torch import nn

from ovi_studio.bench.steps import random_inputs, shapes
from ovi_studio.capacity.budget import GIB
from ovi_studio.capacity.memory import Demand, activation_bytes, resident_when_streaming
from ovi_studio.capacity.tiers import CHOICES, TIERS, MemoryPlan, find_tier, fitting_tier, plan_memory, tier_below
from ovi_studio.checkpoints.layout import require
from ovi_studio.checkpoints.number_formats import prepare
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import published_variants
from ovi_studio.core.weight_formats import Weights
from ovi_studio.distributed import sequence
from ovi_studio.models import fusion_block, token_layout, video_vae
from ovi_studio.models.audio_branch import AudioBranch
from ovi_studio.models.token_layout import UNSHARDED, TokenLayout
from ovi_studio.models.transformer import OviTransformer, Pass
from ovi_studio.runtime.compute import Compute
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.pipeline import Pipeline
from ovi_studio.runtime.placement import choose_plan
from ovi_studio.runtime.streaming import HostedModel

CPU = torch.device("cpu")
SPEC = ClipSpec(prompt="a red ball bounces", variant="tiny", steps=2, seed=7)


def planned(variant: str, tier: str, weights: Weights | None = None) -> MemoryPlan:
    return plan_memory(find_tier(tier), Demand.largest(published_variants()[variant]), weights)


@pytest.mark.parametrize("tier", [tier.name for tier in TIERS])
@pytest.mark.parametrize("variant", list(published_variants()))
def test_every_variant_fits_into_every_tier_by_prediction(variant: str, tier: str) -> None:
    plan = planned(variant, tier)
    assert plan.peak_bytes < plan.tier.memory * 0.95
    assert 0 <= plan.resident <= plan.blocks == 30
    assert plan.streamed % 2 == 0


def test_more_memory_keeps_more_blocks_and_finally_all() -> None:
    resident = [planned("960x960_10s", tier, Weights.BF16).resident for tier in ("12", "16", "24", "32", "max")]
    assert resident == sorted(resident)
    assert resident[0] < 6
    assert resident[-2:] == [30, 30]


def test_ten_seconds_at_960_stay_below_24_gb_in_bf16_and_12_gb_in_int8_by_prediction() -> None:
    assert planned("960x960_10s", "24").peak_bytes < 24 * GIB
    assert planned("960x960_10s", "24").weights is Weights.BF16
    assert planned("960x960_10s", "12").peak_bytes < 12e9
    assert planned("960x960_10s", "12").weights is Weights.INT8


@pytest.mark.parametrize("variant", list(published_variants()))
def test_each_tier_takes_less_than_the_one_above_it(variant: str) -> None:
    peaks = [planned(variant, tier.name).peak_bytes for tier in TIERS]
    assert all(below < above for below, above in itertools.pairwise(peaks))


@pytest.mark.parametrize("variant", list(published_variants()))
def test_the_decoders_tile_fits_next_to_resident_models_in_every_tier(variant: str) -> None:
    for tier in TIERS:
        plan = planned(variant, tier.name)
        assert plan.decode_bytes <= plan.budget
        assert (plan.tile is None) == (tier.name != "8" or "720" in variant)


def test_where_all_models_stay_the_plan_sets_no_limit_to_the_decoders_tile(cuda: Callable[..., Any]) -> None:
    """As on several ranks, which shard models that a single one could not hold."""
    cuda(24)
    assert choose_plan(published_variants()["960x960_10s"], torch.device("cuda", 0), "max").tile is None


def test_free_memory_chooses_the_tier_whose_card_it_is() -> None:
    free = {7.4: "8", 7.8: "8", 11.6: "12", 15.5: "16", 23.4: "24", 31.4: "32", 47.0: "32", 79.0: "max", 2.0: "8"}
    assert {gib: fitting_tier(gib * GIB).name for gib in free} == free


def test_each_tier_but_the_smallest_has_one_below() -> None:
    below = [tier_below(tier.name) for tier in TIERS]
    assert [None if tier is None else tier.name for tier in below] == [None, "8", "12", "16", "24", "32"]


def test_an_unknown_tier_is_refused_with_the_known_ones() -> None:
    with pytest.raises(JobError, match=f"no memory tier '10'; choose one of {', '.join(CHOICES)}"):
        find_tier("10")


def test_a_file_in_fp8_stays_in_fp8_where_weights_are_chosen_for_a_gpu(cuda: Callable[..., Any]) -> None:
    cuda(80)
    fp8, plain = (published_variants()[name] for name in ("720x720_5s_fp8", "720x720_5s"))
    gpu = torch.device("cuda", 0)
    assert choose_plan(fp8, gpu, "12").weights is Weights.FP8
    assert choose_plan(fp8, gpu, "12", "int8").weights is Weights.INT8
    assert choose_plan(plain, gpu, "12").weights is Weights.INT8
    assert choose_plan(plain, CPU).weights is Weights.BF16


def test_the_variant_and_not_the_file_name_defines_the_number_format(cuda: Callable[..., Any]) -> None:
    cuda(80)
    gpu, plain = torch.device("cuda", 0), published_variants()["720x720_5s"]
    assert choose_plan(replace(plain, weights=Weights.FP8), gpu, "12").weights is Weights.FP8
    assert choose_plan(replace(plain, name="mine_fp8"), gpu, "12").weights is Weights.INT8


def test_run_time_adapters_take_the_place_of_resident_blocks() -> None:
    plan = planned("960x960_10s", "24")
    adapted = plan.with_adapters(1.5e9)  # of rank 128
    assert adapted.resident == plan.resident - 2
    assert adapted.peak_bytes <= plan.budget
    assert plan.with_adapters(0) == plan
    whole = planned("960x960_10s", "max")
    assert whole.with_adapters(1.5e9).resident == whole.resident
    assert whole.with_adapters(1.5e9).peak_bytes == whole.peak_bytes + 1.5e9


def test_a_streamed_model_may_have_room_for_all_of_its_blocks_until_adapters_come() -> None:
    plan = planned("720x720_5s", "32")
    assert plan.streamed == 0
    assert plan.with_adapters(9e9).streamed > 0
    assert plan.with_adapters(9e9).peak_bytes <= plan.budget


@pytest.mark.parametrize("blocks", range(1, 8))
def test_a_model_streams_as_many_blocks_as_its_plan_says(blocks: int) -> None:
    layers = [nn.Linear(2, 2) for _ in range(blocks)]
    for room in range(blocks + 2):
        resident = resident_when_streaming(blocks, 1, room)
        assert HostedModel(nn.Sequential(*layers), CPU, layers, resident).streamed == blocks - resident


# Counted live tensors


def counted(work: Callable[[], object]) -> int:
    with torch.no_grad(), Live() as live, KnownShapes():
        work()
    return live.peak


@pytest.fixture
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behave like kernels on a GPU: attention without scores in memory, norms without float32 copies."""
    for module in (fusion_block, token_layout):
        monkeypatch.setattr(module, "attention", lambda query, *_: torch.empty_like(query))
    monkeypatch.setattr(nn.RMSNorm, "forward", lambda _, x: torch.empty_like(x))


def step_peak(
    name: str, guided: bool, weights: Weights, layout: TokenLayout = UNSHARDED, *, reuses: bool = False
) -> int:
    """Return the peak of live bytes in a step of a model with two blocks; `reuses`: only audio has a negative pass."""
    shape = shapes()[name]
    shallow = {tower: options | {"num_layers": 2} for tower, options in shape.fusion.items()}
    with torch.device("meta"):
        model = OviTransformer(**shallow)
        prepare(model, weights)
    for parameter in model.parameters():
        if parameter.dtype == torch.float32 and parameter.dim() > 0:
            parameter.data = parameter.data.bfloat16()
    *latents, text = random_inputs(model, shape, torch.device("meta"), torch.bfloat16)
    passes = [Pass(text), Pass(text, 1)][: 1 + guided]
    if reuses:
        passes = [Pass(text, audio_branch=AudioBranch(text.audio))]
    return counted(lambda: model.velocities(*latents, passes, token_layout=layout))


@pytest.mark.slow
@pytest.mark.parametrize("weights", [Weights.BF16, Weights.INT8])
@pytest.mark.parametrize(("name", "guided"), [("704x704_5s", True), ("960x960_10s", True), ("960x960_10s", False)])
@pytest.mark.usefixtures("_as_on_a_gpu")
def test_a_full_size_step_needs_what_the_formula_says(name: str, guided: bool, weights: Weights) -> None:
    formula = activation_bytes(shapes()[name].demand(guided).with_weights(weights))
    assert 0.8 * formula < step_peak(name, guided, weights) < formula


@pytest.mark.slow
@pytest.mark.usefixtures("_as_on_a_gpu")
def test_a_step_cache_needs_no_more_memory_than_two_passes() -> None:
    """The kept difference between the passes, in float32, is smaller than the tokens of the pass that is left out."""
    demand = shapes()["960x960_10s"].demand(guided=True)
    kept = demand.sizes.velocity_bytes(demand.video_tokens, 0, 4)
    both, one = (step_peak("960x960_10s", True, Weights.BF16, reuses=reuses) for reuses in (False, True))
    assert one + kept < both
    assert both + kept < activation_bytes(demand)


@pytest.mark.slow
@pytest.mark.parametrize("weights", [Weights.BF16, Weights.INT8])
@pytest.mark.parametrize("ranks", [2, 3, 4, 6, 8])
@pytest.mark.parametrize(("name", "guided"), [("704x704_5s", False), ("960x960_5s", True), ("960x960_10s", True)])
@pytest.mark.usefixtures("_as_on_a_gpu")
def test_a_rank_that_shares_the_tokens_needs_what_the_formula_says(
    name: str, guided: bool, ranks: int, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exchange buffers are a third of that memory."""

    def sent(*_: Any, **__: Any) -> SimpleNamespace:
        return SimpleNamespace(wait=lambda: None)

    def attention_with_log_sum(query: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.empty_like(query), query.new_empty(query.shape[:3], dtype=torch.float32)

    for collective in ("all_to_all_single", "all_gather_into_tensor", "all_reduce"):
        monkeypatch.setattr(sequence.dist, collective, sent)
    monkeypatch.setattr(sequence.dist, "get_world_size", lambda _: ranks)
    monkeypatch.setattr(sequence.dist, "get_rank", lambda _: 0)
    monkeypatch.setattr(sequence, "attention_with_log_sum", attention_with_log_sum)
    demand = shapes()[name].demand(guided).with_weights(weights)
    layout = sequence.SequenceParallel(None, demand.video_tokens)
    formula = activation_bytes(demand, sequence=ranks)
    assert 0.6 * formula < step_peak(name, guided, weights, layout) < formula


def decoder_peak(vae: Any, frames: int, height: int, width: int, tile: int | None) -> int:
    latents = torch.empty(8, frames, height, width, device="meta")

    def decode() -> None:
        for _ in video_vae.decode(vae, latents, tile):
            pass

    return counted(decode)


@pytest.mark.slow
def test_the_decoders_memory_is_that_of_a_tile_and_not_of_the_clip(tiny_dimensions: dict[str, Any]) -> None:
    with torch.device("meta"):
        vae = video_vae.build_video_vae(tiny_dimensions["video_vae"])
    short, long = (decoder_peak(vae, frames, 24, 24, 8) for frames in (3, 12))
    # What grows are the features before the tiles, at latent resolution.
    features = 24 * 24 * 4 * vae.config.decoder_base_dim * max(vae.config.dim_mult)
    assert long - short < 9 * 3 * features
    assert long < 1.1 * short
    larger, whole = decoder_peak(vae, 3, 24, 24, 12), decoder_peak(vae, 3, 24, 24, None)
    assert short < 0.75 * larger < 0.75 * whole


# Clips


def clip_of(bundle: Path, spec: ClipSpec = SPEC, resident: int | None = None, **options: Any) -> Any:
    pipeline = Pipeline.load(require("tiny", bundle), Compute(CPU, torch.float32, RuntimeOptions(**options)))
    if resident is not None:
        plan = replace(pipeline.plan, resident=resident)
        pipeline = Pipeline(pipeline.variant, pipeline.models, pipeline.compute, plan=plan)
    return pipeline(spec)


@pytest.mark.slow
def test_a_clip_is_the_same_whatever_is_streamed(tiny_bundle: Path, tiny_pipeline: Pipeline) -> None:
    plain = tiny_pipeline(SPEC)
    assert plain.record["memory"] == {"tier": "max", "weights": "bf16", "resident_blocks": 2}
    for resident in (0, 2):
        clip = clip_of(tiny_bundle, resident=resident, memory="8", weights="bf16")
        assert np.array_equal(clip.frames, plain.frames)
        assert np.array_equal(clip.samples, plain.samples)
        assert clip.record["memory"] == {"tier": "8", "weights": "bf16", "resident_blocks": resident}


@pytest.mark.slow
def test_offloaded_models_make_the_same_clip(tiny_bundle: Path, tiny_pipeline: Pipeline) -> None:
    clip = clip_of(tiny_bundle, offloaded=True)
    assert np.array_equal(clip.frames, tiny_pipeline(SPEC).frames)


@pytest.mark.slow
def test_int8_weights_make_nearly_the_same_clip(tiny_bundle: Path, tiny_pipeline: Pipeline) -> None:
    plain, clip = tiny_pipeline(SPEC), clip_of(tiny_bundle, weights="int8", resident=0)
    difference = np.abs(clip.frames.astype(int) - plain.frames.astype(int))
    assert 0 < difference.mean() < 4
    assert clip.record["memory"]["weights"] == "int8"


def test_fp8_weights_are_refused_for_a_bundle_without_them(tiny_bundle: Path) -> None:
    with pytest.raises(JobError, match="does not contain fp8 weights"):
        clip_of(tiny_bundle, weights="fp8")
