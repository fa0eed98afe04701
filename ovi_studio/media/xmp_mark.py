"""The mark that a file was made by a model: IPTC's digital source type in XMP, in every mp4 and poster.

In an mp4 the packet is in a `uuid` box at the top of the file, in a JPEG in an APP1 segment (Adobe, XMP Specification,
part 3: Storage in Files). The vocabulary is IPTC's (https://cv.iptc.org/newscodes/digitalsourcetype/).
"""

import re
import struct
import uuid
from pathlib import Path
from typing import BinaryIO

from ovi_studio.media import mp4_boxes
from ovi_studio.media.jpeg_segments import JPEG_START, behind_first_segment, segments

MADE_BY_MODEL = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_BOX = uuid.UUID("be7acfcb-97a9-42e8-9c71-999491e3afac").bytes
_SEGMENT, _SEGMENT_NAME = b"\xff\xe1", b"http://ns.adobe.com/xap/1.0/\0"
_MAX_PACKET = 2**20
_PACKET = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/">
   <Iptc4xmpExt:DigitalSourceType>{MADE_BY_MODEL}</Iptc4xmpExt:DigitalSourceType>
   <xmp:CreatorTool>Ovi Studio</xmp:CreatorTool>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>""".encode()
_SOURCE_TYPE = re.compile(rb"DigitalSourceType\s*(?:=\s*[\"']|>)\s*([^\"'<>\s]+)")
"""As an element or as an attribute; RDF allows both."""


def mark_box() -> bytes:
    """The mark of an mp4: a box to be written behind everything else."""
    return mp4_boxes.uuid_box(_BOX, _PACKET)


def with_mark(jpeg: bytes) -> bytes:
    """The JPEG with the mark behind its first segment, which names the kind of JPEG."""
    content = _SEGMENT_NAME + _PACKET
    return behind_first_segment(jpeg, _SEGMENT + struct.pack(">H", 2 + len(content)) + content)


def read_source_type(path: Path) -> str | None:
    """The digital source type in the XMP of an mp4 or a JPEG, a URL; None if there is none. Raises `OSError`."""
    with path.open("rb") as file:
        found = _SOURCE_TYPE.search(_read_packet(file) or b"")
    return None if found is None else found[1].decode("ascii", "replace")


def _read_packet(file: BinaryIO) -> bytes | None:
    if mp4_boxes.read(file, 0, 2) == JPEG_START:
        found = (content for marker, content in segments(file) if marker == _SEGMENT)
        return next((content for content in found if content.startswith(_SEGMENT_NAME)), None)
    box = next(mp4_boxes.uuid_boxes(file, _BOX), None)
    return None if box is None else mp4_boxes.read(file, box.start, min(box.size, _MAX_PACKET))
