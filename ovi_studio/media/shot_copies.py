"""The recipes of a film's shots, each in a box of its own at the end of the film's mp4, with the shot's first frame.

A box holds what the clip held: so a clip of the film can be made again from the film alone. Players skip these boxes.
"""

import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ovi_studio.media import mp4_boxes
from ovi_studio.media.pictures import MAX_FILE_SIZE
from ovi_studio.media.recipe_copies import MAX_RECORD_BYTES

_BOX = uuid.UUID("0f1a4f3e-6c1d-4a57-9a5e-5d2f6f6b6d1c").bytes
"""The type of our box (ISO/IEC 14496-12, 4.2: a `uuid` box)."""
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True)
class ShotCopy:
    """What a film keeps of a clip."""

    recipe: bytes
    """JSON."""
    picture: bytes | None = None
    """The first frame, a PNG or JPEG file."""

    def box(self) -> bytes:
        """The box, to be written behind everything else."""
        return mp4_boxes.uuid_box(_BOX, _LENGTH.pack(len(self.recipe)) + self.recipe + (self.picture or b""))


def stored_shots(file: BinaryIO) -> Iterator[ShotCopy]:
    """The shots in a film's mp4, in order; none in another file. A box that is broken or too large ends them."""
    for box in mp4_boxes.uuid_boxes(file, _BOX):
        header = mp4_boxes.read(file, box.start, _LENGTH.size)
        length = _LENGTH.unpack(header)[0] if len(header) == _LENGTH.size else 0
        rest = box.size - _LENGTH.size - length
        if not 0 < length <= MAX_RECORD_BYTES or not 0 <= rest <= MAX_FILE_SIZE:
            return
        recipe = mp4_boxes.read(file, box.start + _LENGTH.size, length)
        yield ShotCopy(recipe, mp4_boxes.read(file, box.end - rest, rest) or None)
