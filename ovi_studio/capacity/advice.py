"""What is said when memory ran out: what would take less, or what is done about it. Imports no torch."""

from collections.abc import Sequence

from ovi_studio.capacity.fallback import MemoryFallback
from ovi_studio.capacity.tiers import Tier


def shortage_advice(
    below: Tier | MemoryFallback | None, *, offloaded: bool, smaller: Sequence[str] = (), by_itself: str | None = None
) -> str:
    """A sentence for the one who asked for the clip.

    Args:
        below: what takes less memory, if anything does: the next smaller tier, or the next fallback of several GPUs.
        smaller: variants that are here and need less.
        by_itself: how to let that be tried without being asked, where this was not allowed.
    """
    parts = ["There is not enough memory for this clip. Close other programs that use the GPU"]
    if below is not None:
        parts.append(_way_down(below) + (f", or {by_itself}" if by_itself else ""))
    elif not offloaded:
        parts.append("start Ovi Studio with --cpu-offload")
    names = f"a smaller variant: {', '.join(smaller)}" if smaller else "a variant with fewer pixels or fewer seconds"
    return f"{', '.join(parts)}, or choose {names}."


def stepped_down(number: int, had: str, has: str) -> str:
    """What is said of a job that is made again with less."""
    return f"Job {number} ran out of memory {had}; it and what follows are made {has} until the engine is restarted."


def _way_down(below: Tier | MemoryFallback) -> str:
    if isinstance(below, MemoryFallback):
        return f"let each GPU hold less with {below.arguments}"
    return f"use the next smaller memory tier with --memory {below.name}"
