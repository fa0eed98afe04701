"""Reads and checks the header of an adapter file, before its tensors are read. Imports no torch, unpickles nothing.

An adapter is a safetensors file or a PEFT folder (`adapter_config.json` and `adapter_model.safetensors`). The header is
bounded and checked against the file size, so that a file that passes can be split into tensors safely. Every refused
file gets a specific error message.
"""

import json
import math
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovi_studio.core.errors import JobError

MAX_HEADER = 16_000_000
"""Bytes; a hundred times the header of the largest adapter known."""
MAX_CONFIG = 1_000_000
"""Bytes of `adapter_config.json`."""
PICKLE_SUFFIXES = frozenset({".pt", ".pth", ".ckpt", ".bin", ".pkl"})
PEFT_CONFIG = "adapter_config.json"
PEFT_WEIGHTS = "adapter_model.safetensors"

ITEM_BYTES: Mapping[str, int] = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I64": 8,
    "I32": 4,
}
"""Number formats of adapter tensors and their sizes; integers occur as alpha."""

_AGAIN = "download or copy it again"
_NO_PICKLES = "its trainer can save it as .safetensors, which contains only numbers"
_BASE_CHANGING = ("pissa", "olora", "corda", "loftq")
"""PEFT initialisations that move a part of the base weights into the adapter."""


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
class PeftConfig:
    """How a PEFT folder scales its LoRA pairs."""

    alpha: float
    alpha_pattern: Mapping[str, float]
    """Layer name, or the end of a layer name -> alpha."""
    rslora: bool
    dora: bool

    def scale(self, layer: str, rank: int) -> float:
        """Return alpha / rank, or alpha / sqrt(rank) with rsLoRA (arXiv 2312.03732).

        The rank is that of the tensors themselves, which `r` and `rank_pattern` only repeat.
        """
        return self._alpha(layer) / (math.sqrt(rank) if self.rslora else rank)

    def _alpha(self, layer: str) -> float:
        for pattern, alpha in self.alpha_pattern.items():
            name = pattern.removeprefix("^")
            if layer == name or (pattern == name and layer.endswith("." + name)):
                return alpha
        return self.alpha


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


def read_peft_config(path: Path) -> PeftConfig:
    """Read the part of `adapter_config.json` that defines how tensors are used.

    Raises `JobError` if it is unreadable, or needs something that is not in the tensors.
    """
    label = f"{path.parent.name}/{path.name}"
    try:
        if path.stat().st_size > MAX_CONFIG:
            raise JobError(f"{label} is too large for a PEFT configuration; {_AGAIN}.")
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise TypeError("not an object")
        _refuse_other_methods(label, values)
        patterns = {_pattern(label, key): _finite(value) for key, value in (values.get("alpha_pattern") or {}).items()}
        # PEFT's own default of alpha is 8.
        alpha = _finite(values.get("lora_alpha", 8))
        return PeftConfig(alpha, patterns, values.get("use_rslora") is True, values.get("use_dora") is True)
    except OSError as error:
        raise JobError(f"{label} cannot be read ({error.strerror}); check that it is still there.") from error
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise JobError(f"{label} is not a readable PEFT configuration; {_AGAIN}.") from error


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
    if end - start != math.prod(shape) * ITEM_BYTES[entry["dtype"]]:
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


def _refuse_other_methods(label: str, values: Mapping[str, Any]) -> None:
    method = str(values.get("peft_type", "LORA")).upper()
    if method != "LORA":
        raise JobError(f"{label} uses the PEFT method {method[:20]}; only LORA folders can be used.")
    start = values.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_BASE_CHANGING):
        raise JobError(
            f"{label} was initialised with {start[:20]}, which changes the base weights as well; "
            "save it again with PEFT's conversion to a plain LoRA (path_initial_model_for_weight_conversion)."
        )


def _pattern(label: str, key: str) -> str:
    """Return a plain layer name; PEFT would use it as a regular expression, which an untrusted file must not supply."""
    name = key.removesuffix("$").replace("\\.", ".")
    if not re.fullmatch(r"\^?[\w.]+", name):
        raise JobError(f"{label} has the alpha_pattern {key[:60]!r}; write it out as plain layer names.")
    return name


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(number := float(value)):
        raise ValueError("alpha is not a number")
    return number
