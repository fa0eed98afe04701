"""Reads an adapter file as changes of the model: reads, checks and scales its tensors.

The file is read once, into memory: its hash is that of the bytes that are used, and truncating the file meanwhile does
no harm, as it would to a memory mapping. Tensors are views of these bytes in the file's own number format.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ovi_studio.adapters.contents import Contents, examine
from ovi_studio.adapters.formats.change import Change, Changes
from ovi_studio.adapters.formats.dora import MAGNITUDE, Decomposed
from ovi_studio.adapters.formats.layer_tensors import multiplier
from ovi_studio.adapters.header import AdapterFiles, Header, TensorInfo, locate, read_header
from ovi_studio.adapters.match import PlannedChange, match_header
from ovi_studio.adapters.match_report import MatchReport
from ovi_studio.adapters.names import NameMap
from ovi_studio.adapters.scaling import read_peft_config
from ovi_studio.core.adapter_stack import combined_sha256
from ovi_studio.core.errors import JobError

_DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
}


@dataclass(frozen=True, eq=False)
class Adapter:
    """The changes that a file makes to the model."""

    path: Path
    sha256: str
    changes: Changes
    report: MatchReport


def read_adapter(path: Path, names: NameMap) -> Adapter:
    """Read a safetensors file or PEFT folder.

    Raises:
        JobError: the file cannot be used; the message says why and what to do.
    """
    files = locate(path)
    header = read_header(files.weights)
    config = None if files.config is None else read_peft_config(files.config)
    # Matched before it is read: most files that cannot be used are refused here.
    match = match_header(path.name, header, names, config)
    content, digest = _read_bytes(files, header)
    view = memoryview(content)
    contents = examine(header, lambda start, end: view[start:end])
    match = match.examined(contents)
    tensors = _Tensors(content, header)
    changes: dict[str, list[Change]] = {}
    for planned in match.changes:
        changes.setdefault(planned.parameter, []).append(_build(planned, tensors, contents))
    return Adapter(path, digest, changes, match.report)


def _read_bytes(files: AdapterFiles, header: Header) -> tuple[bytearray, str]:
    """Read the weights file; returns its bytes and the hash of the whole adapter."""
    try:
        size = files.weights.stat().st_size
        content = bytearray(size)
        with files.weights.open("rb") as file:
            count = file.readinto(content)
        config = None if files.config is None else files.config.read_bytes()
    except OSError as error:
        raise JobError(f"{files.weights} cannot be read ({error.strerror}); check that it is still there.") from error
    expected = header.data_start + max(info.end for info in header.tensors.values())
    if count != expected:
        raise JobError(f"{files.weights.name} changed while it was read; wait until it is copied completely.")
    return content, combined_sha256(
        hashlib.sha256(content).hexdigest(), None if config is None else hashlib.sha256(config).hexdigest()
    )


class _Tensors:
    """The tensors of one file, by their names."""

    def __init__(self, content: bytearray, header: Header) -> None:
        self._header = header
        self._bytes = torch.frombuffer(content, dtype=torch.uint8)

    def __getitem__(self, key: str) -> Tensor:
        return self._view(self._header.tensors[key])

    def _view(self, info: TensorInfo) -> Tensor:
        dtype = _DTYPES[info.dtype]
        start = self._header.data_start + info.start
        part = self._bytes[start : self._header.data_start + info.end]
        # The format requires aligned tensors; unaligned ones cost a copy.
        return (part.clone() if start % dtype.itemsize else part).view(dtype).view(info.shape)


def _build(planned: PlannedChange, tensors: _Tensors, contents: Contents) -> Change:
    scale = planned.scale(contents)
    if scale is None:
        raise ValueError(f"the numbers that scale {planned.parameter} were not read")
    own = {role: _tensor(planned, role, tensors) for role in planned.kind.roles if role in planned.tensors}
    change = planned.kind.build(own, scale)
    return Decomposed(change, _tensor(planned, MAGNITUDE, tensors)) if MAGNITUDE in planned.tensors else change


def _tensor(planned: PlannedChange, role: str, tensors: _Tensors) -> Tensor:
    """Return a tensor in its own number format, or in float32 if it is multiplied by a scale of its own."""
    tensor = tensors[planned.tensors[role]]
    factor = planned.tensors.get(multiplier(role))
    if factor is None:
        return tensor
    scale = tensors[factor].float().flatten()
    return tensor.float() * (scale if len(scale) == 1 else scale.view(-1, *[1] * (tensor.dim() - 1)))
