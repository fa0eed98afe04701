"""A film as a timeline for editors: OpenTimelineIO, and EDL and FCPXML by its adapters (extra `film`).

Media are named relative to the timeline's folder, so that both can be moved together. A cut lies where a fade begins:
the shot before goes on under the fade with frames that the clip has beyond its range. FCPXML has no fades, and an EDL
no sound track, since the adapters write none.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

from ovi_studio.core.errors import JobError
from ovi_studio.core.extras import import_extra
from ovi_studio.core.variants import FRAME_RATE
from ovi_studio.film.cut import CutList, Placed, lay_out
from ovi_studio.film.pictures import inspect_clips
from ovi_studio.media.small_files import write_atomically

FORMATS = {".otio": "otio_json", ".edl": "cmx_3600", ".fcpxml": "fcpx_xml"}
_PACKAGES = {".edl": "otio_cmx3600_adapter", ".fcpxml": "otio_fcpx_xml_adapter"}
_OPTIONS = {".edl": {"rate": FRAME_RATE, "reelname_len": None}}


def write_timeline(cut: CutList, target: Path) -> None:
    """Write a film in the format of the file's suffix; raises `JobError` if a shot cannot be read."""
    suffix = target.suffix.lower()
    if suffix not in FORMATS:
        raise JobError(f"{target.name} is not a timeline; let its name end in {', '.join(FORMATS)}.")
    otio = import_extra("opentimelineio", "film", "Writing a timeline")
    if suffix in _PACKAGES:
        import_extra(_PACKAGES[suffix], "film", f"Writing {suffix}")
    shapes = inspect_clips(cut)
    frames = [shape.frames for shape in shapes]
    kinds = ["Video"] if suffix == ".edl" else ["Video", "Audio"]
    timeline = otio.schema.Timeline(cut.title or "Film")
    placed = lay_out(cut, frames)
    timeline.tracks[:] = [
        _track(otio, kind, placed, frames, target.parent, fades=suffix != ".fcpxml") for kind in kinds
    ]
    text = otio.adapters.write_to_string(timeline, FORMATS[suffix], **_OPTIONS.get(suffix, {}))
    write_atomically(target, text.encode())


def _track(
    otio: ModuleType, kind: str, placed: Sequence[Placed], frames: Sequence[int], folder: Path, *, fades: bool
) -> Any:
    time = otio.opentime.RationalTime
    track = otio.schema.Track({"Video": "Picture", "Audio": "Sound"}[kind], kind=kind)
    for number, (here, available) in enumerate(zip(placed, frames, strict=True), 1):
        if here.fade_in and fades:
            zero, length = time(0, FRAME_RATE), time(here.fade_in, FRAME_RATE)
            track.append(otio.schema.Transition(f"Fade to shot {number}", "SMPTE_Dissolve", zero, length))
        media = otio.schema.ExternalReference(_relative(here.shot.clip, folder), _range(otio, 0, available))
        media.name = here.shot.clip.stem
        seen = _range(otio, here.skipped, here.length - here.fade_out)
        track.append(otio.schema.Clip(here.shot.title or f"Shot {number}", media, seen))
    return track


def _range(otio: ModuleType, start: int, length: int) -> Any:
    time = otio.opentime.RationalTime
    return otio.opentime.TimeRange(time(start, FRAME_RATE), time(length, FRAME_RATE))


def _relative(clip: Path, folder: Path) -> str:
    try:
        path = Path(os.path.relpath(clip.resolve(), folder.resolve()))
    except ValueError as error:
        raise JobError(
            f"{clip.name} is on another drive than the timeline, and cannot be named relative to it; write the "
            f"timeline to the drive of the clips."
        ) from error
    return quote(path.as_posix())
