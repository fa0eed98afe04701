"""Where the recipe of a clip is stored: twice in its mp4, and in its poster.

The first copy is the `comment` of the mp4, which other programs show. Services that clear the tags of a file remove it
together with the cover picture, so a second one is in a box of its own at the end of the file, which players skip. The
poster holds the recipe in JPEG comments. All are found by walking boxes and segments, so a hostile file costs nothing.
"""

import struct
import uuid
from collections.abc import Iterator
from typing import BinaryIO

from ovi_studio.media import mp4_boxes
from ovi_studio.media.jpeg_segments import JPEG_START, behind_first_segment, segments

MAX_RECORD_BYTES = 2**20
_BOX = uuid.UUID("42639b46-fdde-4d63-a959-132b4ac80e34").bytes
"""The type of our own box (ISO/IEC 14496-12, 4.2: a `uuid` box)."""
_COMMENT_TAG = b"\xa9cmt"
_TAG_HEADER = 8
"""Bytes before a tag's value: type and locale."""
_JPEG_COMMENT = b"\xff\xfe"
_PART = b"Ovi Studio recipe\0"
"""Marks our comments in a JPEG; their contents, in order, are the recipe."""
_MAX_PART = 0xFFFF - 2 - len(_PART)


def recipe_box(recipe: str) -> bytes:
    """The second copy: a box to be written behind everything else, so that no offset in the file changes."""
    return mp4_boxes.uuid_box(_BOX, recipe.encode())


def with_recipe(jpeg: bytes, recipe: str) -> bytes:
    """A JPEG with the recipe in comments."""
    data = recipe.encode()
    parts = [_PART + data[start : start + _MAX_PART] for start in range(0, len(data), _MAX_PART)]
    comments = b"".join(_JPEG_COMMENT + struct.pack(">H", 2 + len(part)) + part for part in parts)
    return behind_first_segment(jpeg, comments)


def stored_recipes(file: BinaryIO) -> Iterator[bytes]:
    """The copies of the recipe in an mp4 or a poster, unparsed, the first one first.

    Of a copy that is too large, one byte more than `MAX_RECORD_BYTES` is read.
    """
    if mp4_boxes.read(file, 0, 2) == JPEG_START:
        copies = [_jpeg_recipe(file)]
    else:
        copies = [read_tag(file, _COMMENT_TAG, MAX_RECORD_BYTES), _own_box(file)]
    yield from (copy for copy in copies if copy is not None)


def read_tag(file: BinaryIO, tag: bytes, limit: int) -> bytes | None:
    """The value of an iTunes-style tag of an mp4, up to one byte more than `limit`; None if there is none."""
    box = mp4_boxes.find(file, (b"moov", b"udta", b"meta", b"ilst", tag, b"data"))
    return None if box is None else _content(file, box, _TAG_HEADER, limit)


def _own_box(file: BinaryIO) -> bytes | None:
    box = next(mp4_boxes.uuid_boxes(file, _BOX), None)
    return None if box is None else _content(file, box, 0, MAX_RECORD_BYTES)


def _content(file: BinaryIO, box: mp4_boxes.Box, skip: int, limit: int) -> bytes:
    return mp4_boxes.read(file, box.start + skip, max(0, min(box.size - skip, limit + 1)))


def _jpeg_recipe(file: BinaryIO) -> bytes | None:
    found = None
    for marker, content in segments(file):
        if marker == _JPEG_COMMENT and content.startswith(_PART):
            found = (found or b"") + content.removeprefix(_PART)
            if len(found) > MAX_RECORD_BYTES:
                break
    return found
