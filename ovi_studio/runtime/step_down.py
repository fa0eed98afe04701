"""What to do when memory ran out: make the clip again with less memory, or advise what to change. Imports no torch.

A single GPU steps down through the memory tiers, within the process. Several GPUs step down through the fallbacks of
`capacity.fallback`: no resident blocks, then shards in host memory, then int8 weights; all ranks must restart for that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ovi_studio.capacity.fallback import MemoryFallback
from ovi_studio.capacity.tiers import tier_below
from ovi_studio.runtime.options import RuntimeOptions

_SHARDING = ("fsdp_strategy", "resident_blocks", "fsdp_offload", "weights")


@dataclass(frozen=True)
class StepDown:
    """The next options to try, which need less memory."""

    options: RuntimeOptions
    arguments: str
    """The command-line arguments that give these options, as far as they differ."""
    exhausted: str
    """What ran out of memory, for the clip's record: the tier, or the arguments of several GPUs."""
    before: str
    """Where memory ran out, for messages: "in tier 24"."""
    after: str
    """How the clip is made next, for messages: "in tier 16"."""


def below_tier(options: RuntimeOptions, tier: str) -> StepDown | None:
    """Return the step down from a memory tier of a single GPU; None from the smallest."""
    below = tier_below(tier)
    if below is None:
        return None
    less = replace(options, memory=below.name)
    return StepDown(less, f"--memory {below.name}", tier, f"in tier {tier}", f"in tier {below.name}")


def below_sharding(options: RuntimeOptions) -> StepDown | None:
    """Return the step down of several GPUs; None if no options need less."""
    below = MemoryFallback(options.sharding, options.weights).below()
    if below is None:
        return None
    less = options.with_sharding(below.sharding, below.weights)
    arguments = " ".join(less.arguments(*_SHARDING))
    exhausted = " ".join(options.arguments(*_SHARDING)) or "the planned layout"
    return StepDown(less, arguments, exhausted, "on a GPU", f"with {arguments}")


def steps_below_sharding(options: RuntimeOptions, count: int) -> tuple[RuntimeOptions, tuple[str, ...]]:
    """Return the options of several GPUs after at most `count` steps down, and what ran out of memory before."""
    exhausted: tuple[str, ...] = ()
    for _ in range(count):
        below = below_sharding(options)
        if below is None:
            break
        options, exhausted = below.options, (*exhausted, below.exhausted)
    return options, exhausted


def out_of_memory_advice(
    below: StepDown | None, *, offloaded: bool, smaller: Sequence[str] = (), automatic: str | None = None
) -> str:
    """Return the error message for a clip that ran out of memory.

    Args:
        below: options that need less memory, if there are any.
        smaller: available variants that need less memory.
        automatic: how to allow that step automatically, if it is not allowed.
    """
    parts = ["There is not enough memory for this clip. Close other programs that use the GPU"]
    if below is not None:
        parts.append(_instruction(below) + (f", or {automatic}" if automatic else ""))
    elif not offloaded:
        parts.append("start Ovi Studio with --cpu-offload")
    names = f"a smaller variant: {', '.join(smaller)}" if smaller else "a variant with fewer pixels or fewer seconds"
    return f"{', '.join(parts)}, or choose {names}."


def step_down_notice(number: int, step: StepDown) -> str:
    """Return the notice for a job that is made again with less memory."""
    return (
        f"Job {number} ran out of memory {step.before}; it and the following jobs are made {step.after} until the "
        f"engine is restarted."
    )


def _instruction(step: StepDown) -> str:
    if step.options.memory in step.arguments.split():
        return f"use the next smaller memory tier with {step.arguments}"
    return f"let each GPU hold less with {step.arguments}"
