"""What only the numbers of an adapter file show: values that are not finite, zeros, and single numbers such as alpha.

A file is read once; the result is cached under the file's hash, so that a folder of large files is not read again each
time. Losing the cache only costs time. Imports no torch: values are judged by their bits.
"""

import errno
import json
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ovi_studio.adapters.header import Header, TensorInfo, read_header
from ovi_studio.checkpoints.hashes import cache_directory, file_sha256

_CHANGED = "it changed while it was read"
_CHUNK = 1 << 25
"""Bytes that are read at a time; a multiple of the size of every number."""


class _Bits(NamedTuple):
    """How the bits of a number format are read."""

    integer: str
    """The unsigned integer of the same size, little-endian."""
    magnitude: int
    """Mask of all bits but the sign."""
    infinite: int | None
    """Magnitudes from here on are infinite or NaN; None: all values are finite."""


_FORMATS: Mapping[str, _Bits] = {
    "F64": _Bits("<u8", 2**63 - 1, 0x7FF0_0000_0000_0000),
    "F32": _Bits("<u4", 2**31 - 1, 0x7F80_0000),
    "C64": _Bits("<u4", 2**31 - 1, 0x7F80_0000),
    "F16": _Bits("<u2", 2**15 - 1, 0x7C00),
    "BF16": _Bits("<u2", 2**15 - 1, 0x7F80),
    "F8_E5M2": _Bits("<u1", 2**7 - 1, 0x7C),
    "F8_E4M3": _Bits("<u1", 2**7 - 1, 0x7F),
    "F8_E8M0": _Bits("<u1", 2**8 - 1, 0xFF),
    **{f"{kind}{bits}": _Bits(f"<u{bits // 8}", 2**bits - 1, None) for kind in "IU" for bits in (8, 16, 32, 64)},
}
_NUMPY: Mapping[str, str] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    **{f"{kind}{bits}": f"<{kind.lower()}{bits // 8}" for kind in "IU" for bits in (8, 16, 32, 64)},
}
_SMALL_FLOATS: Mapping[str, tuple[int, int]] = {"F8_E4M3": (4, 3), "F8_E5M2": (5, 2)}
"""Bits of exponent and mantissa."""


@dataclass(frozen=True)
class Contents:
    """What the numbers of a file show."""

    non_finite: frozenset[str] = frozenset()
    """Tensors with NaN or infinite values."""
    zeros: frozenset[str] = frozenset()
    """Tensors that are zero throughout."""
    numbers: Mapping[str, float] | None = None
    """Tensors of one finite number, with that number; None: the numbers were not read."""


def read_contents(path: Path) -> Contents:
    """Read a weights file, unless the result is cached; raises `OSError`, or `JobError` if it has no valid header."""
    digest = file_sha256(path)
    cache = cache_directory() / "adapters" / f"{digest}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        values = json.loads(cache.read_text(encoding="utf-8"))
        return Contents(frozenset(values["non_finite"]), frozenset(values["zeros"]), dict(values["numbers"]))
    header = read_header(path)
    with path.open("rb") as file:

        def read(start: int, end: int) -> bytes:
            file.seek(start)
            content = file.read(end - start)
            if len(content) != end - start:
                raise OSError(errno.EIO, _CHANGED)
            return content

        contents = examine(header, read)
    if file_sha256(path) != digest:  # it would be kept as the contents of another file
        raise OSError(errno.EIO, _CHANGED)
    _store(cache, contents)
    return contents


def examine(header: Header, read: Callable[[int, int], Any]) -> Contents:
    """Examine all tensors of a file.

    Args:
        read: returns the file's bytes from one offset to another.
    """
    non_finite, zeros, numbers = set(), set(), {}
    for name, info in header.tensors.items():
        bits = _FORMATS.get(info.dtype)
        if bits is None:
            continue
        start, end = header.data_start + info.start, header.data_start + info.end
        largest = max(
            (_largest(read(place, min(place + _CHUNK, end)), bits) for place in range(start, end, _CHUNK)), default=0
        )
        if bits.infinite is not None and largest >= bits.infinite:
            non_finite.add(name)
            continue
        # A zero of this format has no zero bits.
        if largest == 0 and info.dtype != "F8_E8M0":
            zeros.add(name)
        if info.dtype != "C64" and _is_single(info):
            numbers[name] = _number(read(start, end), info.dtype)
    return Contents(frozenset(non_finite), frozenset(zeros), numbers)


def _largest(content: Any, bits: _Bits) -> int:
    return int((np.frombuffer(content, bits.integer) & bits.magnitude).max(initial=0))


def _is_single(info: TensorInfo) -> bool:
    return all(size == 1 for size in info.shape)


def _number(content: Any, dtype: str) -> float:
    """Return the value of one finite number."""
    if dtype in _NUMPY:
        return float(np.frombuffer(content, _NUMPY[dtype])[0])
    bits = int.from_bytes(content, "little")
    if dtype == "BF16":
        return float(np.array(bits << 16, "<u4").view("<f4"))
    if dtype == "F8_E8M0":
        return 2.0 ** (bits - 127)
    exponent_bits, mantissa_bits = _SMALL_FLOATS[dtype]
    exponent, mantissa = divmod(bits & 0x7F, 1 << mantissa_bits)
    value = (mantissa / (1 << mantissa_bits) + (exponent > 0)) * 2.0 ** (
        max(exponent, 1) - 2 ** (exponent_bits - 1) + 1
    )
    return -value if bits & 0x80 else value


def _store(cache: Path, contents: Contents) -> None:
    values = {
        "non_finite": sorted(contents.non_finite),
        "zeros": sorted(contents.zeros),
        "numbers": dict(contents.numbers or {}),
    }
    with suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        part = cache.with_name(f"{cache.name}.{os.getpid()}.{threading.get_ident()}.part")
        part.write_text(json.dumps(values), encoding="utf-8")
        part.replace(cache)
