"""Device utilities for checks: time and memory measurements, temporary limits, and free host memory."""

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
    """Time and memory of a block of code, set when it ends."""

    seconds: float = 0.0
    peak: int = 0
    """Peak bytes allocated by torch on the GPU, including earlier allocations; 0 on a CPU."""

    def note(self, found: Findings, name: str) -> None:
        """Note the time and, on a GPU, the peak memory as figures."""
        found.note(f"{name}", self.seconds, "s")
        if self.peak:
            found.note(f"{name}, peak", self.peak / GIB, "GiB")


@contextmanager
def measured(device: torch.device) -> Iterator[Measured]:
    """Measure time and peak memory of a block, including the device's asynchronous work."""
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
    """Limit this process to so many bytes of the GPU, as on a smaller card; no effect on a CPU."""
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
    """Allow or forbid TF32 in matrix products and convolutions of float32."""
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = allowed
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


def require_host_memory(size: float) -> None:
    """Raise `Skipped` if the host does not have this many bytes free, with a margin."""
    needed, free = size * 1.05 + 3 * GIB, psutil.virtual_memory().available
    if needed > free:
        raise Skipped(f"it needs {needed / GIB:.0f} GiB of host memory, but only {free / GIB:.0f} GiB are free.")
