"""How much memory plans may use, on GPUs and hosts: the only place where reserves are defined. Imports no torch.

All figures are bytes. The reserves are estimated; docs/performance.md compares measured and planned peaks.
"""

GIB = 2**30

RESERVE = 1.1e9
"""GPU memory that no plan uses: library workspaces, allocator fragmentation, a growing desktop."""

LEAST_RESERVE = RESERVE / 2
"""Reserve on a single GPU if a clip does not fit otherwise; with less, the clip counts as too large for the GPU."""

FREE_FRACTION = 0.94
"""Fraction of a GPU's nominal memory that is free next to driver and desktop, for GPUs that are not present."""

HOST_RESERVE = 1.5e9
"""Host memory for Python, its libraries and everything else in this process."""

PINNED_RESERVE = 4e9
"""Host memory that pinned weights leave to everything else, since they cannot be swapped out."""


def usable(free: float) -> float:
    """Bytes that models and activations may use of `free` bytes."""
    return max(0.0, free - RESERVE)


def free_from_nominal(nominal: float) -> float:
    """Bytes that are free on a GPU with this nominal memory."""
    return nominal * FREE_FRACTION


def nominal_from_free(free: float) -> float:
    """Nominal memory of a GPU that has `free` bytes free."""
    return free / FREE_FRACTION
