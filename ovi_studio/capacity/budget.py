"""How much of a memory may be planned with: the one place where that is decided, for GPUs and hosts. Imports no torch.

All figures are bytes. The reserves are estimated; docs/performance.md has the peaks that were measured beside the
planned ones.
"""

GIB = 2**30

RESERVE = 1.1e9
"""Of a GPU, what no plan gives away: workspaces of the libraries, gaps of the allocator, a desktop that grows."""

LEAST_RESERVE = RESERVE / 2
"""What is left of a GPU alone where a clip fits in no other way; with less the clip counts as too large for it."""

FREE_OF_LABEL = 0.94
"""Of the memory that a GPU is sold with, so much is free with a driver and a desktop: for GPUs that cannot be asked."""

HOST_RESERVE = 1.5e9
"""Of host memory, for Python, its libraries and everything else in this process."""

PINNED_RESERVE = 4e9
"""Of host memory, what pinned weights leave to everything else: they cannot be swapped out."""


def spendable(free: float) -> float:
    """Bytes that models and activations may take of so many free ones."""
    return max(0.0, free - RESERVE)


def free_of_label(memory: float) -> float:
    """Bytes that are free on a GPU sold with so many."""
    return memory * FREE_OF_LABEL


def label_of_free(free: float) -> float:
    """Bytes that a GPU is sold with of which so many are free."""
    return free / FREE_OF_LABEL
