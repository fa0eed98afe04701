"""Clips in other formats, for other programs: their sound, one frame, or a loop without sound. Imports no torch.

These files hold no recipe; the clip itself is what can be made again.
"""

import io
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image

from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import SAMPLE_RATE
from ovi_studio.media.frames import encode_png, to_rgb
from ovi_studio.media.remade_clip import StoredClip
from ovi_studio.media.soundtrack import read_samples

FORMATS = {"wav": "audio/wav", "png": "image/png", "gif": "image/gif", "webp": "image/webp"}
"""What a clip can be exported as, with its media type."""
SIDES = (16, 4096)
"""Limits of the longer side of a loop, in pixels."""
_FULL_LEVEL = 32767
_SLACK = Fraction(1, 10)
"""Seconds by which the sound may be shorter than the picture."""
_WEBP_QUALITY = 80


@dataclass(frozen=True)
class ExportOptions:
    """How a clip is exported. Raises `JobError` for values that are not valid."""

    frame: int = 0
    """Which frame a still shows, from 0; -1 is the last one."""
    milliseconds: int | None = None
    """The time whose frame a still shows, instead of `frame`; after the end it is the last one."""
    side: int = 480
    """Pixels of the longer side of a loop at most; the picture is never made larger."""

    def __post_init__(self) -> None:
        if not SIDES[0] <= self.side <= SIDES[1]:
            raise JobError(f"A loop has {SIDES[0]} to {SIDES[1]} pixels on its longer side, not {self.side}.")


def export(path: Path, kind: str, options: ExportOptions) -> bytes:
    """The bytes of a clip in one of `FORMATS`; raises `JobError`."""
    match kind:
        case "wav":
            return encode_wav(_sound(StoredClip.open(path)))
        case "png":
            return encode_png(_frame(StoredClip.open(path), options))
        case "gif":
            return _gif(StoredClip.open(path), options.side)
        case "webp":
            return _webp(StoredClip.open(path), options.side)
    raise JobError(f"{kind[:20]!r} is not a format for clips; choose {', '.join(FORMATS)}.")


def encode_wav(samples: np.ndarray) -> bytes:
    """Sound in [-1, 1], mono, `SAMPLE_RATE` a second, as 16-bit PCM."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.rint(np.clip(samples, -1, 1) * _FULL_LEVEL).astype("<i2").tobytes())
    return buffer.getvalue()


def _sound(clip: StoredClip) -> np.ndarray:
    samples = read_samples(clip.path)
    if len(samples) < (clip.seconds - _SLACK) * SAMPLE_RATE:
        raise JobError(f"The sound of {clip.path.name} ends early; the file is broken. Make the clip again.")
    return samples


def _frame(clip: StoredClip, options: ExportOptions) -> np.ndarray:
    index = options.frame
    if options.milliseconds is not None:
        index = min(options.milliseconds * clip.rate // 1000, clip.frames - 1)
    number = clip.frames + index if index < 0 else index
    if not 0 <= number < clip.frames:
        raise JobError(f"{clip.path.name} has frames 0 to {clip.frames - 1}, and no frame {index}.")
    return to_rgb(next(clip.decode(number)))


def _gif(clip: StoredClip, side: int) -> bytes:
    # Browsers show frames of a GIF for a whole number of hundredths of a second, and no shorter than two of them: every
    # other frame, each when its time has come.
    step = max(1, clip.rate // 12)
    times = [round(Fraction(100 * number, clip.rate)) for number in [*range(0, clip.frames, step), clip.frames]]
    durations = [10 * (end - start) for start, end in pairwise(times)]
    return _animation("GIF", clip, step, side, duration=durations)


def _webp(clip: StoredClip, side: int) -> bytes:
    times = [round(Fraction(1000 * number, clip.rate)) for number in range(clip.frames + 1)]
    durations = [end - start for start, end in pairwise(times)]
    return _animation("WEBP", clip, 1, side, duration=durations, quality=_WEBP_QUALITY, method=2)


def _animation(kind: str, clip: StoredClip, step: int, side: int, **options: object) -> bytes:
    pictures = _scaled(clip, step, side)
    buffer = io.BytesIO()
    next(pictures).save(buffer, kind, save_all=True, append_images=pictures, loop=0, **options)
    return buffer.getvalue()


def _scaled(clip: StoredClip, step: int, side: int) -> Iterator[Image.Image]:
    converter = VideoReformatter()
    for number, frame in enumerate(clip.decode()):
        if number % step == 0:
            picture = Image.fromarray(to_rgb(frame, converter))
            picture.thumbnail((side, side), Image.Resampling.LANCZOS)
            yield picture
