"""A clip with another picture: its sound and its first frame are copied as they are, and its recipe stays inside.

The picture comes as chunks, each an mp4 of its own that was encoded by `encode_chunk`. Nothing here imports torch.
"""

import heapq
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
from PIL import Image

from ovi_studio.core.errors import JobError
from ovi_studio.media.clip_files import place_clip, read_cover, read_record
from ovi_studio.media.frames import POSTER_FRAME, encode_poster, read_frame
from ovi_studio.media.mp4_encoder import add_cover, add_video, decoding_time
from ovi_studio.media.recipe_copies import MAX_RECORD_BYTES, recipe_box
from ovi_studio.media.small_files import part_path
from ovi_studio.media.xmp_mark import mark_box

MAX_FRAME_RATE = 60
_POSTER_BYTES = 2**20


@dataclass(frozen=True)
class StoredClip:
    """A clip of this app as it is on the disk."""

    path: Path
    record: Mapping[str, Any] = field(repr=False)
    frames: int
    rate: int
    """Frames a second; every frame is shown equally long."""
    size: tuple[int, int]
    """(height, width), multiples of 2."""

    @property
    def seconds(self) -> Fraction:
        return Fraction(self.frames, self.rate)

    @classmethod
    def open(cls, path: Path) -> "StoredClip":
        """Examine a clip without decoding it; raises `JobError` unless it is one as this app writes them."""
        record = read_record(path)
        try:
            with _opened(path) as container:
                return cls._of(path, record, container)
        except (av.FFmpegError, OSError, IndexError, ValueError) as error:
            raise JobError(f"{path.name} cannot be decoded; the file is broken. Make the clip again.") from error

    @classmethod
    def _of(cls, path: Path, record: Mapping[str, Any], container: av.container.InputContainer) -> "StoredClip":
        if not container.streams.audio:
            raise JobError(f"{path.name} has no sound, which another program removed; choose the clip as it was made.")
        video = container.streams.video[0]
        times = sorted(packet.pts * packet.time_base for packet in container.demux(video) if packet.pts is not None)
        # A file that was cut off names more frames than it has.
        if not times or len(times) < video.frames:
            raise ValueError("no frames, or not all of them")
        steps = {later - earlier for earlier, later in pairwise(times)} or {1 / (video.average_rate or Fraction(1))}
        rate = 1 / steps.pop() if len(steps) == 1 else Fraction(0)
        if times[0] != 0 or rate.denominator != 1 or not 1 <= rate <= MAX_FRAME_RATE:
            raise JobError(
                f"{path.name} does not have a constant number of frames a second, as another program leaves it; choose "
                f"the clip as it was made."
            )
        if video.codec_context.pix_fmt != "yuv420p" or video.height % 2 or video.width % 2:
            raise JobError(
                f"The picture of {path.name} was encoded by another program; choose the clip as it was made."
            )
        return cls(path, record, len(times), rate.numerator, (video.height, video.width))

    def check_slower_than(self, fps: int | None) -> None:
        """Raise `JobError` if the clip cannot be given so many frames a second; None: they stay."""
        if fps is not None and self.rate >= fps:
            raise JobError(
                f"{self.path.name} has {self.rate} frames a second already; choose more, or the clip that it was made "
                f"of."
            )

    def decode(self, start: int = 0) -> Iterator[av.VideoFrame]:
        """Yield the frames from number `start` on; raises `JobError` if the file is broken or ends early."""
        number = 0
        try:
            with _opened(self.path) as container:
                container.streams.video[0].thread_type = "AUTO"
                for number, frame in enumerate(container.decode(video=0), start=1):
                    if number > start:
                        yield frame
        except (av.FFmpegError, OSError, IndexError, ValueError) as error:
            raise JobError(f"{self.path.name} cannot be decoded; the file is broken. Make the clip again.") from error
        if number < self.frames:
            raise JobError(f"{self.path.name} ends after {number} of {self.frames} frames; make the clip again.")


def encode_chunk(frames: Iterable[av.VideoFrame], path: Path, rate: int) -> int:
    """Write frames (yuv420p, BT.709) as an mp4 that begins with a key frame; returns their number."""
    count = 0
    part = part_path(path)
    with av.open(str(part), "w", format="mp4") as container:
        stream: av.VideoStream | None = None
        for frame in frames:
            if stream is None:
                stream = add_video(container, frame.height, frame.width, rate)
            frame.pts, frame.time_base = count, Fraction(1, rate)
            count += 1
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode(None))
    part.replace(path)
    return count


def write_remade(
    clip: StoredClip,
    chunks: Sequence[Path],
    rate: int,
    record: Mapping[str, Any],
    directory: Path,
    stem: str,
    check: Callable[[], None],
) -> Path:
    """Write a clip with the picture of `chunks` in place of its own, of the same length; returns the path of the mp4.

    Args:
        rate: frames a second of the chunks.
        record: replaces the clip's record; its `spec` and `picture` must be the clip's own.
        check: called often; what it raises ends the work.

    Raises `JobError`; nothing is left behind then.
    """
    recipe = json.dumps(record, allow_nan=False)
    if len(recipe) > MAX_RECORD_BYTES:
        raise JobError(f"The record of {clip.path.name} is too long for what was done to it; choose the original clip.")

    def write(part: Path) -> bytes:
        _mux(clip, chunks, rate, recipe, part, check)
        with part.open("ab") as file:
            file.write(mark_box() + recipe_box(recipe))
        return encode_poster(read_frame(part, POSTER_FRAME * rate // clip.rate), recipe)

    size = sum(chunk.stat().st_size for chunk in chunks) + clip.path.stat().st_size + _POSTER_BYTES
    return place_clip(directory, stem, write, size)


def _mux(
    clip: StoredClip, chunks: Sequence[Path], rate: int, recipe: str, part: Path, check: Callable[[], None]
) -> None:
    with (
        _opened(clip.path) as source,
        av.open(str(part), "w", format="mp4", options={"movflags": "faststart"}) as movie,
    ):
        movie.metadata["comment"] = recipe
        with _opened(chunks[0]) as first:
            video = movie.add_stream_from_template(first.streams.video[0])
        sound_source = source.streams.audio[0]
        sound = movie.add_stream_from_template(sound_source)
        if (cover := read_cover(clip.path)) is not None:
            add_cover(movie, cover, _picture_size(cover))
        picture = _picture_packets(clip, chunks, rate, video)
        for packet in heapq.merge(picture, _copied(source, sound_source, sound), key=decoding_time):
            check()
            movie.mux_one(packet)


def _copied(source: av.container.InputContainer, stream: av.AudioStream, target: av.AudioStream) -> Iterator[av.Packet]:
    """The packets of a stream as they are."""
    for packet in source.demux(stream):
        if packet.dts is not None:
            packet.stream = target
            yield packet


def _picture_size(cover: bytes) -> tuple[int, int]:
    """(height, width) of a picture file; that of a broken one does not matter."""
    try:
        with Image.open(io.BytesIO(cover)) as picture:
            return picture.height, picture.width
    except (OSError, ValueError, Image.DecompressionBombError):
        return 2, 2


def _picture_packets(
    clip: StoredClip, chunks: Sequence[Path], rate: int, stream: av.VideoStream
) -> Iterator[av.Packet]:
    """The packets of all chunks, one behind the other; the last frame ends with the clip."""
    base = Fraction(1, math.lcm(rate, clip.seconds.denominator))
    frame = int(Fraction(1, rate) / base)
    length, shown, delay = int(clip.seconds / base), 0, 0
    for number, chunk in enumerate(chunks):
        with _opened(chunk) as container:
            packets = [packet for packet in container.demux(video=0) if packet.dts is not None]
        if number == 0:
            delay = -round(decoding_time(packets[0]) / base)
        for index, packet in enumerate(packets):
            packet.pts = shown + round((packet.pts or 0) * packet.time_base / base)
            # Counted here: in a chunk of one or two frames, as the last one can be, the encoder delays nothing.
            packet.dts = shown + index * frame - delay
            packet.duration = min(frame, length - packet.pts)
            packet.time_base, packet.stream = base, stream
        shown += len(packets) * frame
        if number == len(chunks) - 1:
            # A reader sums up the durations in the order of decoding.
            packets[-1].duration = frame - (shown - length)
        yield from packets


def _opened(path: Path) -> av.container.InputContainer:
    return av.open(str(path), "r", format="mp4", metadata_errors="replace")
