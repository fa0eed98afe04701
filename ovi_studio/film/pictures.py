"""The picture of a film: the frames of its shots as they are decoded, blended where two shots fade.

At most two clips are open at a time, and of each one frame is held.
"""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import FRAME_RATE
from ovi_studio.film.cut import CutList, Placed

PIXELS = "yuv420p"


@dataclass(frozen=True)
class ClipShape:
    """What is known of a clip before it is decoded."""

    frames: int
    height: int
    width: int


def inspect_clips(cut: CutList) -> list[ClipShape]:
    """The frames and sizes of all clips of a film; raises `JobError` that names the shot which does not fit."""
    shapes: list[ClipShape] = []
    for number, shot in enumerate(cut.shots, 1):
        shape = _inspect(shot.clip, number)
        shapes.append(shape)
        first = shapes[0]
        if (shape.height, shape.width) != (first.height, first.width):
            raise JobError(
                f"Shot {number} is {shape.height}x{shape.width} and the first shot {first.height}x{first.width}; "
                f"make it again in that size."
            )
    return shapes


def film_frames(placed: Sequence[Placed]) -> Iterator[av.VideoFrame]:
    """Yield the frames of a film in order; raises `JobError` if a clip cannot be decoded or ends too early."""
    before: Iterator[av.VideoFrame] = iter(())
    for number, here in enumerate(placed, 1):
        frames = _frames(here, number)
        for position, (old, new) in enumerate(zip(before, itertools.islice(frames, here.fade_in), strict=True), 1):
            yield _blend(old, new, position / (here.fade_in + 1))
        yield from itertools.islice(frames, here.length - here.fade_in - here.fade_out)
        before = frames


def _frames(here: Placed, number: int) -> Iterator[av.VideoFrame]:
    """The frames of one clip that the film shows."""
    last = here.skipped + here.length
    with _opened(here.shot.clip, number) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for position, frame in enumerate(itertools.islice(container.decode(stream), last)):
            if frame.time is None or round(frame.time * FRAME_RATE, 3) != position:
                raise JobError(
                    f"Shot {number} ({here.shot.clip.name}) does not have {FRAME_RATE} frames in every second; "
                    f"choose one of the shot's takes."
                )
            if position >= here.skipped:
                yield frame
    if position + 1 < last:
        raise JobError(f"Shot {number} ({here.shot.clip.name}) ends early; the file is broken. Make it again.")


def _blend(old: av.VideoFrame, new: av.VideoFrame, share: float) -> av.VideoFrame:
    """Between two frames, `share` of the new one; linear in the stored values, as editors do it."""
    first, second = (frame.to_ndarray(format=PIXELS).astype(np.float32) for frame in (old, new))
    return av.VideoFrame.from_ndarray(np.round(first + share * (second - first)).astype(np.uint8), format=PIXELS)


def _inspect(path: Path, number: int) -> ClipShape:
    with _opened(path, number) as container:
        video = container.streams.video[0]
        if video.average_rate != FRAME_RATE or video.codec_context.pix_fmt != PIXELS:
            raise JobError(
                f"Shot {number} ({path.name}) does not have {FRAME_RATE} frames a second and 8-bit colours ({PIXELS}); "
                f"choose one of the shot's takes as it was made."
            )
        if not container.streams.audio:
            raise JobError(f"Shot {number} ({path.name}) has no sound; make it again.")
        return ClipShape(video.frames, video.height, video.width)


@contextlib.contextmanager
def _opened(path: Path, number: int) -> Iterator[av.container.InputContainer]:
    if not path.is_file():
        raise JobError(f"The take of shot {number}, {path.name}, is gone; choose another take, or make it again.")
    try:
        with path.open("rb") as file, av.open(file, "r", format="mp4", metadata_errors="replace") as container:
            yield container
    # A missing stream raises IndexError.
    except (av.FFmpegError, OSError, IndexError) as error:
        raise JobError(f"Shot {number} ({path.name}) cannot be decoded; the file is broken. Make it again.") from error
