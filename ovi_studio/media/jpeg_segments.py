"""The segments of a JPEG (ITU-T T.81, annex B) before the picture itself, read without decoding it."""

from collections.abc import Iterator
from typing import BinaryIO

from ovi_studio.media.mp4_boxes import read

JPEG_START = b"\xff\xd8"
_SCAN = b"\xff\xda"
_MAX_SEGMENTS = 1000
"""Real files have about ten."""


def segments(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The marker and the content of each segment; stops at the picture, or at the first invalid segment."""
    start = len(JPEG_START)
    for _ in range(_MAX_SEGMENTS):
        header = read(file, start, 4)
        marker, size = header[:2], int.from_bytes(header[2:], "big")
        if len(header) < 4 or header[0] != 0xFF or marker == _SCAN or size < 2:
            return
        yield marker, read(file, start + 4, size - 2)
        start += 2 + size


def behind_first_segment(jpeg: bytes, more: bytes) -> bytes:
    """A JPEG with more segments behind its first one, which names the kind of JPEG."""
    end = 4 + int.from_bytes(jpeg[4:6], "big")
    return jpeg[:end] + more + jpeg[end:]
