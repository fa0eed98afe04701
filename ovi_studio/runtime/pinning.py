"""Pins host memory, so that copies from it to a GPU run in parallel with the computation."""

import logging
import weakref

import torch
from torch import Tensor

from ovi_studio.capacity.budget import PINNED_RESERVE
from ovi_studio.capacity.host import host_memory

log = logging.getLogger(__name__)


class Pinning:
    """Pins host memory until little is left of it, or the system refuses once.

    Pinned memory cannot be swapped out. Windows, WSL and containers allow about half of the memory. Copies from memory
    that is not pinned are slower but just as correct.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._ended = device.type != "cuda"

    def has_room_for(self, size: int) -> bool:
        """Whether this many bytes of memory, not allocated yet, can be pinned."""
        return not self._ended and size > 0 and host_memory().available - size >= PINNED_RESERVE

    def pin(self, memory: Tensor) -> None:
        """Pin memory in place: the allocator for pinned memory would round its size up to a power of two."""
        if self._ended:
            return
        if host_memory().available < PINNED_RESERVE:
            self._ended = True
            log.warning("Host memory is short: no more of it is pinned, and some blocks are copied more slowly.")
            return
        address, runtime = memory.data_ptr(), torch.cuda.cudart()
        error = int(runtime.cudaHostRegister(address, memory.numel() * memory.element_size(), 0))
        if not error:
            weakref.finalize(memory, runtime.cudaHostUnregister, address)
            return
        self._ended = True
        self._clear_error()
        log.warning("No more host memory can be pinned (CUDA error %d): some blocks are copied more slowly.", error)

    def _clear_error(self) -> None:
        """Launch a kernel whose result is not needed, because the failed call leaves its error for the next kernel.

        torch has no binding for `cudaGetLastError`, and reports the error once.
        """
        try:
            torch.zeros(1, device=self._device).add_(1)
            torch.cuda.synchronize(self._device)
        except torch.AcceleratorError as error:
            log.debug("Cleared: %s", error)
