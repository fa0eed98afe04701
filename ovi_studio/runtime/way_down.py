"""What to do when memory ran out: make the clip again with less of it, or say what to change. Imports no torch.

One GPU goes down the memory tiers, within the process. Several GPUs go down the fallbacks of `capacity.fallback`: less
stays gathered, then shares wait in host memory, then weights take half; every rank has to start anew for that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ovi_studio.capacity.fallback import MemoryFallback
from ovi_studio.capacity.tiers import tier_below
from ovi_studio.runtime.options import RuntimeOptions

_SHARDING = ("fsdp_strategy", "resident_blocks", "fsdp_offload", "weights")


@dataclass(frozen=True)
class StepDown:
    """The next way to use the memory, with less of it."""

    options: RuntimeOptions
    arguments: str
    """What gives a command these options, as far as they differ."""
    lacked: str
    """What was not enough, for the clip's record: the tier, or the arguments of several GPUs."""
    had: str
    """The same for people: "in tier 24"."""
    has: str
    """What follows: "in tier 16"."""


def below_tier(options: RuntimeOptions, tier: str) -> StepDown | None:
    """The step down from a memory tier of one GPU; None from the smallest."""
    below = tier_below(tier)
    if below is None:
        return None
    less = replace(options, memory=below.name)
    return StepDown(less, f"--memory {below.name}", tier, f"in tier {tier}", f"in tier {below.name}")


def below_sharding(options: RuntimeOptions) -> StepDown | None:
    """The step down of several GPUs; None if they cannot do with less."""
    below = MemoryFallback(options.sharding, options.weights).below()
    if below is None:
        return None
    less = options.with_sharding(below.sharding, below.weights)
    arguments = " ".join(less.arguments(*_SHARDING))
    lacked = " ".join(options.arguments(*_SHARDING)) or "the planned layout"
    return StepDown(less, arguments, lacked, "on a GPU", f"with {arguments}")


def steps_below_sharding(options: RuntimeOptions, count: int) -> tuple[RuntimeOptions, tuple[str, ...]]:
    """The options of several GPUs so many steps down, or as far as it goes, and what was not enough on the way."""
    lacked: tuple[str, ...] = ()
    for _ in range(count):
        below = below_sharding(options)
        if below is None:
            break
        options, lacked = below.options, (*lacked, below.lacked)
    return options, lacked


def shortage_advice(
    below: StepDown | None, *, offloaded: bool, smaller: Sequence[str] = (), by_itself: str | None = None
) -> str:
    """A sentence for the one who asked for the clip.

    Args:
        below: what takes less memory, if anything does.
        smaller: variants that are here and need less.
        by_itself: how to let that be tried without being asked, where this was not allowed.
    """
    parts = ["There is not enough memory for this clip. Close other programs that use the GPU"]
    if below is not None:
        parts.append(_instruction(below) + (f", or {by_itself}" if by_itself else ""))
    elif not offloaded:
        parts.append("start Ovi Studio with --cpu-offload")
    names = f"a smaller variant: {', '.join(smaller)}" if smaller else "a variant with fewer pixels or fewer seconds"
    return f"{', '.join(parts)}, or choose {names}."


def made_with_less(number: int, step: StepDown) -> str:
    """What is said of a job that is made again."""
    return (
        f"Job {number} ran out of memory {step.had}; it and what follows are made {step.has} until the engine is "
        f"restarted."
    )


def _instruction(step: StepDown) -> str:
    if step.options.memory in step.arguments.split():
        return f"use the next smaller memory tier with {step.arguments}"
    return f"let each GPU hold less with {step.arguments}"
