"""Frames of clips as arrays and picture files. Nothing here imports torch.

Clips are read frame by frame: all frames of a ten-second clip take 650 MB.
"""

import io
import itertools
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from PIL import Image

from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import FRAME_RATE, FRAMES_PER_LATENT
from ovi_studio.media.recipe_copies import with_recipe
from ovi_studio.media.xmp_mark import with_mark

SCALER = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
"""For conversions between RGB and YUV; without accurate rounding they shift green by about one level each."""
POSTER_FRAME = FRAME_RATE // 2
"""The middle of the first second: late enough to show the scene, and before it changes."""
_SPREAD = 8


def poster_index(count: int) -> int:
    """Which of `count` frames the poster shows."""
    return min(POSTER_FRAME, count - 1)


def spread_frames(count: int) -> list[int]:
    """A few of `count` frames, evenly spread, each the last one of a latent frame; previews learn from them."""
    latents = (count - 1) // FRAMES_PER_LATENT
    return sorted({FRAMES_PER_LATENT * round(latents * index / (_SPREAD - 1)) for index in range(_SPREAD)})


def read_frame(path: Path, index: int | None = None) -> np.ndarray:
    """The frame at `index` as uint8 (H, W, 3), RGB; the last frame if the clip is shorter or no index is given.

    Raises `JobError` if the clip cannot be decoded.
    """
    (found,) = deque(itertools.islice(_decoded(path), None if index is None else index + 1), maxlen=1)
    return to_rgb(found)


def read_frames(path: Path) -> Iterator[np.ndarray]:
    """All frames in order, each uint8 (H, W, 3), RGB; raises `JobError` if the clip cannot be decoded."""
    converter = VideoReformatter()
    for frame in _decoded(path):
        yield to_rgb(frame, converter)


def _decoded(path: Path) -> Iterator[av.VideoFrame]:
    """At least one frame; raises `JobError`."""
    frame = None
    try:
        with path.open("rb") as file, av.open(file, "r", format="mp4", metadata_errors="replace") as container:
            container.streams.video[0].thread_type = "AUTO"
            for frame in container.decode(video=0):
                yield frame
        if frame is None:
            raise ValueError("no frame")
    # A missing stream raises IndexError, a stream without frames ValueError.
    except (av.FFmpegError, OSError, IndexError, ValueError) as error:
        raise JobError(f"{path.name} cannot be decoded; the file is broken. Make the clip again.") from error


def to_rgb(frame: av.VideoFrame, converter: VideoReformatter | None = None) -> np.ndarray:
    """A decoded frame of a clip as uint8 (H, W, 3), RGB: the inverse of `to_yuv`."""
    converted = (converter or VideoReformatter()).reformat(
        frame,
        format="rgb24",
        src_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.MPEG,
        interpolation=SCALER | Interpolation.FULL_CHR_H_INT,
    )
    return converted.to_ndarray()


def to_yuv(pixels: np.ndarray, converter: VideoReformatter | None = None) -> av.VideoFrame:
    """A frame as clips store it (4:2:0, BT.709), from uint8 (H, W, 3), RGB."""
    return (converter or VideoReformatter()).reformat(
        av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"),
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        interpolation=SCALER | Interpolation.FULL_CHR_H_INP,
        threads=1,
    )


def encode_png(pixels: np.ndarray) -> bytes:
    """A lossless picture file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def encode_poster(pixels: np.ndarray, recipe: str) -> bytes:
    """The JPEG that is shown for a clip, with its mark and the clip's recipe in it; see `POSTER_FRAME`."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return with_mark(with_recipe(buffer.getvalue(), recipe))
