"""Encodes a clip as an mp4 in memory: H.264 (4:2:0, BT.709), AAC, its recipe (`recipe_copies`), its mark
(`xmp_mark`) and a cover picture.

The same clip gives the same bytes, regardless of the number of cores. Nothing here imports torch.
"""

import heapq
import io
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter

from ovi_studio.core.clip import Picture
from ovi_studio.core.variants import FRAME_RATE, SAMPLE_RATE
from ovi_studio.media.frames import encode_png, to_yuv
from ovi_studio.media.recipe_copies import recipe_box
from ovi_studio.media.xmp_mark import mark_box

# Near-transparent: measured 49.7 dB in luma on noisy 1280x704 frames, like `faster` at 16 but in half the time.
# Without macroblock trees: with AVX-512 they read uninitialised memory, and the same frames give a different file
# (measured on other frames of that size: 2.6 dB more without them, in files a third larger).
_X264_OPTIONS = {"preset": "veryfast", "crf": "14", "g": str(2 * FRAME_RATE), "x264-params": "mbtree=0"}
# x264's output depends on the number of threads, which therefore must not depend on the machine.
_X264_THREADS = 4
_AAC_BIT_RATE = 96_000
"""The maximum that the format allows for one channel at 16 kHz."""


class Mp4Encoder:
    """Encodes one clip: its frames one by one, and at the end everything else.

    Args:
        height: pixels, a multiple of 2, as is `width`.
    """

    def __init__(self, height: int, width: int) -> None:
        self._buffer = io.BytesIO()
        self._container = av.open(
            self._buffer,
            "w",
            format="mp4",
            options={"movflags": "faststart"},
            # The muxer reads back what it has written when it moves the index to the front.
            io_open=lambda url, flags, options: _SecondReader(self._buffer),
        )
        self._video = add_video(self._container, height, width)
        self._converter = VideoReformatter()
        self._frames = 0
        self._packets: list[av.Packet] = []

    def add(self, pixels: np.ndarray) -> None:
        """Encode the next frame, uint8 (height, width, 3), RGB."""
        frame = to_yuv(pixels, self._converter)
        frame.pts = self._frames
        self._frames += 1
        self._packets += self._video.encode(frame)

    def end_frames(self) -> None:
        """Encode what the encoder has kept back to look ahead; no frame may follow."""
        self._packets += self._video.encode(None)

    def finish(self, samples: np.ndarray, recipe: str, picture: Picture | None, cover: bytes | None) -> bytes:
        """Return the whole file, which is at most some tens of MB; writing it is then one plain operation.

        Possible once, after `end_frames`.

        Args:
            samples: float32 (N,) in [-1, 1], mono, `SAMPLE_RATE` a second.
            cover: from `encode_cover`; None for a clip without a first frame.
        """
        with self._container as container:
            container.metadata["comment"] = recipe
            audio = add_audio(container)
            if picture is not None and cover is not None:
                add_cover(container, cover, picture.pixels.shape[:2])
            for packet in heapq.merge(self._packets, _audio_packets(audio, samples), key=decoding_time):
                container.mux_one(packet)
        self._packets = []
        return self._buffer.getvalue() + mark_box() + recipe_box(recipe)


def encode_cover(picture: Picture) -> bytes:
    """The picture as an mp4 can carry it: PNG and JPEG files unchanged, others losslessly as PNG."""
    return picture.data if cover_suffix(picture.data) is not None else encode_png(picture.pixels)


def cover_suffix(data: bytes) -> str | None:
    """`.png` or `.jpg` by the file's first bytes; None for a picture that an mp4 cannot carry."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return ".png"
    return ".jpg" if data.startswith(b"\xff\xd8\xff") else None


def decoding_time(packet: av.Packet) -> Fraction:
    """Seconds; the order in which packets are stored."""
    if packet.dts is None:
        raise ValueError("an encoder returned a packet without a timestamp")
    return packet.dts * packet.time_base


class _SecondReader:
    """Reads a buffer at its own position."""

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
        """Leave the buffer open; the encoder owns it."""


def add_video(
    container: av.container.OutputContainer, height: int, width: int, rate: int = FRAME_RATE
) -> av.VideoStream:
    """Add the stream that frames of a clip are encoded for; `height` and `width` are multiples of 2."""
    stream = container.add_stream("libx264", rate=rate, options=_X264_OPTIONS)
    stream.height, stream.width = height, width
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.thread_count = _X264_THREADS
    context.colorspace = Colorspace.ITU709
    context.color_range = ColorRange.MPEG
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709
    return stream


def add_audio(container: av.container.OutputContainer) -> av.AudioStream:
    """Add the stream that sound is encoded for: mono, `SAMPLE_RATE` a second."""
    return container.add_stream("aac", rate=SAMPLE_RATE, layout="mono", bit_rate=_AAC_BIT_RATE)


def sound_frame(samples: np.ndarray, position: int = 0) -> av.AudioFrame:
    """Make float32 (N,), which begins at sample `position` of the film, ready for the encoder; clips it to [-1, 1]."""
    clipped = np.clip(samples, -1, 1, dtype=np.float32)
    frame = av.AudioFrame.from_ndarray(clipped[np.newaxis], format="fltp", layout="mono")
    frame.rate = SAMPLE_RATE
    frame.pts = position
    return frame


def _audio_packets(stream: av.AudioStream, samples: np.ndarray) -> Iterator[av.Packet]:
    yield from stream.encode(sound_frame(samples))
    yield from stream.encode(None)


def add_cover(container: av.container.OutputContainer, cover: bytes, size: Sequence[int]) -> None:
    """Write a PNG or JPEG file as the cover picture; `size` is its (height, width)."""
    height, width = size
    codec = "png" if cover_suffix(cover) == ".png" else "mjpeg"
    stream = container.add_mux_stream(codec, width=width, height=height)
    stream.disposition = Disposition.attached_pic
    packet = av.Packet(cover)
    packet.stream = stream
    packet.pts = packet.dts = 0
    packet.is_keyframe = True
    container.mux_one(packet)
