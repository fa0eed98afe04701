"""Models whose weights are at home in host memory and come to the device to be used, some of them block by block.

`HostedModel.in_use` brings to the device what fits: everything outside the blocks and some resident blocks. The others
are streamed: there are a few slots of device memory, every block has its own, and while one block computes the next
ones are on their way on a second stream. Nothing waits on the host: the streams wait for each other's events.

- A block is packed into one piece of host memory, so that it comes in one copy; on a GPU this memory is pinned if the
  system allows it (`Pinning`).
- Parameters stay the same objects in the same modules, only their data is at another place: adapters, compiled code
  and state dictionaries see nothing of it. Home is what counts: whoever changes weights does it `at_rest`, or before.
- Slots live as long as the model is in use. The copying stream is idle before they are given back, so the allocator
  needs to know nothing about it (`record_stream`).

Limits: the streamed blocks are alike, are called in their order, and need no gradients.
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
"""Where a block uses its weights; what has no such method is not asked."""

log = logging.getLogger(__name__)


class Transfers(Protocol):
    """Copies from host memory into slots, beside the computation."""

    def fetch(self, slot: int, target: Tensor, source: Tensor) -> None:
        """Fill a slot as soon as it is free."""

    def arrive(self, slot: int) -> None:
        """What is computed from now on needs what was fetched last."""

    def release(self, slot: int) -> None:
        """The slot is free when what was asked to be computed before is done."""

    def close(self) -> None:
        """Return when no copy is under way."""


class CudaTransfers:
    """On a stream of their own."""

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
    """Where the device is the host, or has no streams: every copy is done when the call returns."""

    def fetch(self, slot: int, target: Tensor, source: Tensor) -> None:
        target.copy_(source)

    def arrive(self, slot: int) -> None:
        pass

    def release(self, slot: int) -> None:
        pass

    def close(self) -> None:
        pass


def transfers_for(device: torch.device, slots: int) -> Transfers:
    return CudaTransfers(device, slots) if device.type == "cuda" else DirectTransfers()


class Pinning:
    """Locks host memory, so that copies from it run beside the computation, until the system refuses once.

    Windows, WSL and containers allow about half of the memory. Copies from what is not locked take longer and are
    right all the same.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._ended = device.type != "cuda"

    def pin(self, memory: Tensor) -> None:
        """Lock it where it is: the allocator for pinned memory would round it up to a power of two."""
        if self._ended:
            return
        address, runtime = memory.data_ptr(), torch.cuda.cudart()
        error = int(runtime.cudaHostRegister(address, memory.numel() * memory.element_size(), 0))
        if not error:
            weakref.finalize(memory, runtime.cudaHostUnregister, address)
            return
        self._ended = True
        self._clear_error()
        log.warning("Host memory cannot be pinned any further (CUDA error %d): some blocks come slower.", error)

    def _clear_error(self) -> None:
        """The failed call has left its error for the next kernel that is launched: let that be one that nobody needs.

        torch has no binding for `cudaGetLastError`, and reports the error once.
        """
        try:
            torch.zeros(1, device=self._device).add_(1)
            torch.cuda.synchronize(self._device)
        except torch.AcceleratorError as error:
            log.debug("Cleared: %s", error)


class HostedModel:
    """A model in host memory.

    Args:
        model: on the host; its parameters and buffers may be changed there at any time when it is not in use.
        device: where it computes.
        blocks: parts of it that may be streamed, in the order of their use.
        resident: how many of them are on the device as long as the model is in use; None: all. The others are rounded
            up to a multiple of `slots`, so that every slot is used in turn.
        slots: streamed blocks that are on the device at a time.
        pinning: shared by the models that wait in the same host memory.

    Raises `ValueError` for a model that is not in host memory, and for streamed blocks that are not alike.
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
            raise ValueError(f"a hosted model waits in host memory, not on {', '.join(elsewhere)}")
        self._model = model
        self._device = device
        self._slots = slots
        self._make_transfers = transfers
        self._pinning = pinning or Pinning(device)
        self._blocks = blocks
        # As they are now: an adapter that runs beside them later is no part of what is streamed.
        self._tensors = [tuple(_tensors(block)) for block in blocks]
        self._packs: dict[int, _Packed] = {}
        self._stream: _Stream | None = None
        self.keep(resident)

    def keep(self, resident: int | None) -> None:
        """Let so many blocks stay on the device from the next use on; see the parameter of the same name."""
        total = len(self._blocks)
        streamed = _evenly(total, 0 if resident is None else total - resident, self._slots)
        for depth in streamed:
            if depth not in self._packs:
                self._packs[depth] = _pack(self._tensors[depth], self._pinning)
        self._guarded = [self._blocks[depth] for depth in streamed]
        self._packed = [self._packs[depth] for depth in streamed]
        if len({packed.layout for packed in self._packed}) > 1:
            raise ValueError("streamed blocks must be alike")

    @property
    def streamed(self) -> int:
        """Blocks that are fetched whenever they are needed."""
        return len(self._packed)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """The model computes on the device; afterwards the device has its memory back."""
        with self._on_device(), self._streaming():
            yield

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Within `in_use`: the weights are at home to be changed, and come to the device again afterwards."""
        if self._stream is None:
            yield
            return
        self._stream.stop()
        borrowed = self._borrowed
        for tensor, (home, _) in borrowed.items():
            tensor.data = home
        yield
        for tensor, (home, away) in borrowed.items():
            # The same memory again: there may be no room for a second copy.
            away.copy_(home)
            tensor.data = away
        self._stream.start()

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        """Everything but the streamed blocks."""
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
            with _guards(self._guarded, self._stream):
                yield
        finally:
            self._stream.stop()
            self._stream = None


class _Packed(NamedTuple):
    """A block's parameters in one piece of host memory."""

    memory: Tensor
    """uint8"""
    tensors: tuple[Tensor, ...]
    """The parameters and buffers, whose data at home are views of it."""
    layout: tuple[tuple[int, torch.Size, torch.dtype], ...]
    """Where each of them is: offset, shape and type."""

    def point_at(self, memory: Tensor) -> None:
        """Let the parameters have their data in another piece of memory."""
        for tensor, (offset, shape, dtype) in zip(self.tensors, self.layout, strict=True):
            size = shape.numel() * dtype.itemsize
            tensor.data = memory[offset : offset + size].view(dtype).view(shape)


class _Stream:
    """Fetches blocks in turn into slots; a block's slot is always the same."""

    def __init__(self, packed: Sequence[_Packed], device: torch.device, slots: int, transfers: Transfers) -> None:
        self._packed = packed
        self._transfers = transfers
        self._memory = [torch.empty_like(packed[0].memory, device=device) for _ in range(slots)]
        self._holds: list[int | None] = [None] * slots

    def start(self) -> None:
        for slot in range(len(self._memory)):
            # The memory may have belonged to something that is still being computed.
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
        """A block is about to be computed."""
        if self._holds[self._slot(index)] != index:  # not in turn: right, but without being prefetched
            self._transfers.release(self._slot(index))
            self._fetch(index)
        self._transfers.arrive(self._slot(index))

    def leave(self, index: int) -> None:
        """All of a block's work was given to the device."""
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
def _guards(blocks: Sequence[nn.Module], stream: _Stream) -> Iterator[None]:
    """Let every use of a block's weights go through the stream."""

    def guarded(method: Callable[..., Any], index: int) -> Callable[..., Any]:
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
            block.__dict__[name] = guarded(getattr(block, name), index)
        yield
    finally:
        for (block, _, name), before in zip(methods, own, strict=True):
            if before is None:
                block.__dict__.pop(name, None)
            else:
                block.__dict__[name] = before


def _evenly(total: int, streamed: int, slots: int) -> list[int]:
    """Which of `total` blocks are streamed: evenly between the resident ones, which leave time for the copies."""
    count = evenly_streamed(total, streamed, slots)
    return [(2 * index + 1) * total // (2 * count) for index in range(count)]


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers."""
    yield from module.parameters()
    yield from module.buffers()


def _pack(tensors: tuple[Tensor, ...], pinning: Pinning) -> _Packed:
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
