"""Models that are kept in host memory and copied to the device for use, some of them block by block.

`HostedModel.in_use` copies to the device what fits: everything outside the blocks and some resident blocks. The other
blocks are streamed through a few slots of device memory: each block has a fixed slot, and while one block computes the
next ones are copied on a second stream. Nothing waits on the host: the streams wait for each other's events.

- A block is packed into one piece of host memory, so that it takes one copy; for a GPU this memory is pinned if the
  system allows it (`Pinning`).
- Parameters stay the same objects in the same modules, only their data moves: adapters, compiled code and state
  dictionaries are not affected. The values in host memory are authoritative: weights are changed within `writable`, or
  while the model is not in use.
- Slots live as long as the model is in use. The copying stream is idle before they are freed, so the allocator need not
  know about it (`record_stream`).

Limits: the streamed blocks have the same layout, are called in order, and need no gradients.
"""

import logging
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ovi_studio.capacity.memory import SLOTS, evenly_streamed

_ALIGNMENT = 256
_METHODS = ("forward", "project_text")
"""The methods in which a block uses its weights; a block may lack some of them."""

log = logging.getLogger(__name__)


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


class Pinning:
    """Pins host memory, so that copies from it run in parallel with the computation, until the system refuses once.

    Windows, WSL and containers allow about half of the memory. Copies from memory that is not pinned are slower but
    just as correct.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._ended = device.type != "cuda"

    def pin(self, memory: Tensor) -> None:
        """Pin memory in place: the allocator for pinned memory would round its size up to a power of two."""
        if self._ended:
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


class HostedModel:
    """A model that is kept in host memory and copied to the device for use.

    Args:
        model: in host memory; its parameters and buffers may be changed there at any time when it is not in use.
        device: the device that computes.
        blocks: parts of the model that may be streamed, in the order of their use.
        resident: how many blocks are on the device as long as the model is in use; None: all. The number of streamed
            blocks is rounded up to a multiple of `slots`, so that every slot is used in turn.
        slots: how many streamed blocks are on the device at a time.
        pinning: shared by models in the same host memory.

    Raises `ValueError` for a model that is not in host memory, and for streamed blocks with different layouts.
    """

    def __init__(
        self,
        model: nn.Module,
        device: torch.device,
        blocks: Sequence[nn.Module] = (),
        resident: int | None = None,
        slots: int = SLOTS,
        transfers: Callable[[torch.device, int], Transfers] = transfers_for,
        pinning: Pinning | None = None,
    ) -> None:
        if elsewhere := {tensor.device.type for tensor in _tensors(model)} - {"cpu"}:
            raise ValueError(f"a hosted model must be in host memory, not on {', '.join(elsewhere)}")
        self._model = model
        self._device = device
        self._slots = slots
        self._make_transfers = transfers
        self._pinning = pinning or Pinning(device)
        self._blocks = blocks
        # Taken now: a run-time adapter that is added to a block later is not streamed.
        self._tensors = [tuple(_tensors(block)) for block in blocks]
        self._packs: dict[int, _Packed] = {}
        self._stream: _Stream | None = None
        self.set_resident(resident)

    def set_resident(self, resident: int | None) -> None:
        """Set how many blocks are resident from the next use on; see the parameter `resident`."""
        total = len(self._blocks)
        streamed = _evenly(total, 0 if resident is None else total - resident, self._slots)
        for depth in streamed:
            if depth not in self._packs:
                self._packs[depth] = _pack(self._tensors[depth], self._pinning)
        self._streamed_blocks = [self._blocks[depth] for depth in streamed]
        self._packed = [self._packs[depth] for depth in streamed]
        if len({packed.layout for packed in self._packed}) > 1:
            raise ValueError("streamed blocks must have the same layout")

    @property
    def streamed(self) -> int:
        """The number of blocks that are fetched whenever they are needed."""
        return len(self._packed)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the model on the device within the block; afterwards its device memory is free."""
        with self._on_device(), self._streaming():
            yield

    @contextmanager
    def writable(self) -> Iterator[None]:
        """Within `in_use`: point the weights at host memory, to be changed, and copy them to the device afterwards."""
        if self._stream is None:
            yield
            return
        self._stream.stop()
        borrowed = self._borrowed
        for tensor, (home, _) in borrowed.items():
            tensor.data = home
        yield
        for tensor, (home, away) in borrowed.items():
            # Into the same memory: there may be no room for a second copy.
            away.copy_(home)
            tensor.data = away
        self._stream.start()

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        """Keep everything but the streamed blocks on the device."""
        packed = {tensor for one in self._packed for tensor in one.tensors}
        self._borrowed: dict[Tensor, tuple[Tensor, Tensor]] = {}
        try:
            for tensor in _tensors(self._model):
                if tensor not in packed:
                    home = tensor.data
                    tensor.data = home.to(self._device, non_blocking=True)
                    self._borrowed[tensor] = (home, tensor.data)
            yield
        finally:
            # Nothing was changed on the device, so nothing is copied back.
            for tensor, (home, _) in self._borrowed.items():
                tensor.data = home
            self._borrowed = {}

    @contextmanager
    def _streaming(self) -> Iterator[None]:
        if not self._packed:
            yield
            return
        slots = min(self._slots, len(self._packed))
        self._stream = _Stream(self._packed, self._device, slots, self._make_transfers(self._device, slots))
        try:
            self._stream.start()
            with _streamed_methods(self._streamed_blocks, self._stream):
                yield
        finally:
            self._stream.stop()
            self._stream = None


class _Packed(NamedTuple):
    """A block's parameters in one piece of host memory."""

    memory: Tensor
    """The piece of memory, uint8."""
    tensors: tuple[Tensor, ...]
    """The parameters and buffers, whose data in host memory are views of `memory`."""
    layout: tuple[tuple[int, torch.Size, torch.dtype], ...]
    """Offset, shape and type of each tensor in `memory`."""

    def point_at(self, memory: Tensor) -> None:
        """Point the parameters at their data in another piece of memory of this layout."""
        for tensor, (offset, shape, dtype) in zip(self.tensors, self.layout, strict=True):
            size = shape.numel() * dtype.itemsize
            tensor.data = memory[offset : offset + size].view(dtype).view(shape)


class _Stream:
    """Fetches blocks in turn into slots; every block has a fixed slot."""

    def __init__(self, packed: Sequence[_Packed], device: torch.device, slots: int, transfers: Transfers) -> None:
        self._packed = packed
        self._transfers = transfers
        self._memory = [torch.empty_like(packed[0].memory, device=device) for _ in range(slots)]
        self._holds: list[int | None] = [None] * slots

    def start(self) -> None:
        for slot in range(len(self._memory)):
            # Queued computation may still use the memory for something else.
            self._transfers.release(slot)
            self._fetch(slot)
        for index, packed in enumerate(self._packed):
            packed.point_at(self._memory[self._slot(index)])

    def stop(self) -> None:
        self._transfers.close()
        self._holds = [None] * len(self._memory)
        for packed in self._packed:
            packed.point_at(packed.memory)

    def enter(self, index: int) -> None:
        """Called before a block computes: wait for its weights."""
        if self._holds[self._slot(index)] != index:  # called out of order: correct, but not prefetched
            self._transfers.release(self._slot(index))
            self._fetch(index)
        self._transfers.arrive(self._slot(index))

    def leave(self, index: int) -> None:
        """Called when all work of a block is queued: fetch the next block into its slot."""
        slot = self._slot(index)
        self._transfers.release(slot)
        following = index + len(self._memory)
        self._fetch(following if following < len(self._packed) else slot)

    def _slot(self, index: int) -> int:
        return index % len(self._memory)

    def _fetch(self, index: int) -> None:
        slot = self._slot(index)
        if self._holds[slot] != index:
            self._transfers.fetch(slot, self._memory[slot], self._packed[index].memory)
            self._holds[slot] = index


@contextmanager
def _streamed_methods(blocks: Sequence[nn.Module], stream: _Stream) -> Iterator[None]:
    """Wrap every method that uses a block's weights, so that the stream provides them."""

    def wrapped(method: Callable[..., Any], index: int) -> Callable[..., Any]:
        def run(*inputs: Any, **options: Any) -> Any:
            stream.enter(index)
            try:
                return method(*inputs, **options)
            finally:
                stream.leave(index)

        return run

    methods = [(block, index, name) for index, block in enumerate(blocks) for name in _METHODS if hasattr(block, name)]
    own = [block.__dict__.get(name) for block, _, name in methods]
    try:
        for block, index, name in methods:
            block.__dict__[name] = wrapped(getattr(block, name), index)
        yield
    finally:
        for (block, _, name), before in zip(methods, own, strict=True):
            if before is None:
                block.__dict__.pop(name, None)
            else:
                block.__dict__[name] = before


def _evenly(total: int, streamed: int, slots: int) -> list[int]:
    """Return which of `total` blocks are streamed: evenly spread among the resident ones, which leave time to copy."""
    count = evenly_streamed(total, streamed, slots)
    return [(2 * index + 1) * total // (2 * count) for index in range(count)]


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """Iterate over parameters and buffers."""
    yield from module.parameters()
    yield from module.buffers()


def _pack(tensors: tuple[Tensor, ...], pinning: Pinning) -> _Packed:
    """Move tensors into one piece of host memory."""
    layout, end = [], 0
    for tensor in tensors:
        layout.append((end, tensor.shape, tensor.dtype))
        size = tensor.numel() * tensor.element_size()
        end += -(-size // _ALIGNMENT) * _ALIGNMENT
    memory = torch.empty(end, dtype=torch.uint8)
    packed = _Packed(memory, tensors, tuple(layout))
    homes = [tensor.data for tensor in tensors]
    packed.point_at(memory)
    for tensor, home in zip(tensors, homes, strict=True):
        tensor.data.copy_(home)
    pinning.pin(memory)
    return packed
