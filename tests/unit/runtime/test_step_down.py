"""Steps down when memory runs out."""

import pytest

from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.step_down import below_sharding, below_tier, out_of_memory_advice, steps_below_sharding


def test_each_tier_leads_to_the_next_smaller_one() -> None:
    options, way = RuntimeOptions(memory="24", offloaded=True), []
    while (below := below_tier(options, options.memory)) is not None:
        options = below.options
        way.append((below.exhausted, below.arguments))
    assert way == [("24", "--memory 16"), ("16", "--memory 12"), ("12", "--memory 8")]
    assert options.offloaded


@pytest.mark.parametrize(
    ("options", "said"),
    [
        # The advice was once the same command again: the sharding that had been chosen was not looked at.
        (
            RuntimeOptions(fsdp_strategy="FULL_SHARD", resident_blocks=0),
            "--fsdp-strategy FULL_SHARD --resident-blocks 0 --fsdp-offload",
        ),
        (RuntimeOptions(), "--fsdp-strategy FULL_SHARD --resident-blocks 0"),
        (
            RuntimeOptions(fsdp_strategy="FULL_SHARD", resident_blocks=0, fsdp_offload=True),
            "--fsdp-strategy FULL_SHARD --resident-blocks 0 --fsdp-offload --weights int8",
        ),
    ],
)
def test_several_gpus_are_advised_to_take_the_step_below_their_own_options(options: RuntimeOptions, said: str) -> None:
    assert f"let each GPU hold less with {said}, or choose" in out_of_memory_advice(
        below_sharding(options), offloaded=False
    )


def test_the_steps_of_several_gpus_end_and_are_recorded() -> None:
    options, exhausted = steps_below_sharding(RuntimeOptions(), 99)
    assert below_sharding(options) is None
    assert (options.fsdp_offload, options.weights, len(exhausted)) == (True, "int8", 3)
    assert steps_below_sharding(RuntimeOptions(), 0) == (RuntimeOptions(), ())
