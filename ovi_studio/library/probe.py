"""Detects whether a file is a clip of this app, and its size and duration, from its boxes without decoding anything.

A box that extends beyond the end of the file means that the file is truncated, so a clip that is still being copied
into the folder is not listed until it is complete.
"""

import hashlib
import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media.clip_files import read_record
from ovi_studio.media.mp4_boxes import Box, boxes, file_box, read

_MAX_MOOV = 256 * 2**20
"""Bytes; includes the first frame."""


_PARTS = {b"moov", b"mdat", b"uuid"}
"""The boxes of a clip that reach to its end."""


@dataclass(frozen=True)
class Facts:
    """The contents of a clip."""

    spec: ClipSpec
    """The settings; `image` is only a name."""
    recipe: str
    """SHA-256 of the clip's whole record."""
    size: tuple[int, int]
    """(height, width)"""
    seconds: float


class Unreadable(Exception):
    """The file cannot be read at the moment; it may be a clip."""


def probe(path: Path) -> Facts | None:
    """The contents of the clip at `path`; None if it is broken or not made by this app. Raises `Unreadable`."""
    try:
        with path.open("rb") as file:
            measures = _measures(file)
        if measures is None:
            return None
        record = read_record(path)
        spec = ClipSpec.from_record(record["spec"])
    except OSError as error:
        raise Unreadable(str(error)) from error
    except JobError as error:
        if isinstance(error.__cause__, OSError):
            raise Unreadable(str(error)) from error
        return None
    except struct.error:
        return None
    recipe = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    return Facts(spec, recipe, *measures)


def _measures(file: BinaryIO) -> tuple[tuple[int, int], float] | None:
    """((height, width), seconds), or None if this is not a complete mp4 with video."""
    whole = file_box(file)
    top = {box.kind: box for box in boxes(file, whole)}
    if not {b"ftyp", b"moov", b"mdat"} <= set(top):
        return None
    index = top[b"moov"]
    if any(top[kind].end > whole.end for kind in _PARTS & top.keys()) or index.size > _MAX_MOOV:
        return None
    inside = list(boxes(file, index))
    scale = _head(file, inside, b"mvhd", 32)
    for box in inside:
        if box.kind == b"trak" and scale is not None:
            track = _track(_head(file, boxes(file, box), b"tkhd", 96) or b"")
            if track is not None:
                size, duration = track
                return size, duration / max(1, _timescale(scale))
    return None


def _head(file: BinaryIO, among: Iterable[Box], kind: bytes, size: int) -> bytes | None:
    """The first bytes of the first box of this kind."""
    return next((read(file, box.start, size) for box in among if box.kind == kind), None)


def _track(header: bytes) -> tuple[tuple[int, int], int] | None:
    """((height, width), duration) from a track header; None for a track without video."""
    long = header[:1] == b"\x01"
    duration, fields = struct.unpack_from(">Q", header, 28)[0] if long else struct.unpack_from(">I", header, 20)[0], 12
    width, height = struct.unpack_from(">II", header, (36 if long else 24) + 40 + fields)
    # 16.16 fixed point.
    return ((height >> 16, width >> 16), duration) if height >> 16 and width >> 16 else None


def _timescale(header: bytes) -> int:
    return struct.unpack_from(">I", header, 20 if header[:1] == b"\x01" else 12)[0]
