"""Models that are kept in host memory and copied to the device for use, some of them block by block.

`HostedModel.in_use` copies to the device what fits: everything outside the blocks and some resident blocks. The other
blocks are streamed through a few slots of device memory: each block has a fixed slot, and while one block computes the
next ones are copied on a second stream. Nothing waits on the host: the streams wait for each other's events.

- Some resident blocks may stay on the device from one use to the next, which then copies the others alone.
- A block is packed into one piece of host memory, so that it takes one copy; for a GPU this memory is pinned as far as
  the system allows it (`runtime.pinning`). Resident blocks are packed only for that.
- Parameters stay the same objects in the same modules, only their data moves: adapters, compiled code and state
  dictionaries are not affected. The values in host memory are authoritative, and are changed within `writable`.
- Slots live as long as the model is in use. The copying stream is idle before they are freed, so the allocator need not
  know about it (`record_stream`).

Limits: the streamed blocks have the same layout, are called in order, and need no gradients.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ovi_studio.capacity.memory import SLOTS, evenly_streamed
from ovi_studio.runtime.pinning import Pinning
from ovi_studio.runtime.transfers import Transfers, transfers_for

_ALIGNMENT = 256
_OUTSIDE = -1
"""Stands for the depth of what is in no block."""
_METHODS = ("forward", "project_text")
"""The methods in which a block uses its weights; a block may lack some of them."""


class HostedModel:
    """A model that is kept in host memory and copied to the device for use.

    Args:
        model: in host memory; its parameters and buffers are changed there, within `writable`.
        device: the device that computes.
        blocks: parts of the model that may be streamed, in the order of their use.
        resident: how many blocks are on the device as long as the model is in use; None: all. The number of streamed
            blocks is rounded up to a multiple of `slots`, so that every slot is used in turn.
        slots: how many streamed blocks are on the device at a time.
        pinning: shared by models in the same host memory.
        kept: how many of the resident blocks stay on the device when the model is not in use.

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
        kept: int = 0,
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
        """By the depth of a block; `_OUTSIDE` for what is outside all blocks."""
        self._stream: _Stream | None = None
        self._used: list[_Copy] = []
        """Everything on the device but the streamed blocks, while the model is in use."""
        self._stays: dict[int, _Copy] = {}
        """The copies of blocks that stay on the device, by depth."""
        self._arriving: Transfers | None = None
        self._awaited = 0
        """Copies that are on their way, in the first slots of `_arriving`."""
        self.set_resident(resident, kept)
        inside = {tensor for tensors in self._tensors for tensor in tensors}
        self._pack_to_pin(_OUTSIDE, tuple(tensor for tensor in _tensors(model) if tensor not in inside))

    def set_resident(self, resident: int | None, kept: int = 0) -> None:
        """Set how many blocks are resident, and how many of them stay, from the next use on; see the parameters."""
        total = len(self._blocks)
        streamed = _evenly(total, 0 if resident is None else total - resident, self._slots)
        for depth in streamed:
            if depth not in self._packs:
                self._packs[depth] = _pack(self._tensors[depth], self._pinning)
        self._streamed_blocks = [self._blocks[depth] for depth in streamed]
        self._packed = [self._packs[depth] for depth in streamed]
        if len({packed.layout for packed in self._packed}) > 1:
            raise ValueError("streamed blocks must have the same layout")
        self._resident = [depth for depth in range(total) if depth not in streamed]
        self._kept = self._resident[:kept]
        for depth in self._resident[kept:]:
            self._pack_to_pin(depth, self._tensors[depth])
        self._let_go(set(self._stays) - set(self._kept))

    @property
    def streamed(self) -> int:
        """The number of blocks that are fetched whenever they are needed."""
        return len(self._packed)

    @property
    def kept(self) -> int:
        """The number of blocks that stay on the device between uses."""
        return len(self._kept)

    def fetch_kept(self) -> None:
        """Start to copy the blocks that stay and are not there yet, in parallel with what other models compute."""
        missing = [depth for depth in self._kept if depth not in self._stays]
        if not missing or self._arriving is not None:
            return
        self._arriving = transfers = self._make_transfers(self._device, len(missing))
        self._awaited = 0
        for slot, depth in enumerate(missing):
            copy = self._copy(depth)
            transfers.release(slot)  # queued computation may still use the memory for something else
            for target, source in copy.pairs:
                transfers.fetch(slot, target, source)
            self._stays[depth] = copy
            self._awaited = slot + 1

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the model on the device within the block; afterwards only the blocks that stay take device memory."""
        with self._on_device(), self._streaming():
            yield

    @contextmanager
    def writable(self) -> Iterator[None]:
        """Point the weights at host memory, to be changed; afterwards copy them to the device if it uses them."""
        if not self._used:
            try:
                yield
            finally:
                self._let_go(set(self._stays))
            return
        if self._stream is not None:
            self._stream.stop()
        for copy in self._used:
            copy.leave()
        try:
            yield
        except BaseException:
            self._let_go(set(self._stays))  # host memory may have other values now
            raise
        for copy in self._used:
            copy.fill(wait=True)  # in the same memory: there may be no room for a second copy
            copy.enter()
        if self._stream is not None:
            self._stream.start()

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        """Keep everything but the streamed blocks on the device."""
        if self._arriving is not None:
            for slot in range(self._awaited):
                self._arriving.arrive(slot)
            self._arriving = None
        try:
            for depth in self._resident:
                self._use(self._stays.get(depth) or self._copy(depth).fill())
                if depth in self._kept:
                    self._stays[depth] = self._used[-1]
            inside = {tensor for tensors in self._tensors for tensor in tensors}
            packed = self._packs[_OUTSIDE].tensors if _OUTSIDE in self._packs else ()
            if packed:
                self._use(_Copy(packed, self._device, self._packs[_OUTSIDE]).fill())
            # Run-time adapters may have come since.
            loose = tuple(tensor for tensor in _tensors(self._model) if tensor not in inside.union(packed))
            self._use(_Copy(loose, self._device).fill())
            yield
        finally:
            # Nothing was changed on the device, so nothing is copied back.
            for copy in self._used:
                copy.leave()
            self._used = []

    def _use(self, copy: "_Copy") -> None:
        self._used.append(copy)
        copy.enter()

    def _copy(self, depth: int) -> "_Copy":
        return _Copy(self._tensors[depth], self._device, self._packs.get(depth))

    def _let_go(self, depths: set[int]) -> None:
        """Free the memory of copies, once nothing is on its way to them."""
        if depths and self._arriving is not None:
            self._arriving.close()
            self._arriving = None
        for depth in depths:
            del self._stays[depth]

    def _pack_to_pin(self, key: int, tensors: tuple[Tensor, ...]) -> None:
        """Pack tensors that travel for every clip, if their memory can be pinned."""
        if key not in self._packs and self._pinning.has_room_for(sum(tensor.nbytes for tensor in tensors)):
            self._packs[key] = _pack(tensors, self._pinning)

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
    """Parameters and buffers in one piece of host memory."""

    memory: Tensor
    """The piece of memory, uint8."""
    tensors: tuple[Tensor, ...]
    """The parameters and buffers, whose data in host memory are views of `memory`."""
    layout: tuple[tuple[int, torch.Size, tuple[int, ...], torch.dtype], ...]
    """Offset, shape, strides and type of each tensor in `memory`."""

    def views(self, memory: Tensor) -> list[Tensor]:
        """The tensors' data in another piece of memory of this layout."""
        return [
            memory[offset : offset + shape.numel() * dtype.itemsize].view(dtype).as_strided(shape, strides)
            for offset, shape, strides, dtype in self.layout
        ]

    def point_at(self, memory: Tensor) -> None:
        """Point the parameters at their data in another piece of memory of this layout."""
        for tensor, view in zip(self.tensors, self.views(memory), strict=True):
            tensor.data = view


class _Copy:
    """Tensors and their memory on the device, in one piece if they are packed."""

    def __init__(self, tensors: tuple[Tensor, ...], device: torch.device, packed: _Packed | None = None) -> None:
        self._tensors = tensors
        self._homes = [tensor.data for tensor in tensors]
        self.pairs: list[tuple[Tensor, Tensor]]
        """What is copied: targets on the device and their sources."""
        if device.type == "cpu":  # host memory itself
            self._places, self.pairs = self._homes, []
        elif packed is None:
            self._places = [torch.empty_like(home, device=device) for home in self._homes]
            self.pairs = list(zip(self._places, self._homes, strict=True))
        else:
            memory = torch.empty_like(packed.memory, device=device)
            self._places = packed.views(memory)
            self.pairs = [(memory, packed.memory)]

    def fill(self, *, wait: bool = False) -> "_Copy":
        """Copy the values to the device; unless it waits, host memory must not change before the device has them."""
        for target, source in self.pairs:
            target.copy_(source, non_blocking=not wait)
        return self

    def enter(self) -> None:
        """Point the tensors at the device."""
        for tensor, place in zip(self._tensors, self._places, strict=True):
            tensor.data = place

    def leave(self) -> None:
        """Point the tensors at host memory."""
        for tensor, home in zip(self._tensors, self._homes, strict=True):
            tensor.data = home


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
        layout.append((end, tensor.shape, tensor.stride(), tensor.dtype))
        end += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
    memory = torch.empty(end, dtype=torch.uint8)
    packed = _Packed(memory, tensors, tuple(layout))
    homes = [tensor.data for tensor in tensors]
    packed.point_at(memory)
    for tensor, home in zip(tensors, homes, strict=True):
        tensor.data.copy_(home)
    pinning.pin(memory)
    return packed
