"""One model of memory: a GPU alone gets what its tier has, several divide the same bytes, and ways down go down."""

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest

from ovi_studio.__main__ import main
from ovi_studio.capacity.budget import GIB, LEAST_RESERVE, RESERVE, usable
from ovi_studio.capacity.fallback import MemoryFallback
from ovi_studio.capacity.layouts import (
    Gpus,
    ShardingOptions,
    Strategy,
    choose,
    layout_for,
    plan_layout,
    plan_sharding,
    sharing_counts,
    weights_on_gpu,
)
from ovi_studio.capacity.memory import Demand, decode_bytes, fitting_tile, fixed_bytes, shareable_bytes
from ovi_studio.capacity.tiers import fitting_tier, plan_memory
from ovi_studio.core.errors import JobError
from ovi_studio.core.sizes import ASPECT_RATIOS, snap_size
from ovi_studio.core.variants import EMBEDDED_BUNDLE, Variant, published_variants, read_bundle
from ovi_studio.core.weight_formats import Weights
from ovi_studio.models.device import compute_device, usable_memory
from ovi_studio.runtime.placement import choose_plan

Cuda = Callable[..., Any]

VARIANTS = [*published_variants().values(), read_bundle(EMBEDDED_BUNDLE)]
CARDS = (8, 12, 16, 24, 32, 48, 80)
LONG = published_variants()["960x960_10s"]

every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
every_card = pytest.mark.parametrize("card", CARDS)


def formats(variant: Variant) -> list[Weights]:
    return list(dict.fromkeys([Weights.BF16, Weights.INT8, variant.weights]))


def demands(variant: Variant) -> list[Demand]:
    """Of every shape of clip that people choose, with and without guidance, in every number format that there is."""
    sizes = {variant.default_size, *(snap_size(*ratio, variant.pixel_area) for ratio in ASPECT_RATIOS.values())}
    return [
        Demand.of(variant, size, guided=guided, weights=weights)
        for size, guided, weights in itertools.product(sorted(sizes), (True, False), formats(variant))
    ]


# One GPU


@every_card
@every_variant
def test_a_plan_for_one_gpu_keeps_the_blocks_that_its_tier_keeps(variant: Variant, card: int) -> None:
    gpus = Gpus.with_nominal_memory(1, card * GIB)
    for demand in demands(variant):
        tier = plan_memory(fitting_tier(gpus.memory), demand, demand.weights, free=gpus.memory)
        try:
            plan = choose(demand, gpus)
        except JobError:
            assert tier.resident == 0
            assert tier.peak_bytes > gpus.memory - LEAST_RESERVE
        else:
            assert (plan.resident_blocks, plan.memory) == (tier.resident, tier.peak_bytes)
            assert plan.offloaded == (tier.streamed > 0)


@every_card
@every_variant
def test_a_plan_for_this_gpu_keeps_the_blocks_that_the_pipeline_keeps(cuda: Cuda, variant: Variant, card: int) -> None:
    name = cuda(card).cards[0].name
    free = usable_memory(compute_device())
    for weights in formats(variant):
        kept = choose_plan(variant, compute_device(), weights=weights)
        plan = plan_layout(Demand.largest(variant, weights), Gpus.named(1, free, name), 1, 1, 1)
        if plan is None:
            assert kept.least_free > free
        else:
            assert (plan.resident_blocks, plan.memory) == (kept.resident, kept.peak_bytes)


def test_the_plan_command_says_the_blocks_of_the_tables_tiers(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of docs/performance.md, for 960x960 10 s."""
    for card, weights, resident in (("12", "int8", 8), ("16", "bf16", 8), ("24", "bf16", 20), ("8", "int8", 0)):
        options = ["--variant", LONG.name, "--size", "960x960", "--weights", weights]
        assert main(["plan", "--gpus", "1", "--vram", card, *options]) == 0
        assert set(re.findall(r"(\d+) of 30 blocks stay", capsys.readouterr().out)) == {str(resident)}


@every_card
@every_variant
def test_a_gpu_alone_leaves_its_reserve_and_half_of_it_where_nothing_stays(variant: Variant, card: int) -> None:
    gpus = Gpus.with_nominal_memory(1, card * GIB)
    for demand in demands(variant):
        plan = plan_layout(demand, gpus, 1, 1, 1)
        if plan is not None:
            left = gpus.memory - plan.memory
            assert left >= (LEAST_RESERVE if plan.resident_blocks == 0 else RESERVE)


def test_models_are_placed_for_a_clip_that_is_no_smaller_than_the_variants_own() -> None:
    for variant in VARIANTS:
        assert Demand.largest(variant).video_tokens >= Demand.of(variant).video_tokens


def test_a_tile_takes_what_there_is_room_for() -> None:
    clip = Demand.largest(LONG)
    for room in (1e9, 2e9, 5e9, 9e9, 12e9):
        tile = fitting_tile(clip.latent_size, room)
        assert decode_bytes(clip, tile) - clip.video_vae <= room
    assert fitting_tile(clip.latent_size, 12e9) is None
    assert fitting_tile(clip.latent_size, 12e9, limit=30) == 30


# Several GPUs


@pytest.mark.parametrize("count", [2, 3, 4, 6, 8])
@every_variant
def test_each_of_several_gpus_leaves_its_reserve(variant: Variant, count: int) -> None:
    for card, demand in itertools.product(CARDS, demands(variant)):
        gpus = Gpus.with_nominal_memory(count, card * GIB)
        plan = plan_sharding(demand, gpus)
        if plan is not None:
            assert plan.memory <= usable(gpus.memory)
            assert (plan.halves, plan.sequence) == layout_for(count, demand.sizes.heads, guided=demand.guided)


@pytest.mark.parametrize("guided", [True, False])
def test_gpus_that_share_a_clip_divide_its_bytes_and_never_need_more_than_one_alone(guided: bool) -> None:
    demand = Demand.of(LONG, (960, 960), guided=guided)
    alone = fixed_bytes(demand)
    needed = [fixed_bytes(demand, sequence=count) for count in sharing_counts(8, 24)]
    assert needed[0] == alone
    assert needed == sorted(needed, reverse=True)
    shards = [weights_on_gpu(demand, count, Strategy.FULL_SHARD, 0, offloaded=False) for count in (2, 4, 8)]
    in_flight = weights_on_gpu(demand, 2, Strategy.FULL_SHARD, 0, offloaded=True)
    assert [count * (bytes - in_flight) for count, bytes in zip((2, 4, 8), shards, strict=True)] == pytest.approx(
        [shareable_bytes(demand)] * 3
    )


def test_gpus_that_cannot_all_share_the_tokens_are_not_planned_like_one_alone() -> None:
    demand = Demand.largest(LONG)
    plan = plan_sharding(demand, Gpus.with_nominal_memory(5, 24 * GIB))
    assert plan is not None
    assert (plan.halves, plan.sequence) == (1, 1)
    assert plan.memory > demand.codecs + fixed_bytes(demand) + shareable_bytes(demand) / 5


# Ways down


def test_every_fallback_takes_less_of_each_gpu_whatever_is_made() -> None:
    fallbacks = [MemoryFallback(ShardingOptions(Strategy.NO_SHARD), "bf16")]
    while below := fallbacks[-1].below():
        fallbacks.append(below)
    assert len(fallbacks) == 4
    for variant, count in itertools.product(published_variants().values(), (2, 3, 4, 6, 8)):
        taken = [
            weights_on_gpu(
                Demand.of(variant, weights=one.weights),
                count,
                one.sharding.strategy,
                one.sharding.resident_blocks or 0,
                offloaded=one.sharding.offloaded,
            )
            for one in fallbacks
        ]
        assert all(after < before for before, after in itertools.pairwise(taken))


RELEASED, OFFLOADED = ShardingOptions(Strategy.FULL_SHARD, 0), ShardingOptions(Strategy.FULL_SHARD, 0, True)


@pytest.mark.parametrize(
    ("sharding", "following"),
    [
        (ShardingOptions(), MemoryFallback(RELEASED, "auto")),
        (ShardingOptions(Strategy.FULL_SHARD, 7), MemoryFallback(RELEASED, "auto")),
        # These keep nothing gathered already.
        (ShardingOptions(Strategy.FULL_SHARD), MemoryFallback(OFFLOADED, "auto")),
        (RELEASED, MemoryFallback(OFFLOADED, "auto")),
        (ShardingOptions(Strategy.FULL_SHARD, offloaded=True), MemoryFallback(OFFLOADED, "int8")),
    ],
)
def test_no_fallback_advises_what_is_done_already(sharding: ShardingOptions, following: MemoryFallback) -> None:
    assert MemoryFallback(sharding, "auto").below() == following


def test_nothing_gathered_and_small_weights_leave_no_fallback() -> None:
    for weights in ("int8", "fp8"):
        assert MemoryFallback(ShardingOptions(Strategy.FULL_SHARD, None, True), weights).below() is None
