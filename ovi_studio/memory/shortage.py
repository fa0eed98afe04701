"""What to do when memory ran out, in a sentence. Imports no torch."""

from ovi_studio.memory.tiers import Tier
from ovi_studio.parallel.rungs import Rung


def shortage_advice(below: Tier | Rung | None, *, offloaded: bool, smaller: list[str], queue: bool) -> str:
    """A sentence for the one who asked for the clip.

    Args:
        below: what takes less memory, if anything does: the next smaller tier, or the next rung of several GPUs.
        smaller: variants that are here and need less.
        queue: whether the clip comes from the page's queue.
    """
    parts = ["There is not enough memory for this clip. Close other programs that use the GPU"]
    if below is not None:
        by_itself = ", or let the queue do so by itself (System tab)" if queue else ""
        parts.append(f"{_way_down(below)}{by_itself}")
    elif not offloaded:
        parts.append("start Ovi Studio with --cpu-offload")
    names = f"a smaller variant: {', '.join(smaller)}" if smaller else "a variant with fewer pixels or fewer seconds"
    return f"{', '.join(parts)}, or choose {names}."


def _way_down(below: Tier | Rung) -> str:
    if isinstance(below, Rung):
        return f"let each GPU hold less with {below.arguments}"
    return f"use the next smaller memory tier with --memory {below.name}"
