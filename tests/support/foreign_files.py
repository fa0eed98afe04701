"""Writes files as other programs do: other rates, formats and kinds of track."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_video(
    path: Path,
    frames: np.ndarray,
    rate: int = 24,
    sound: np.ndarray | None = None,
    trc: int | None = None,
    times: Sequence[int] | None = None,
) -> Path:
    """Write frames, uint8 (T, H, W, 3), and samples at 44.1 kHz as H.264 and AAC.

    Args:
        times: when each frame is shown, in units of 1 / `rate` seconds; by default one after another.
    """
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"crf": "5"})
        video.height, video.width, video.pix_fmt = *frames.shape[1:3], "yuv420p"
        if trc is not None:
            video.codec_context.color_trc = trc
        audio = None if sound is None else container.add_stream("aac", rate=44_100, layout="mono")
        for time, pixels in zip(times or range(len(frames)), frames, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, rate)
            if trc is not None:
                frame.color_trc = trc
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None and sound is not None:
            _encode(container, audio, sound, 44_100)
    return path


def write_sound(path: Path, samples: np.ndarray, rate: int, codec: str = "pcm_f32le") -> Path:
    """Write samples, float32 (N,), as a sound file."""
    with av.open(str(path), "w") as container:
        _encode(container, container.add_stream(codec, rate=rate, layout="mono"), samples, rate)
    return path


def _encode(container: av.container.OutputContainer, stream: av.AudioStream, samples: np.ndarray, rate: int) -> None:
    block = av.AudioFrame.from_ndarray(samples.astype(np.float32)[np.newaxis], format="fltp", layout="mono")
    block.rate, block.pts = rate, 0
    converter = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate)
    for part in (block, None):
        for converted in converter.resample(part):
            container.mux(stream.encode(converted))
    container.mux(stream.encode(None))


def tone(seconds: float, rate: int, hertz: float = 440) -> np.ndarray:
    """Return a sine at half of full scale."""
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def still(count: int, height: int, width: int, level: int = 120) -> np.ndarray:
    """Return frames of one grey that gets a little lighter."""
    levels = np.linspace(level, level + 60, count).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()
