"""What was measured about a take, as JSON in a box of its own at the very end of its mp4, which players skip.

It is written after the clip, and says nothing about how the clip is made: the hash of a clip as a source leaves it out.
"""

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ovi_studio.media import mp4_boxes
from ovi_studio.media.small_files import folder_errors

_BOX = uuid.UUID("5b7c6d0a-92c1-4f0e-8f0d-6f3e6f2a1c57").bytes
"""The type of our box (ISO/IEC 14496-12, 4.2: a `uuid` box)."""
_HEADER = 8 + len(_BOX)
_MAX_BYTES = 2**16


def write_scores(clip: Path, scores: Mapping[str, Any]) -> None:
    """Put scores into an mp4 in place of those that it has; raises `JobError` if it cannot be written.

    The clip itself is not copied, so that one that is moved or deleted meanwhile does not come back.
    """
    with folder_errors(clip.parent), clip.open("r+b") as file:
        made = os.fstat(file.fileno())
        file.seek(_end_of_clip(file))
        file.write(mp4_boxes.uuid_box(_BOX, json.dumps(scores).encode()))
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
    # When the clip was made, by which the library sorts.
    with folder_errors(clip.parent):
        os.utime(clip, ns=(made.st_atime_ns, made.st_mtime_ns))


def read_scores(clip: Path) -> dict[str, Any] | None:
    """The scores in an mp4; None if there are none that can be read. Raises `OSError`."""
    with clip.open("rb") as file:
        box = next(mp4_boxes.uuid_boxes(file, _BOX), None)
        if box is None or box.size > _MAX_BYTES:
            return None
        try:
            found = json.loads(mp4_boxes.read(file, box.start, box.size))
        except (ValueError, RecursionError):
            return None
    return found if isinstance(found, dict) else None


def size_without_scores(file: BinaryIO) -> int:
    """The bytes of a file before its scores; all of a file that does not end with some."""
    size = mp4_boxes.file_box(file).end
    box = next(mp4_boxes.uuid_boxes(file, _BOX), None)
    return box.start - _HEADER if box is not None and box.end == size else size


def _end_of_clip(file: BinaryIO) -> int:
    """Where the scores begin or will begin; those of a process that was killed while it wrote may be incomplete."""
    end = 0
    whole = mp4_boxes.file_box(file)
    for box in mp4_boxes.boxes(file, whole):
        if box.kind == b"uuid" and (box.end > whole.end or mp4_boxes.read(file, box.start, len(_BOX)) == _BOX):
            break
        end = box.end
    return min(end, whole.end)
