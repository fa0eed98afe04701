"""Copies from host memory to the device that run beside the computation."""

from typing import Protocol

import torch
from torch import Tensor


class Transfers(Protocol):
    """Copies from host memory into slots, in parallel with the computation."""

    def fetch(self, slot: int, target: Tensor, source: Tensor) -> None:
        """Start filling a slot as soon as it is free."""

    def arrive(self, slot: int) -> None:
        """Make later computation wait for what was fetched into the slot last."""

    def release(self, slot: int) -> None:
        """Mark the slot as free once all computation queued so far is done."""

    def close(self) -> None:
        """Wait until no copy is in progress."""


class CudaTransfers:
    """Transfers on a separate CUDA stream."""

    def __init__(self, device: torch.device, slots: int) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._arrived = [torch.cuda.Event() for _ in range(slots)]
        self._free = [torch.cuda.Event() for _ in range(slots)]

    def fetch(self, slot: int, target: Tensor, source: Tensor) -> None:
        self._stream.wait_event(self._free[slot])
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)
            self._arrived[slot].record(self._stream)

    def arrive(self, slot: int) -> None:
        torch.cuda.current_stream(self._device).wait_event(self._arrived[slot])

    def release(self, slot: int) -> None:
        self._free[slot].record(torch.cuda.current_stream(self._device))

    def close(self) -> None:
        self._stream.synchronize()


class DirectTransfers:
    """Transfers for a device without streams, such as the CPU: every copy is done when the call returns."""

    def fetch(self, slot: int, target: Tensor, source: Tensor) -> None:
        target.copy_(source)

    def arrive(self, slot: int) -> None:
        pass

    def release(self, slot: int) -> None:
        pass

    def close(self) -> None:
        pass


def transfers_for(device: torch.device, slots: int) -> Transfers:
    """Return the fastest transfers that the device supports."""
    return CudaTransfers(device, slots) if device.type == "cuda" else DirectTransfers()
