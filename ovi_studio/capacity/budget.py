"""How much of a memory may be planned with: the one place where that is decided. Imports no torch."""

GIB = 2**30

RESERVE = 1.1e9
"""Bytes of a GPU that no plan gives away: workspaces of the libraries, gaps of the allocator, a desktop that grows.
Estimated; in `docs/performance.md` stand the peaks that were measured beside the planned ones."""

FREE_OF_LABEL = 0.94
"""Of the memory that a GPU is sold with, so much is free with a driver and a desktop: for GPUs that cannot be asked."""


def spendable(free: float) -> float:
    """Bytes that models and activations may take of so many free ones."""
    return max(0.0, free - RESERVE)


def free_of_label(memory: float) -> float:
    """Bytes that are free on a GPU sold with so many."""
    return memory * FREE_OF_LABEL
