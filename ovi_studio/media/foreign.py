"""Video and sound of any file that PyAV reads, as a clip of this app has them: 24 frames a second, mono at 16 kHz.

The picture is made upright, cropped at the centre and scaled; frames are shown at their times, so that any rate, also a
variable one, stays in step with the sound, which starts when the picture does. Pictures that belong to a sound, such as
the cover of an album, are no video. Nothing here imports torch.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter
from PIL import Image

from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import FRAME_RATE, SAMPLE_RATE
from ovi_studio.media.frames import SCALER

_TOLERANCE = Fraction(1, 2 * FRAME_RATE)
"""Seconds by which a clip may be too short: half a frame, which rounding of timestamps can cost."""
_SCALER = SCALER | Interpolation.FULL_CHR_H_INT
"""That of `frames.to_rgb`, so that a clip of this app is read the same in every way."""
_HIGH_DEFINITION = 720
"""Height from which a video without a declared colour space is taken to be BT.709."""
HDR_ADVICE = "{name} is HDR video, whose colours would be wrong; convert it to SDR (BT.709) first."
_HDR = {int(ColorTrc.SMPTE2084), int(ColorTrc.ARIB_STD_B67)}


@dataclass(frozen=True, eq=False)
class ForeignPicture:
    """The picture of a file."""

    frames: np.ndarray
    """uint8 (T, height, width, 3), RGB, 24 a second; fewer than asked for if the video is shorter."""
    start: Fraction
    """Time of the first frame in the file, in seconds."""
    seconds: float
    """How long the frames that were read are shown."""


@dataclass(frozen=True)
class FileFacts:
    """What is in a file."""

    shape: tuple[int, int] | None
    """(height, width) of the upright picture; None if there is no video."""
    start: Fraction | None
    """Time of the first frame in seconds; None if there is no video."""
    sound: bool
    """Whether there is an audio track."""
    hdr: bool = False
    """Whether the video is HDR, which has no right colours here."""


def probe(path: Path) -> FileFacts:
    """Look into a file; raises `JobError` if it cannot be read."""
    with _opened(path) as container:
        stream, sound = _video(container), bool(container.streams.audio)
        if stream is None:
            return FileFacts(None, None, sound)
        for frame in container.decode(stream):
            height, width = frame.height, frame.width
            shape = (width, height) if round(frame.rotation / 90) % 2 else (height, width)
            return FileFacts(shape, _seconds(frame), sound, _is_hdr(frame))
        raise JobError(f"{path.name} has an empty video track; choose another file.")


def read_picture(path: Path, height: int, width: int, count: int) -> ForeignPicture:
    """Return up to `count` frames from the start of a file's video, at this size.

    Raises `JobError` if the file cannot be read, has no video, or if its video is HDR.
    """
    with _opened(path) as container:
        stream = _video(container)
        if stream is None:
            raise JobError(f"{path.name} has no video track; choose another file.")
        return _frames(path, container.decode(stream), height, width, count)


def read_sound(path: Path, count: int, start: Fraction | None = None) -> np.ndarray:
    """Return `count` samples, float32 in [-1, 1], from a time in seconds on, padded with silence.

    Raises `JobError` if the file cannot be read or has no sound.

    Args:
        start: None: the start of the sound itself.
    """
    with _opened(path) as container:
        if not container.streams.audio:
            raise JobError(f"{path.name} has no sound; choose another file.")
        return _sound(path, container, start, count)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[av.container.InputContainer]:
    try:
        # Not only for the message: opening a pipe would block forever.
        if not path.is_file():
            raise JobError(f"There is no file {path.name}; it may have been moved or deleted.")
        # Without the protocol list a playlist could have the app read addresses on the network.
        with av.open(str(path), metadata_errors="replace", options={"protocol_whitelist": "file"}) as container:
            yield container
    except (av.FFmpegError, OSError, ValueError, EOFError) as error:
        raise JobError(f"{path.name} cannot be decoded ({error}); export it again as mp4.") from error


def _video(container: av.container.InputContainer) -> av.VideoStream | None:
    """Return the first video that is not a picture of its own, such as a cover."""
    return next((one for one in container.streams.video if not one.disposition & Disposition.attached_pic), None)


def _frames(path: Path, decoded: Iterator[av.VideoFrame], height: int, width: int, count: int) -> ForeignPicture:
    kept: list[np.ndarray] = []
    start: Fraction | None = None
    picture: np.ndarray | None = None
    end = Fraction(0)
    converter = VideoReformatter()
    for frame in decoded:
        time = _seconds(frame)
        if time is None:
            continue
        _refuse_hdr(path, frame)
        start = time if start is None else start
        # The previous picture is shown until now; a frame that is late by less than a quarter of a frame is on time.
        while picture is not None and len(kept) < count and time - start > _deadline(len(kept)):
            kept.append(picture)
        if len(kept) == count:
            break
        end = time - start + _duration(frame)
        picture = _fit(frame, converter, height, width)
    while picture is not None and len(kept) < count and end + _TOLERANCE > _deadline(len(kept)):
        kept.append(picture)
    if start is None:
        raise JobError(f"{path.name} has an empty video track; choose another file.")
    return ForeignPicture(np.stack(kept), start, float(end))


def _is_hdr(frame: av.VideoFrame) -> bool:
    return int(frame.color_trc) in _HDR


def _refuse_hdr(path: Path, frame: av.VideoFrame) -> None:
    if _is_hdr(frame):
        raise JobError(HDR_ADVICE.format(name=path.name))


def _seconds(frame: av.VideoFrame | av.AudioFrame) -> Fraction | None:
    """Return the presentation time of a frame, None if it has none."""
    return None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base


def _duration(frame: av.VideoFrame) -> Fraction:
    """Return the seconds that a frame is shown, 1/24 if the file does not say."""
    if not frame.duration or frame.time_base is None:
        return Fraction(1, FRAME_RATE)
    return frame.duration * frame.time_base


def _deadline(index: int) -> Fraction:
    """Return the latest time in seconds at which the frame with this index may arrive."""
    return Fraction(index, FRAME_RATE) + Fraction(1, 4 * FRAME_RATE)


def _fit(frame: av.VideoFrame, converter: VideoReformatter, height: int, width: int) -> np.ndarray:
    """Convert to upright RGB, crop at the centre to the aspect ratio and scale; uint8 (height, width, 3)."""
    known = {int(space): space for space in Colorspace}
    guess = Colorspace.ITU709 if frame.height >= _HIGH_DEFINITION else Colorspace.ITU601
    space = known.get(int(frame.colorspace), guess)
    converted = converter.reformat(
        frame,
        format="rgb24",
        src_colorspace=space,
        src_color_range=ColorRange.JPEG if frame.color_range == ColorRange.JPEG else ColorRange.MPEG,
        interpolation=_SCALER,
    )
    pixels = converted.to_ndarray()
    pixels = np.rot90(pixels, round(frame.rotation / 90) % 4)
    found_height, found_width = pixels.shape[:2]
    scale = min(found_height / height, found_width / width)
    rows, columns = round(height * scale), round(width * scale)
    top, left = (found_height - rows) // 2, (found_width - columns) // 2
    cropped = np.ascontiguousarray(pixels[top : top + rows, left : left + columns])
    if (rows, columns) == (height, width):
        return cropped
    return np.asarray(Image.fromarray(cropped).resize((width, height), Image.Resampling.LANCZOS))


def _sound(path: Path, container: av.container.InputContainer, start: Fraction | None, count: int) -> np.ndarray:
    blocks: list[np.ndarray] = []
    begin: Fraction | None = None
    size = 0
    for block in _resampled(container):
        if begin is None:
            begin = _seconds(block) or Fraction(0)
            start = begin if start is None else start
        blocks.append(block.to_ndarray()[0])
        size += blocks[-1].size
        if start is not None and size >= count + max(Fraction(0), start - begin) * SAMPLE_RATE:
            break
    if begin is None or start is None:
        raise JobError(f"{path.name} has an empty audio track; choose another file.")
    samples = np.concatenate(blocks)
    delay = round((begin - start) * SAMPLE_RATE)
    samples = np.pad(samples, (delay, 0)) if delay > 0 else samples[-delay:]
    samples = np.pad(samples[:count], (0, max(0, count - samples.size))).astype(np.float32)
    if not np.isfinite(samples).all():
        raise JobError(f"{path.name} has samples that are no numbers; export its sound again.")
    return samples.clip(-1, 1)


def _resampled(container: av.container.InputContainer) -> Iterator[av.AudioFrame]:
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=SAMPLE_RATE)
    for frame in container.decode(audio=0):
        yield from resampler.resample(frame)
    yield from resampler.resample(None)
