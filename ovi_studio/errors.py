"""The one kind of error that is meant for people.

A `JobError` says in one sentence what is wrong and what to do about it. It fails the job at hand and nothing else;
every other exception is a defect and ends the process loudly.
"""

import sys


class JobError(Exception):
    """What was asked for cannot be done; the message says why and what to do."""


class Stopped(Exception):
    """Somebody asked for the run to end; raised by a step callback and passed through unchanged."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether a GPU or the host has no memory left; imports no torch."""
    torch = sys.modules.get("torch")
    if torch is None:
        return isinstance(error, MemoryError)
    # The allocator for host memory raises a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
