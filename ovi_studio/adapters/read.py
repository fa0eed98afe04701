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

from ovi_studio.adapters.formats.change import Change, Changes
from ovi_studio.adapters.formats.dora import MAGNITUDE, Decomposed
from ovi_studio.adapters.formats.format import ALPHA
from ovi_studio.adapters.header import (
    AdapterFiles,
    Header,
    PeftConfig,
    TensorInfo,
    locate,
    read_header,
    read_peft_config,
)
from ovi_studio.adapters.match import MatchReport, PlannedChange, match_header
from ovi_studio.adapters.names import NameMap
from ovi_studio.core.adapter_stack import combined_sha256
from ovi_studio.core.errors import JobError

_DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
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
    match = match_header(path.name, header, names)
    content, digest = _read_bytes(files, header)
    tensors = _Tensors(path.name, content, header)
    if config is not None and config.dora and not any(MAGNITUDE in change.tensors for change in match.changes):
        raise JobError(f"{path.name} claims to be a DoRA but contains no magnitudes; save it again.")
    changes: dict[str, list[Change]] = {}
    for planned in match.changes:
        changes.setdefault(planned.parameter, []).append(_build(planned, tensors, config))
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
    """The tensors of one file, each checked when it is accessed."""

    def __init__(self, file_name: str, content: bytearray, header: Header) -> None:
        self.file_name = file_name
        self._header = header
        self._bytes = torch.frombuffer(content, dtype=torch.uint8)

    def __getitem__(self, key: str) -> Tensor:
        tensor = self._view(self._header.tensors[key])
        # Not every number format supports `isfinite`; all convert to float32.
        if not torch.isfinite(tensor.float()).all():
            raise JobError(f"{self.file_name} contains NaN or infinite values, in {key[:120]}; download it again.")
        return tensor

    def _view(self, info: TensorInfo) -> Tensor:
        dtype = _DTYPES[info.dtype]
        start = self._header.data_start + info.start
        part = self._bytes[start : self._header.data_start + info.end]
        # The format requires aligned tensors; unaligned ones cost a copy.
        return (part.clone() if start % dtype.itemsize else part).view(dtype).view(info.shape)


def _build(planned: PlannedChange, tensors: _Tensors, config: PeftConfig | None) -> Change:
    scale = 1.0 if planned.rank is None else _scale(planned, planned.rank, tensors, config)
    own = {role: tensors[key] for role, key in planned.tensors.items() if role in planned.kind.roles}
    change = planned.kind.build(own, scale)
    magnitude = planned.tensors.get(MAGNITUDE)
    return change if magnitude is None else Decomposed(change, tensors[magnitude])


def _scale(planned: PlannedChange, rank: int, tensors: _Tensors, config: PeftConfig | None) -> float:
    if ALPHA in planned.tensors:
        return tensors[planned.tensors[ALPHA]].item() / rank
    return 1.0 if config is None else config.scale(planned.layer, rank)
