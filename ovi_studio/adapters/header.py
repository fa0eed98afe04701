"""Reads and checks the header of an adapter file, before its tensors are read. Imports no torch, unpickles nothing.

An adapter is a safetensors file or a PEFT folder (`adapter_config.json` and `adapter_model.safetensors`). The header is
bounded and checked against the file size, so that a file that passes can be split into tensors safely. Every refused
file gets a specific error message.
"""

import json
import math
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovi_studio.core.errors import JobError

MAX_HEADER = 16_000_000
"""Bytes; a hundred times the header of the largest adapter known."""
PICKLE_SUFFIXES = frozenset({".pt", ".pth", ".ckpt", ".bin", ".pkl"})
PEFT_CONFIG = "adapter_config.json"
PEFT_WEIGHTS = "adapter_model.safetensors"

ITEM_BITS: Mapping[str, int] = {
    **dict.fromkeys(("F64", "C64", "I64", "U64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "BOOL"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
"""All number formats of safetensors and the bits of one value; `match` says which of them can be used."""

_AGAIN = "download or copy it again"
_NO_PICKLES = "its trainer can save it as .safetensors, which contains only numbers"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a file: its number format, shape, and byte range after the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """A safetensors header that agrees with the size of its file."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    data_start: int
    """Bytes before the first tensor."""


@dataclass(frozen=True)
class AdapterFiles:
    """The files of an adapter: its weights, and its PEFT configuration if it is a folder."""

    weights: Path
    config: Path | None


def locate(path: Path) -> AdapterFiles:
    """Find the files of an adapter; raises `JobError` for a pickle, or a folder without PEFT's two files."""
    if path.is_dir():
        config, weights = path / PEFT_CONFIG, path / PEFT_WEIGHTS
        if not config.is_file():
            raise JobError(f"{path.name} is a folder without {PEFT_CONFIG}, so it is not a PEFT adapter; {_AGAIN}.")
        if not weights.is_file():
            pickled = (path / "adapter_model.bin").is_file()
            reason = (
                f"contains a pickle, which is never loaded; {_NO_PICKLES}" if pickled else f"is incomplete; {_AGAIN}"
            )
            raise JobError(f"{path.name} has no {PEFT_WEIGHTS}: it {reason}.")
        return AdapterFiles(weights, config)
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise JobError(f"{path.name} is a pickle, which can run code and is never loaded; {_NO_PICKLES}.")
    if path.suffix.lower() != ".safetensors":
        raise JobError(f"{path.name} is not a .safetensors file; only those and PEFT folders can be used.")
    config = path.with_name(PEFT_CONFIG)
    return AdapterFiles(path, config if path.name == PEFT_WEIGHTS and config.is_file() else None)


def read_header(path: Path) -> Header:
    """Read the header of a safetensors file; raises `JobError` with the reason if it is not valid."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # to open a pipe or a device could block forever
            raise JobError(f"{path.name} is not a regular file; copy the adapter itself into this folder.")
        size = status.st_size
        with path.open("rb") as file:
            start = file.read(64)
            length = int.from_bytes(start[:8], "little")
            if reason := _disguised(start) or _bad_length(size, length):
                raise JobError(f"{path.name} {reason}.")
            file.seek(8)
            text = file.read(length)
    except OSError as error:
        raise JobError(f"{path.name} cannot be read ({error.strerror}); check that it is still there.") from error
    return _parse(path.name, text, size)


def _disguised(start: bytes) -> str | None:
    """Return what a file really is if it only has the name of a safetensors file, as the end of a sentence."""
    if not start:
        return f"is empty; {_AGAIN}"
    if start.startswith(b"version https://git-lfs"):
        return "is a git-lfs pointer, not the file itself; fetch it with `git lfs pull` or download it"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return f"is a web page, not an adapter; {_AGAIN}, signed in if its site asks for it"
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")) and start[7:9] != b"\0{":
        return f"is a pickle with the name of a safetensors file, which can run code and is never loaded; {_NO_PICKLES}"
    return None


def _bad_length(size: int, length: int) -> str | None:
    if size < 8 or length < 2:
        return f"is not a safetensors file; {_AGAIN}"
    if length > MAX_HEADER:
        return f"is not an adapter: its header would have {length} bytes; {_AGAIN}"
    if length > size - 8:
        return f"was cut off in its header; {_AGAIN}"
    return None


def _parse(name: str, text: bytes, size: int) -> Header:
    data_start = 8 + len(text)
    try:
        entries = json.loads(text)
        metadata = entries.pop("__metadata__", None) or {}
        tensors = {key: _tensor(entry) for key, entry in entries.items()}
        texts = {key: value for key, value in metadata.items() if isinstance(value, str)}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise JobError(f"{name} has an unreadable header; {_AGAIN}.") from error
    if not tensors:
        raise JobError(f"{name} contains no tensors; {_AGAIN}.")
    expected = data_start + _end(name, tensors)
    if size != expected:
        reason = "was cut off" if size < expected else "has extra data at its end"
        raise JobError(f"{name} {reason}: it has {size} bytes where its header says {expected}; {_AGAIN}.")
    return Header(tensors, texts, data_start)


def _tensor(entry: Any) -> TensorInfo:
    """Parse one entry; raises `ValueError` (or the error of a wrong type) unless shape, format and range agree."""
    shape, (start, end) = tuple(entry["shape"]), entry["data_offsets"]
    if not all(type(number) is int and 0 <= number < 2**62 for number in (*shape, start, end)) or len(shape) > 8:
        raise ValueError("sizes are not whole numbers")
    if 8 * (end - start) != math.prod(shape) * ITEM_BITS[entry["dtype"]]:
        raise ValueError("size and byte range do not agree")
    return TensorInfo(entry["dtype"], shape, start, end)


def _end(name: str, tensors: Mapping[str, TensorInfo]) -> int:
    """Return where the last tensor ends; each must start where the previous one ends, as the format requires."""
    end = 0
    for info in sorted(tensors.values(), key=lambda info: (info.start, info.end)):
        if info.start != end:
            raise JobError(f"{name} has a header whose tensors overlap or leave gaps; {_AGAIN}.")
        end = info.end
    return end
