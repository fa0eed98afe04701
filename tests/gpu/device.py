"""The device while a check runs: time and memory of a piece of work, limits that are lifted again, room on the host."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch

from gpu.check import Findings, Skipped

GIB = 2**30


@dataclass
class Measured:
    """Filled when the work is done."""

    seconds: float = 0.0
    peak: int = 0
    """Bytes that torch had allocated on the GPU at most, with what was there before; 0 on a CPU."""

    def note(self, found: Findings, name: str) -> None:
        """As figures: the time, and the peak if there is one."""
        found.note(f"{name}", self.seconds, "s")
        if self.peak:
            found.note(f"{name}, peak", self.peak / GIB, "GiB")


@contextmanager
def measured(device: torch.device) -> Iterator[Measured]:
    """Time and peak memory of what is done inside, the device's own work included."""
    result = Measured()
    synchronise(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    yield result
    synchronise(device)
    result.seconds = time.perf_counter() - start
    if device.type == "cuda":
        result.peak = torch.cuda.max_memory_allocated(device)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def allocator_limit(device: torch.device, limit: float) -> Iterator[None]:
    """This process may have so many bytes of the GPU, as on a smaller card; a CPU has no such limit."""
    if device.type != "cuda":
        yield
        return
    total = torch.cuda.mem_get_info(device)[1]
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Products and convolutions of float32 may round their factors to TF32, or must not."""
    places = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = allowed
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.allow_tf32 = value


def require_host_memory(size: float) -> None:
    """Raises `Skipped` if the host has not so many bytes left, and some for everything else."""
    needed, free = size * 1.05 + 3 * GIB, psutil.virtual_memory().available
    if needed > free:
        raise Skipped(f"it needs {needed / GIB:.0f} GiB of host memory, and {free / GIB:.0f} GiB are free.")
