"""A count of the bytes that every operation of a model reads and writes, on the meta device: no weights, no GPU.

Each operator that PyTorch runs counts as one kernel, which reads its inputs once and writes its outputs once; views are
free, and a value that is broadcast is read once. Two operations are one kernel on a GPU but several on the meta device,
and are counted as on a GPU: attention, which never writes its scores, and RMS norm. Norms copy an input that is not
contiguous before they read it.

Compiled regions are counted as the compiler leaves them: operations between two products, attentions or convolutions
are one kernel if they feed each other or read the same; it reads what comes from outside it and writes what is used
outside it.

`moved` is what the memory of a GPU moves for that: whole sectors of 32 bytes (CUDA C++ Programming Guide, "Device
Memory Accesses"). An operand that a kernel walks in steps moves what lies between the steps, too, up to a sector for
each value, and so does the result when narrow pieces are joined.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

_SECTOR = 32
"""The fewest bytes that a GPU's memory moves."""

aten = torch.ops.aten


class Kind(StrEnum):
    """Kinds of operations."""

    PRODUCT = "matrix products"
    ATTENTION = "attention"
    CONVOLUTION = "convolutions"
    NORM = "norms"
    COPY = "copies"
    CONVERSION = "conversions"
    POINTWISE = "pointwise"
    FUSED = "fused"


LIBRARY = (Kind.PRODUCT, Kind.ATTENTION, Kind.CONVOLUTION)
"""Kinds that the compiler calls from a library: nothing is fused with them."""
_KINDS = {
    aten.mm: Kind.PRODUCT,
    aten.addmm: Kind.PRODUCT,
    aten.bmm: Kind.PRODUCT,
    aten.baddbmm: Kind.PRODUCT,
    aten._int_mm: Kind.PRODUCT,
    aten._scaled_dot_product_flash_attention: Kind.ATTENTION,
    aten.convolution: Kind.CONVOLUTION,
    aten.native_layer_norm: Kind.NORM,
    aten.native_group_norm: Kind.NORM,
    aten.clone: Kind.COPY,
    aten.copy_: Kind.COPY,
    aten.cat: Kind.COPY,
    aten.stack: Kind.COPY,
    aten.constant_pad_nd: Kind.COPY,
}


@dataclass(frozen=True)
class Traffic:
    """What a number of kernels read, write and compute."""

    kernels: int = 0
    read: int = 0
    """Bytes."""
    written: int = 0
    """Bytes."""
    moved: int = 0
    """Bytes of the sectors that are read and written."""
    flops: int = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            self.kernels + other.kernels,
            self.read + other.read,
            self.written + other.written,
            self.moved + other.moved,
            self.flops + other.flops,
        )

    def __sub__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            self.kernels - other.kernels,
            self.read - other.read,
            self.written - other.written,
            self.moved - other.moved,
            self.flops - other.flops,
        )

    @property
    def bytes(self) -> int:
        """Bytes read and written."""
        return self.read + self.written


_Value = tuple[int, int]
"""A storage and how often it was written before: a storage that is written holds another value."""


class _Access(NamedTuple):
    """A part of a value that an operation reads or writes."""

    value: _Value
    part: tuple[Any, ...]
    bytes: int


class _Call(NamedTuple):
    """An operation of a compiled region."""

    kind: Kind
    reads: tuple[_Access, ...]
    writes: tuple[_Access, ...]
    traffic: Traffic


class TrafficCounter(TorchDispatchMode):
    """Counts the operations that run while it is active; `by_kind` gives the sums."""

    def __init__(self) -> None:
        super().__init__()
        self._eager: dict[Kind, Traffic] = defaultdict(Traffic)
        self._eager_reads: set[_Value] = set()
        self._regions: list[list[_Call]] = []
        self._region: list[_Call] | None = None
        self._writes: dict[int, int] = defaultdict(int)
        self._alive: list[Tensor] = []
        """Keeps every storage alive: the address of one that is freed would be used again."""
        self._counting = True
        self._as_on_a_gpu = _GpuKernels(self)

    def __enter__(self) -> Self:
        self._as_on_a_gpu.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._as_on_a_gpu.__exit__(*error)

    @contextmanager
    def compiled(self) -> Iterator[None]:
        """Count what runs within the block as one compiled region; regions are not nested."""
        self._region = []
        try:
            yield
        finally:
            self._regions.append(self._region)
            self._region = None

    def by_kind(self) -> dict[Kind, Traffic]:
        """Return the sums of each kind."""
        sums = defaultdict(Traffic, self._eager)
        readers = [{read.value for call in region for read in call.reads} for region in self._regions]
        for index, region in enumerate(self._regions):
            outside = self._eager_reads.union(*readers[:index], *readers[index + 1 :])
            for kind, traffic in _compiled(region, outside):
                sums[kind] += traffic
        return dict(sums)

    def __torch_dispatch__(self, operator: Any, types: Any, inputs: Any = (), options: Any = None) -> Any:
        options = options or {}
        result = operator(*inputs, **options)
        if operator.overloadpacket is aten.convolution:
            result = _laid_out_like(inputs[0], result)
        if self._counting:
            self._count(operator, inputs, options, result)
        return result

    def as_one_kernel(self, kind: Kind, function: Callable[..., Tensor], reads: Sequence[Tensor]) -> Tensor:
        """Call a function of these tensors and count it as one kernel, whatever it runs."""
        self._counting = False
        try:
            result = function()
        finally:
            self._counting = True
        self._record(kind, reads, [result])
        return result

    def _count(self, operator: Any, inputs: Any, options: Any, result: Any) -> None:
        packet = operator.overloadpacket
        changed, given = _arguments(operator, inputs, options)
        storages = {_storage(one) for one in given}
        written = changed or [one for one in _tensors(result) if _storage(one) not in storages]
        if not written or packet in _ALLOCATIONS:
            return
        overwritten = packet is aten.copy_ or operator._overloadname.endswith("out")
        reads = given if overwritten else [*given, *changed]
        flops = flop_registry[packet](*inputs, **options, out_val=result) if packet in flop_registry else 0
        scattered = 1
        if packet in (aten.cat, aten.stack):
            axis = inputs[1] if len(inputs) > 1 else options.get("dim", 0)
            scattered = _scattered(given[0], written[0], axis % written[0].dim())
        self._record(_kind(packet, reads, written), reads, written, flops, scattered)

    def _record(
        self, kind: Kind, reads: Sequence[Tensor], writes: Sequence[Tensor], flops: int = 0, scattered: int = 1
    ) -> None:
        self._alive += [*reads, *writes]
        if kind is Kind.NORM and self._region is None:
            for strided in (one for one in reads if not one.is_contiguous()):
                self._record(Kind.COPY, [strided], [strided.new_empty(strided.shape)])
        order = None if kind in LIBRARY or kind is Kind.NORM else max([*writes, *reads], key=Tensor.numel)
        traffic = Traffic(
            kernels=1,
            read=sum(map(_bytes, reads)),
            written=sum(map(_bytes, writes)),
            moved=sum(_moved(one, order) for one in reads) + scattered * sum(_moved(one, order) for one in writes),
            flops=flops,
        )
        before = [self._access(one) for one in reads]
        if self._region is None:
            self._eager[kind] += traffic
            self._eager_reads.update(read.value for read in before)
            self._write(writes)
        else:
            # The compiler replaces a tensor that is written in part by a new one.
            before += [self._whole(one) for one in writes if self._is_part(one)]
            self._write(writes)
            self._region.append(_Call(kind, tuple(before), tuple(map(self._whole, writes)), traffic))

    def _write(self, written: Iterable[Tensor]) -> None:
        for one in written:
            self._writes[_storage(one)] += 1

    def _is_part(self, tensor: Tensor) -> bool:
        return self._writes[_storage(tensor)] > 0 and _bytes(tensor) < tensor.untyped_storage().nbytes()

    def _access(self, tensor: Tensor) -> _Access:
        storage = _storage(tensor)
        part = (tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
        return _Access((storage, self._writes[storage]), part, _bytes(tensor))

    def _whole(self, tensor: Tensor) -> _Access:
        storage = _storage(tensor)
        return _Access((storage, self._writes[storage]), (), tensor.untyped_storage().nbytes())


class _GpuKernels(TorchFunctionMode):
    """Makes one kernel of what is one on a GPU, but several on the meta device."""

    def __init__(self, counter: TrafficCounter) -> None:
        super().__init__()
        self._counter = counter

    def __torch_function__(self, function: Any, types: Any, inputs: Any = (), options: Any = None) -> Any:
        options = options or {}
        if function is functional.scaled_dot_product_attention:
            names = dict(zip(("query", "key", "value"), inputs, strict=False)) | options
            return aten._scaled_dot_product_flash_attention(names["query"], names["key"], names["value"])[0]
        if function is functional.rms_norm:
            return self._counter.as_one_kernel(
                Kind.NORM, lambda: function(*inputs, **options), _tensors((inputs, options))
            )
        return function(*inputs, **options)


# One operation


_ALLOCATIONS = (aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided)


def _kind(packet: Any, reads: Sequence[Tensor], written: Sequence[Tensor]) -> Kind:
    if packet in (aten._to_copy, aten.copy_) and reads and reads[-1].dtype != written[0].dtype:
        return Kind.CONVERSION
    return Kind.COPY if packet is aten._to_copy else _KINDS.get(packet, Kind.POINTWISE)


def _laid_out_like(x: Tensor, result: Tensor) -> Tensor:
    """Return a convolution's result as cuDNN writes it: channels-last after a channels-last input.

    On the meta device a convolution in three dimensions forgets the layout.
    """
    layout = torch.channels_last_3d if x.dim() == 5 else torch.channels_last
    if x.dim() not in (4, 5) or not x.is_contiguous(memory_format=layout):
        return result
    return torch.empty_like(result, memory_format=layout)


def _arguments(operator: Any, inputs: Any, options: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Return the tensors among the arguments that an operator writes, and the others."""
    written: list[Tensor] = []
    others: list[Tensor] = []
    for index, argument in enumerate(operator._schema.arguments):
        value = inputs[index] if index < len(inputs) else options.get(argument.name)
        changes = argument.alias_info is not None and argument.alias_info.is_write
        (written if changes else others).extend(_tensors(value))
    return written, others


def _tensors(values: Any) -> list[Tensor]:
    return [one for one in tree_iter(values) if isinstance(one, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _bytes(tensor: Tensor) -> int:
    """Bytes of a tensor's values; those of an expanded one count once."""
    distinct = tensor.element_size() if tensor.numel() else 0
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        distinct *= size if stride else 1
    return distinct


def _moved(tensor: Tensor, order: Tensor | None) -> int:
    """Bytes of the sectors that a kernel moves which walks through `order`, and in step with it through `tensor`."""
    walked = {} if order is None else {axis - order.dim(): order.stride(axis) for axis in range(order.dim())}
    steps = {axis: step for axis, step in walked.items() if step and order is not None and order.shape[axis] > 1}
    fastest = min(steps, key=lambda axis: (steps[axis], -axis), default=0)
    if not -tensor.dim() <= fastest < 0 or tensor.shape[fastest] == 1:
        return _bytes(tensor)
    return _bytes(tensor) * min(max(1, tensor.stride(fastest)), max(1, _SECTOR // tensor.element_size()))


def _scattered(piece: Tensor, joined: Tensor, axis: int) -> int:
    """How often the bytes of `joined` are moved when such pieces are written into it, one after the other."""
    width = piece.shape[axis] if piece.dim() == joined.dim() else 1
    run = width * joined.stride(axis) * joined.element_size()
    return max(1, _SECTOR // max(1, run))


# Compiled regions


def _compiled(region: Sequence[_Call], outside: set[_Value]) -> Iterator[tuple[Kind, Traffic]]:
    """Yield the kernels of a region.

    Args:
        outside: values that are read outside the region.
    """
    readers: dict[_Value, set[int]] = defaultdict(set)
    groups = _groups(region)
    for group, calls in groups.items():
        for read in (read for call in calls for read in call.reads):
            readers[read.value].add(group)
    for group, calls in groups.items():
        if calls[0].kind in LIBRARY:
            yield calls[0].kind, calls[0].traffic
            continue
        made = {write.value for call in calls for write in call.writes}
        parts = {(one.value, one.part): one.bytes for call in calls for one in call.reads if one.value not in made}
        written = {
            write.value: write.bytes
            for call in calls
            for write in call.writes
            if write.value in outside or readers[write.value] - {group}
        }
        incoming, outgoing = sum(parts.values()), sum(written.values())
        if incoming + outgoing:
            yield Kind.FUSED, Traffic(1, incoming, outgoing, incoming + outgoing, 0)


def _groups(region: Sequence[_Call]) -> dict[int, list[_Call]]:
    """Group the calls that become one kernel, by the index of one of them.

    Calls are fused with those that make what they read or read it too, if as many library calls lie before both: else
    one of these would have to run in between.
    """
    depth: dict[_Value, int] = defaultdict(int)
    users: dict[tuple[_Value, int], int] = {}
    leader = list(range(len(region)))

    def find(index: int) -> int:
        while leader[index] != index:
            index = leader[index]
        return index

    for index, call in enumerate(region):
        own = max((depth[read.value] for read in call.reads), default=0)
        for write in call.writes:
            depth[write.value] = own + (call.kind in LIBRARY)
        if call.kind not in LIBRARY:
            for access in (*call.reads, *call.writes):
                leader[find(users.setdefault((access.value, own), index))] = find(index)
    groups: dict[int, list[_Call]] = defaultdict(list)
    for index, call in enumerate(region):
        groups[find(index)].append(call)
    return groups
