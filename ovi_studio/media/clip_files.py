"""Clips as files: an mp4 that holds picture, sound, first frame and the recipe to make it again; a poster beside it.

H.264 (4:2:0, BT.709) and AAC. The recipe is JSON in the `comment` of the mp4, the first frame its cover picture. A file
appears under its name when it is complete and never replaces another, also with several processes in one folder. The
same clip gives the same bytes, however many cores there are. Nothing here imports torch.

Recipe and cover are read by walking the boxes of the mp4 (`mp4_boxes`), so a hostile file costs nothing.
"""

import contextlib
import errno
import hashlib
import heapq
import io
import itertools
import json
import os
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter
from PIL import Image

from ovi_studio import __version__
from ovi_studio.core.clip import Clip, Picture
from ovi_studio.core.errors import FolderError, JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import FRAME_RATE, SAMPLE_RATE
from ovi_studio.media import mp4_boxes
from ovi_studio.media.pictures import MAX_FILE_SIZE, decode_picture

APP = "Ovi Studio"
PICTURES_FOLDER = "pictures"
"""Below the output folder: first frames that came out of mp4 files."""
MIN_FREE_BYTES = 100 * 2**20
MAX_RECORD_BYTES = 2**20
MAX_NAME_LENGTH = 50
"""Characters of the prompt in a file's name; the rest of the name is about 30 more."""

# Near-transparent: measured 49.7 dB in luma on noisy 1280x704 frames, as `faster` at 16 in half its time.
# Without macroblock trees: with AVX-512 they read memory that nobody wrote, and the same frames give another file
# (measured on other frames of that size: 2.6 dB more without them, in files a third larger).
_X264_OPTIONS = {"preset": "veryfast", "crf": "14", "g": str(2 * FRAME_RATE), "x264-params": "mbtree=0"}
# x264 gives other bytes for another number of threads, so the number must not depend on the machine.
_X264_THREADS = 4
_AAC_BIT_RATE = 96_000
"""The most that the format allows for one channel at 16 kHz."""
_SCALER = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
"""Without accurate rounding, the conversions shift green by about one level each."""
_TAG_HEADER = 8
"""Bytes before a tag's value: its type and its locale."""
_WINDOWS_DEVICES = re.compile(r"con|prn|aux|nul|(com|lpt)\d", re.IGNORECASE)


def write_clip(clip: Clip, directory: str | Path, name: str | None = None) -> Path:
    """Write `<name>.mp4` and its poster `<name>.jpg`; returns the path of the mp4.

    The name is made of the prompt, (height)x(width) and the seed unless given, with a counter if it is taken. Raises
    `JobError` if the folder cannot be written or is full; then, and when interrupted, nothing is left behind.
    """
    directory = Path(directory)
    height, width = clip.frames.shape[1:3]
    stem = _slug(name) if name else f"{_slug(clip.spec.prompt)}_{height}x{width}_{clip.spec.seed}"
    movie, poster = _encode(clip), _encode_poster(clip.frames)
    with _disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        _check_free(directory, len(movie) + len(poster))
        path = _claim_name(directory, stem)
        poster_path = path.with_suffix(".jpg")
        try:
            _write_part(path, movie)
            _write_part(poster_path, poster)
            # The poster first: who sees the mp4 finds its poster.
            _part(poster_path).replace(poster_path)
            _part(path).replace(path)
        except BaseException:
            for leftover in (_part(path), _part(poster_path), poster_path):
                with contextlib.suppress(OSError):
                    leftover.unlink(missing_ok=True)
            raise
    return path


def check_writable(directory: str | Path) -> None:
    """Make the folder and see that a clip fits into it, before one is computed; raises `JobError` with advice."""
    directory = Path(directory)
    with _disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(b"probe")
    _check_free(directory, MIN_FREE_BYTES)


def read_record(path: str | Path) -> dict[str, Any]:
    """The recipe in an mp4: `app`, `version`, `spec`, `picture` if it has a first frame, and the clip's own record.

    Raises `JobError` if the file cannot be read, is no clip of this app, or holds a broken recipe.
    """
    stored = _read_tag(Path(path), b"\xa9cmt", MAX_RECORD_BYTES)
    try:
        record = json.loads(stored or b"null")
    except (ValueError, RecursionError) as error:
        raise JobError(f"{path} was not made by {APP}, or its recipe is broken; choose another clip.") from error
    if not isinstance(record, dict) or record.get("app") != APP or not isinstance(record.get("spec"), dict):
        raise JobError(f"{path} holds no recipe of {APP}; choose a clip that it made.")
    return record


def read_spec(path: str | Path, pictures_directory: str | Path) -> ClipSpec:
    """What to ask for to get the clip at `path` again.

    A first frame is written to `pictures_directory/<sha256>.png` or `.jpg`, and the spec's `image` names that file.
    Raises `JobError` as `read_record` does, or if the first frame is not in the file or not the one of the recipe.
    """
    path = Path(path)
    record = read_record(path)
    image = None
    if record.get("picture") is not None or record["spec"].get("image") is not None:
        data = _read_tag(path, b"covr", MAX_FILE_SIZE)
        if data is None or hashlib.sha256(data).hexdigest() != _stored_hash(record):
            raise JobError(f"The first frame is not in {path} any more; choose the picture again.")
        image = _save_picture(data, Path(pictures_directory), f"in {path}")
    return ClipSpec.from_dict({**record["spec"], "image": image})


def read_frames(path: str | Path) -> np.ndarray:
    """The frames of a clip, uint8 (T, H, W, 3), RGB; raises `JobError` if they cannot be read."""
    converter = VideoReformatter()
    with _open_for_decoding(Path(path)) as container:
        return np.stack([to_rgb(frame, converter) for frame in container.decode(video=0)])


def to_rgb(frame: av.VideoFrame, converter: VideoReformatter | None = None) -> np.ndarray:
    """A decoded frame of a clip as uint8 (H, W, 3), exactly as `write_clip` understands RGB."""
    converted = (converter or VideoReformatter()).reformat(
        frame,
        format="rgb24",
        src_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.MPEG,
        interpolation=_SCALER | Interpolation.FULL_CHR_H_INT,
    )
    return converted.to_ndarray()


def read_samples(path: str | Path) -> np.ndarray:
    """The sound of a clip, float32 (N,), mono at `SAMPLE_RATE`; raises `JobError` if it cannot be read."""
    with _open_for_decoding(Path(path)) as container:
        blocks = [frame.to_ndarray() for frame in container.decode(audio=0)]
        # The last block is filled up with silence; the duration is the true one.
        duration = container.streams.audio[0].duration
        return np.concatenate(blocks, axis=1)[0, :duration]


# Encoding


def _encode(clip: Clip) -> bytes:
    """The mp4, in memory: some tens of MB at most, and then one plain write decides about the disk."""
    buffer = io.BytesIO()
    cover = _cover(clip.picture) if clip.picture is not None else None
    with av.open(
        buffer,
        "w",
        format="mp4",
        options={"movflags": "faststart"},
        # To move the index to the front, the muxer reads what it wrote.
        io_open=lambda url, flags, options: _SecondReader(buffer),
    ) as container:
        container.metadata["comment"] = _recipe(clip, cover)
        video = _add_video(container, clip.frames)
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono", bit_rate=_AAC_BIT_RATE)
        if cover is not None:
            _add_cover(container, clip.picture, cover)
        packets = _video_packets(video, clip.frames), _audio_packets(audio, clip.samples)
        for packet in heapq.merge(*packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux_one(packet)
    return buffer.getvalue()


class _SecondReader:
    """Reads a buffer with a position of its own."""

    def __init__(self, buffer: io.BytesIO) -> None:
        self._buffer = buffer
        self._position = 0

    def read(self, size: int) -> bytes:
        end = self._position + size
        with self._buffer.getbuffer() as view:
            data = bytes(view[self._position : end])
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._buffer.getbuffer().nbytes}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        """The buffer belongs to somebody else."""


def _add_video(container: av.container.OutputContainer, frames: np.ndarray) -> av.VideoStream:
    stream = container.add_stream("libx264", rate=FRAME_RATE, options=_X264_OPTIONS)
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.thread_count = _X264_THREADS
    context.colorspace = Colorspace.ITU709
    context.color_range = ColorRange.MPEG
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709
    return stream


def _video_packets(stream: av.VideoStream, frames: np.ndarray) -> Iterator[av.Packet]:
    to_yuv = VideoReformatter()
    for index, pixels in enumerate(frames):
        frame = to_yuv.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=_SCALER | Interpolation.FULL_CHR_H_INP,
            threads=1,
        )
        frame.pts = index
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _audio_packets(stream: av.AudioStream, samples: np.ndarray) -> Iterator[av.Packet]:
    clipped = np.clip(samples, -1, 1, dtype=np.float32)
    frame = av.AudioFrame.from_ndarray(clipped[np.newaxis], format="fltp", layout="mono")
    frame.rate = SAMPLE_RATE
    frame.pts = 0
    yield from stream.encode(frame)
    yield from stream.encode(None)


def _encode_poster(frames: np.ndarray) -> bytes:
    """A JPEG of the middle of the first second: late enough to show the scene, before it changes."""
    buffer = io.BytesIO()
    Image.fromarray(frames[min(FRAME_RATE // 2, len(frames) - 1)]).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _cover(picture: Picture) -> bytes:
    """The picture as an mp4 can carry it: PNG and JPEG files as they are, others losslessly as PNG."""
    if _picture_suffix(picture.data) is not None:
        return picture.data
    buffer = io.BytesIO()
    Image.fromarray(picture.pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _picture_suffix(data: bytes) -> str | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return ".png"
    return ".jpg" if data.startswith(b"\xff\xd8\xff") else None


def _add_cover(container: av.container.OutputContainer, picture: Picture, cover: bytes) -> None:
    height, width = picture.pixels.shape[:2]
    codec = "png" if _picture_suffix(cover) == ".png" else "mjpeg"
    stream = container.add_mux_stream(codec, width=width, height=height)
    stream.disposition = Disposition.attached_pic
    packet = av.Packet(cover)
    packet.stream = stream
    packet.pts = packet.dts = 0
    packet.is_keyframe = True
    container.mux_one(packet)


def _recipe(clip: Clip, cover: bytes | None) -> str:
    spec = clip.spec.to_dict()
    record = {**clip.record, "app": APP, "version": __version__, "spec": spec}
    if clip.picture is not None and cover is not None:
        # Where the picture lay says something about the person; its name is enough.
        spec["image"] = clip.spec.image.name if clip.spec.image is not None else None
        stored = hashlib.sha256(cover).hexdigest()
        record["picture"] = {"name": spec["image"], "sha256": clip.picture.sha256, "stored_sha256": stored}
    text = json.dumps(record, allow_nan=False)
    if len(text) > MAX_RECORD_BYTES:
        raise ValueError(f"the clip's record has {len(text)} characters; it would not be read again")
    return text


# Names and writing


def _slug(text: str) -> str:
    """Letters and digits of any script, joined by underscores: a safe file name on every system."""
    without_tags = re.sub(r"</?[A-Za-z]+>", " ", text)
    # "M" are marks that belong to the letter before them, as in Hindi or Thai.
    kept = (c if unicodedata.category(c)[0] in "LMN" else " " for c in unicodedata.normalize("NFC", without_tags))
    slug = "_".join("".join(kept).split())[:MAX_NAME_LENGTH].strip("_")
    return "clip" if not slug or _WINDOWS_DEVICES.fullmatch(slug) else slug


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _claim_name(directory: Path, stem: str) -> Path:
    """A path for an mp4 that nobody has, reserved by an empty part file."""
    for number in itertools.count(1):
        path = directory / (f"{stem}.mp4" if number == 1 else f"{stem}_{number}.mp4")
        try:
            _part(path).touch(exist_ok=False)
        except FileExistsError:
            continue
        # Only who holds the part file may take the name; but it may have been taken a moment ago.
        if not path.exists() and not path.with_suffix(".jpg").exists():
            return path
        _part(path).unlink(missing_ok=True)
    raise AssertionError("the numbers never end")


def _write_part(path: Path, data: bytes) -> None:
    with _part(path).open("wb") as file:
        file.write(data)
        file.flush()
        # A rename that survives a power cut must not survive it without its data.
        os.fsync(file.fileno())


def _check_free(directory: Path, size: int) -> None:
    with _disk_errors(directory):
        free = shutil.disk_usage(directory).free
    if free < size:
        raise FolderError(
            f"Only {free // 2**20} MB are free in the output folder {directory}; free {-(-size // 2**20)} MB or choose "
            f"another folder."
        )


@contextlib.contextmanager
def _disk_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FolderError(_disk_advice(directory, error)) from error


def _disk_advice(directory: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"There is no space left for a file in {directory}; free some or choose another output folder."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"The output folder {directory} cannot be written; change its rights or choose another one."
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"The output folder {directory} is or lies below a file; choose another one."
    return f"The output folder {directory} cannot be used ({error.strerror}); check the disk or choose another folder."


# Reading


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        # Not only for the sentence: opening a pipe would wait for ever.
        if not path.is_file():
            raise JobError(f"There is no clip {path}; it may have been moved or deleted.")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise JobError(f"The clip {path} cannot be read ({error.strerror}); check the file and its rights.") from error


@contextlib.contextmanager
def _open_for_decoding(path: Path) -> Iterator[av.container.InputContainer]:
    with _opened(path) as file:
        try:
            with av.open(file, format="mp4", metadata_errors="replace") as container:
                yield container
        # Without such a stream it is an IndexError, without a frame in it a ValueError.
        except (av.FFmpegError, IndexError, ValueError) as error:
            raise JobError(f"{path} cannot be decoded; the file is broken or no clip. Make it again.") from error


def _read_tag(path: Path, tag: bytes, limit: int) -> bytes | None:
    """The value of an iTunes-style tag of an mp4, or None if it has none; `JobError` if it exceeds `limit` bytes."""
    with _opened(path) as file:
        box = mp4_boxes.find(file, (b"moov", b"udta", b"meta", b"ilst", tag, b"data"))
        if box is None:
            return None
        size = box.size - _TAG_HEADER
        if size > limit:
            raise JobError(f"{path} was not made by {APP} (a tag has {size // 2**20} MB); choose another clip.")
        return mp4_boxes.read(file, box.start + _TAG_HEADER, max(0, size))


def _stored_hash(record: Mapping[str, Any]) -> Any:
    picture = record.get("picture")
    return picture.get("stored_sha256") if isinstance(picture, dict) else None


def _save_picture(data: bytes, directory: Path, name: str) -> Path:
    """Write a picture under its hash unless it is there already; refuses what is no PNG or JPEG."""
    suffix = _picture_suffix(data)
    if suffix is None:
        raise JobError(f"The first frame {name} is no PNG or JPEG; choose the picture again.")
    path = directory / (decode_picture(data, name).sha256 + suffix)
    with _disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_bytes() != data:
            # A folder of one's own: another process may be writing the same picture.
            with tempfile.TemporaryDirectory(dir=directory) as scratch:
                copy = Path(scratch) / path.name
                copy.write_bytes(data)
                copy.replace(path)
    return path
