"""The GPU of this process, and how much of its memory this process may use."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ovi_studio.core.allocator import on_wsl
from ovi_studio.core.errors import JobError


def compute_device(name: str = "auto") -> torch.device:
    """Return a device by name; "auto": the current GPU, always with its index, or the CPU if there is no GPU.

    Raises `JobError` if the device does not exist. Half of `torch.cuda` refuses a device without an index, so this
    is the only place that creates one.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise JobError(f"torch finds no GPU that it can use here, so {name} is not available; leave out --device.")
    index = torch.device(name).index if ":" in name else torch.cuda.current_device()
    if index >= torch.cuda.device_count():
        raise JobError(f"There is no {name}; the last GPU here is cuda:{torch.cuda.device_count() - 1}.")
    return torch.device("cuda", index)


def usable_memory(device: torch.device) -> int:
    """Bytes of a GPU that this process may hold in total: what it holds already, and what it may still allocate."""
    free, total = torch.cuda.mem_get_info(device)
    allowed = int(torch.cuda.get_per_process_memory_fraction(device) * total)
    return min(free + torch.cuda.memory_reserved(device), allowed)


def available_memory(device: torch.device) -> int:
    """Bytes that may still be allocated, after freeing what torch caches without using it."""
    torch.cuda.empty_cache()
    return usable_memory(device) - torch.cuda.memory_allocated(device)


def forbid_spilling(device: torch.device) -> None:
    """Limit this process to the memory that the GPU has free, where the driver would silently exceed it.

    The Windows driver, also under WSL, moves what does not fit into host memory, and every step takes many times as
    long. With the limit, memory runs out instead, which is detected and handled.
    """
    if device.type != "cuda" or not (sys.platform == "win32" or on_wsl()):
        return
    total = torch.cuda.mem_get_info(device)[1]
    torch.cuda.set_per_process_memory_fraction(usable_memory(device) / total, device)


@contextmanager
def kernel_search(device: torch.device) -> Iterator[None]:
    """Within the block, let cuDNN time its convolutions for every new shape: it pays if the same shapes come often."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
