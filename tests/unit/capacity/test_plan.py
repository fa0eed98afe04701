"""The plan: which layout on which GPUs, what it is predicted to cost, and how that is said."""

import math
import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ovi_studio.__main__ import main
from ovi_studio.capacity.arithmetic import LINKS, TowerSizes
from ovi_studio.capacity.budget import GIB, RESERVE, free_from_nominal, usable
from ovi_studio.capacity.fallback import MemoryFallback
from ovi_studio.capacity.layouts import (
    Gpus,
    Objective,
    ShardingOptions,
    Strategy,
    choose,
    layout_for,
    sharing_counts,
)
from ovi_studio.capacity.memory import Demand
from ovi_studio.capacity.plan_text import describe, title
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import published_variants
from ovi_studio.models.transformer import OviTransformer

SHORT, LONG = published_variants()["720x720_5s"], published_variants()["960x960_10s"]
FULL = TowerSizes.of(SHORT.dimensions)


def demand(variant=SHORT, size=(704, 704), **options):
    return Demand.of(variant, size, **options)


def gpus(count, memory=24, **options):
    return Gpus.with_nominal_memory(count, memory * GIB, **options)


@pytest.mark.parametrize(
    ("count", "memory", "weights", "guided", "expected"),
    [
        # guidance: halves beside each other as soon as there are two GPUs
        (1, 24, "bf16", True, (1, 1, "FULL_SHARD", True)),
        (1, 24, "int8", True, (1, 1, "NO_SHARD", False)),
        (1, 80, "bf16", True, (1, 1, "NO_SHARD", False)),
        (2, 24, "bf16", True, (2, 1, "FULL_SHARD", True)),
        (2, 24, "int8", True, (2, 1, "FULL_SHARD", False)),
        (3, 24, "bf16", True, (1, 3, "FULL_SHARD", False)),
        (4, 24, "bf16", True, (2, 2, "FULL_SHARD", False)),
        (8, 24, "int8", True, (2, 4, "SHARD_GRAD_OP", False)),
        (5, 24, "bf16", True, (2, 2, "FULL_SHARD", False)),
        (8, 24, "bf16", True, (2, 4, "FULL_SHARD", False)),
        (8, 80, "bf16", True, (2, 4, "NO_SHARD", False)),
        # lightning: one pass, shared by all
        (2, 24, "int8", False, (1, 2, "FULL_SHARD", False)),
        (4, 24, "bf16", False, (1, 4, "FULL_SHARD", False)),
        (7, 24, "bf16", False, (1, 6, "FULL_SHARD", False)),
        (8, 24, "bf16", False, (1, 8, "FULL_SHARD", False)),
    ],
)
def test_the_plan_for_the_soonest_clip(count, memory, weights, guided, expected):
    plan = choose(demand(weights=weights, guided=guided), gpus(count, memory))
    assert (plan.halves, plan.sequence, plan.strategy, plan.offloaded) == expected
    assert plan.clips == 1
    assert plan.idle == count - plan.ranks
    assert plan.memory <= usable(free_from_nominal(memory * GIB))
    assert 0 <= plan.resident_blocks <= 30


@pytest.mark.parametrize("count", [1, 4, 8])
def test_the_plan_for_a_queue_is_one_clip_a_gpu(count):
    plan = choose(demand(), gpus(count), Objective.THROUGHPUT)
    assert (plan.clips, plan.ranks, plan.idle, plan.exchanged) == (count, 1, 0, 0)
    assert plan.seconds_a_step == choose(demand(), gpus(1)).seconds_a_step


@pytest.mark.parametrize("guided", [True, False])
def test_more_gpus_are_never_slower_and_a_slow_link_is_avoided(guided):
    wanted = demand(LONG, (960, 960), guided=guided)
    seconds = [choose(wanted, gpus(count)).seconds_a_step for count in range(1, 9)]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[0] / seconds[7] > 5
    # A link so slow that sharing tokens costs more than it gains.
    alone = choose(demand(guided=False), gpus(4, 80, link=1e8))
    assert (alone.ranks, alone.idle) == (1, 3)


def test_the_resident_budget_grows_with_memory_and_shrinks_with_the_clip():
    budgets = [choose(demand(), gpus(4, memory)).resident_blocks for memory in (20, 24, 32)]
    assert budgets == sorted(budgets)
    assert budgets[0] < budgets[-1]
    assert choose(demand(LONG, (960, 960)), gpus(4)).resident_blocks < choose(demand(), gpus(4)).resident_blocks


@pytest.mark.parametrize(("count", "weights"), [(1, "bf16"), (2, "bf16"), (2, "int8"), (4, "bf16"), (4, "int8")])
def test_a_plan_takes_what_is_free_but_the_reserve(count, weights):
    needed = choose(demand(weights=weights), gpus(count)).memory
    fits = choose(demand(weights=weights), Gpus(count, needed + RESERVE))
    assert fits.memory == needed
    less = choose(demand(weights=weights), Gpus(count, needed + RESERVE - 1))
    assert less.memory < needed
    assert (less.strategy, less.resident_blocks) != (fits.strategy, fits.resident_blocks)


def test_where_all_blocks_fit_less_memory_only_leaves_fewer_of_them_between_clips():
    roomy = choose(demand(weights="int8"), gpus(1))
    tight = choose(demand(weights="int8"), Gpus(1, roomy.memory + RESERVE))
    assert tight.resident_blocks == roomy.resident_blocks == 30
    assert tight.memory < roomy.memory


def test_each_fallback_leaves_less_on_a_gpu_until_there_is_none():
    fallbacks = [MemoryFallback(ShardingOptions(), "auto")]
    while below := fallbacks[-1].below():
        fallbacks.append(below)
    released = ShardingOptions(Strategy.FULL_SHARD, 0)
    offloaded = ShardingOptions(Strategy.FULL_SHARD, 0, offloaded=True)
    assert [(fallback.sharding, fallback.weights) for fallback in fallbacks[1:]] == [
        (released, "auto"),
        (offloaded, "auto"),
        (offloaded, "int8"),
    ]
    # Whoever has chosen already begins further down.
    chosen = MemoryFallback(ShardingOptions(Strategy.SHARD_GRAD_OP, offloaded=True), "int8")
    assert chosen.below() == fallbacks[-1]
    assert MemoryFallback(fallbacks[-1].sharding, "fp8").below() is None


def test_what_fits_nowhere_is_refused_with_advice():
    with pytest.raises(JobError, match=r"does not fit 2 GPUs of 6 GB.*int8"):
        choose(demand(LONG, (960, 960)), gpus(2, 6))
    with pytest.raises(JobError, match=r"does not fit 1 GPU with 4.5 GB free"):
        choose(demand(), Gpus(1, 4.5 * GIB))
    with pytest.raises(JobError, match="between 1 and 64"):
        choose(demand(), gpus(0))


@pytest.mark.parametrize(
    ("ranks", "heads", "guided", "expected"),
    [
        (2, 24, True, (2, 1)),
        (2, 24, False, (1, 2)),
        (3, 24, True, (1, 3)),
        (8, 24, True, (2, 4)),
        (4, 2, True, (2, 2)),
        (4, 2, False, (1, 2)),  # two ranks compute what two others do
        (5, 24, False, (1, 1)),
    ],
)
def test_a_clip_uses_the_ranks_that_are_there(ranks, heads, guided, expected):
    assert layout_for(ranks, heads, guided=guided) == expected


def test_all_of_some_numbers_of_gpus_can_share_a_clip():
    assert sharing_counts(8, 24) == [1, 2, 3, 4, 6, 8]


# The arithmetic against the real model


def test_parameters_are_those_of_the_model():
    with torch.device("meta"):
        model = OviTransformer(**SHORT.dimensions["fusion"])
    blocks = sum(parameter.numel() for parameter in model.fusion_blocks[0].parameters())
    assert FULL.block_parameters == blocks
    assert FULL.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_operations_are_those_that_torch_counts():
    towers = {name: tower | {"num_layers": 2} for name, tower in SHORT.dimensions["fusion"].items()}
    with torch.device("meta"):
        model = OviTransformer(**towers)
        text = model.prepare_text(*torch.zeros(2, 1, 512, 4096))
        inputs = torch.zeros(1, 48, 31, 44, 44), torch.zeros(1, 157, 20), torch.zeros(1)
    with FlopCounterMode(display=False) as counter:
        model(*inputs, text)
    # Embeddings and heads, which the formula leaves out, are much beside two blocks and little beside thirty.
    expected = TowerSizes.of({"fusion": towers}).flops(31 * 22 * 22, 157)
    assert expected == pytest.approx(counter.get_total_flops(), rel=0.03)


def test_ranks_share_the_operations_of_video_and_each_has_those_of_audio():
    whole = FULL.flops(15_004, 157)
    assert whole / 4 < FULL.flops(15_004, 157, 4) < 1.05 * whole / 4


def exchanged_officially(video_tokens: int, audio_tokens: int, ranks: int) -> int:
    """Bytes of a pass in the official code: eight exchanges per block and tower, with both towers' tokens split."""
    video, audio = math.ceil(video_tokens / ranks), math.ceil(audio_tokens / ranks)
    blocks = FULL.layers * 8 * (video + audio) * FULL.dim * 2 * (ranks - 1) // ranks
    return blocks + (video * FULL.video_width + audio * FULL.audio_width) * 2 * (ranks - 1)


@pytest.mark.parametrize(("tokens", "audio"), [(15_004, 157), (27_900, 157), (54_900, 314)])
def test_exchanged_bytes_are_half_of_the_official_ones_and_less_with_guidance(tokens, audio):
    """Of one pass: video's half, and little for audio. Of a guided step on the same GPUs: at most 0.46."""
    for ranks, most in ((2, 0.5004), (4, 0.506), (8, 0.518)):
        official = exchanged_officially(tokens, audio, ranks)
        assert FULL.exchanged(tokens, audio, ranks, 2) <= most * official
        assert FULL.exchanged(tokens, audio, ranks // 2, 2) <= 0.46 * 2 * official


# In words


def test_the_command_prints_the_plan_for_both_objectives(capsys):
    assert main(["plan", "--gpus", "4", "--vram", "24"]) == 0
    said = capsys.readouterr().out
    for part in (
        "960x960_5s, 704x1280, with guidance, on 4 GPUs of 24 GB (pcie4: 10 GB/s, 71 TFLOP/s)",
        "Shortest time for one clip: guidance parallel x sequence parallel",
        "FULL_SHARD",
        "Shortest time for the queue: one clip a GPU",
        "Predicted:",
    ):
        assert part in said


def test_the_command_refuses_what_cannot_be(capsys):
    assert main(["plan", "--gpus", "2", "--vram", "4"]) == 1
    assert main(["plan", "--gpus", "2", "--vram", "0"]) == 1
    assert main(["plan", "--gpus", "2", "--variant", "nothing"]) == 1
    assert capsys.readouterr().err.count("error: ") == 3


def test_every_plan_can_be_said():
    for count in (1, 2, 3, 5, 8):
        for objective in Objective:
            for guided in (True, False):
                plan = choose(demand(guided=guided), gpus(count), objective)
                assert title(plan)
                assert all(sentence.endswith(".") for sentence in describe(plan))
    assert "stays idle" in " ".join(describe(choose(demand(), gpus(5))))


@pytest.mark.slow
def test_the_plan_imports_no_torch():
    script = "import sys, ovi_studio.cli.plan, ovi_studio.distributed.launch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_links_and_strategies_have_the_names_people_know():
    assert set(LINKS) == {"pcie3", "pcie4", "pcie5", "nvlink"}
    assert set(Strategy) == {"FULL_SHARD", "SHARD_GRAD_OP", "NO_SHARD", "HYBRID_SHARD"}
