"""A folder of clips with captions -> encoded samples on disk, once.

A clip `a.mp4` needs `a.txt` beside it with its caption; more lines are more captions of the same clip. Picture and
sound begin together and are cut at the variant's length; the picture is cropped in the middle and scaled to one size,
at 24 frames a second, the sound becomes mono at 16 kHz. What cannot be used is named with its reason and left out. A
sample is kept under a hash of everything that it follows from, so that only what is new is encoded.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from PIL import Image
from torch import Tensor

from ovi_studio.checkpoints.hashes import file_sha256
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import FRAME_RATE, SAMPLE_RATE, Part
from ovi_studio.models import video_vae
from ovi_studio.models.mel import mel_spectrogram
from ovi_studio.training.cache import Sample, write_sample
from ovi_studio.training.prepare import Studio, read_prompts

SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".m4v"})
_TOLERANCE = Fraction(1, 2 * FRAME_RATE)
"""Seconds by which a clip may be too short: half a frame, which rounding of its times can cost."""
_SCALER = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""As exact as the conversion of our own clips (see `media`)."""
_HIGH_DEFINITION = 720
"""Lines from which a video that does not say its colour space has that of high definition."""


@dataclass(frozen=True)
class Skipped:
    """A clip that is left out."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Encoded:
    """What a folder came to."""

    names: Sequence[str]
    """Of the samples in the cache."""
    reused: int
    """How many of them were there before."""
    skipped: Sequence[Skipped]


@dataclass(frozen=True)
class Shape:
    """What every clip is brought to."""

    height: int
    width: int
    frames: int
    samples: int


def encode_folder(
    folder: Path,
    cache: Path,
    studio: Studio,
    size: tuple[int, int],
    trigger: str = "",
    on_done: Callable[[int, int], None] = lambda done, of: None,
) -> Encoded:
    """Encode what is not in the cache yet.

    Args:
        size: (height, width), multiples of 32.
        trigger: stands in front of every caption that does not hold it.
        on_done: called after every clip with the number of clips that are done and that there are.

    Raises:
        JobError: there is no clip, or none that can be used.
    """
    if not folder.is_dir():
        raise JobError(f"There is no folder {folder}; name one with clips and captions.")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise JobError(f"There is no clip in {folder}; put .mp4 files there, and a .txt with the caption beside each.")
    variant = studio.variant
    shape = Shape(*size, variant.frames, variant.samples)
    models = studio.digest(Part.TEXT_ENCODER, Part.TOKENIZER, Part.VIDEO_VAE, Part.AUDIO_VAE)
    names, skipped, reused = [], [], 0
    for count, path in enumerate(paths, start=1):
        try:
            captions = [_with_trigger(caption, trigger) for caption in _captions(path)]
            key = repr((file_sha256(path), models, captions, shape, variant.audio_tag.value))
            name = hashlib.sha256(key.encode()).hexdigest()[:32]
            if (cache / f"{name}.safetensors").is_file():
                reused += 1
            else:
                write_sample(cache, name, encode_clip(path, captions, studio, shape), {"clip": path.name})
            names.append(name)
        except JobError as error:
            skipped.append(Skipped(path, str(error)))
        on_done(count, len(paths))
    if not names:
        raise JobError(f"None of the {len(paths)} clips in {folder} can be used. {skipped[0].reason}")
    return Encoded(names, reused, skipped)


@torch.no_grad()
def encode_clip(path: Path, captions: Sequence[str], studio: Studio, shape: Shape) -> Sample:
    """One clip through text encoder and codecs; raises `JobError` if it cannot be used."""
    frames, samples = read_clip(path, shape)
    vae, audio_vae, device = studio.models.video_vae, studio.models.audio_vae, studio.device
    with studio.in_use(vae, audio_vae):
        video = video_vae.encode(vae, video_vae.from_bytes(frames).to(device))[0]
        mel = mel_spectrogram(torch.from_numpy(samples).unsqueeze(0).to(device))
        audio = audio_vae.encode(mel)[0].T
    return Sample(_half(video), _half(audio), studio.embed(captions))


def read_clip(path: Path, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Frames, uint8 (frames, height, width, 3), and sound, float32 (samples,), of a clip's beginning.

    Raises:
        JobError: it cannot be decoded, is too short, or has no sound.
    """
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.video:
                raise JobError(f"{path.name} has no picture; choose another file.")
            if not container.streams.audio:
                raise JobError(f"{path.name} has no sound; the model learns both together, so add a sound track.")
            frames, start = _frames(path, container, shape)
        with av.open(str(path), metadata_errors="replace") as container:
            return frames, _sound(path, container, start, shape.samples)
    except (av.FFmpegError, OSError, ValueError, EOFError) as error:
        raise JobError(f"{path.name} cannot be decoded ({error}); export it again as mp4.") from error


def _frames(path: Path, container: av.container.InputContainer, shape: Shape) -> tuple[np.ndarray, Fraction]:
    """The frames at 24 a second, and the time of the first one."""
    kept: list[np.ndarray] = []
    start, picture, last = None, None, Fraction(0)
    converter = VideoReformatter()
    for frame in container.decode(video=0):
        if frame.pts is None:
            continue
        time = frame.pts * frame.time_base
        start = time if start is None else start
        # What was to be seen until now; a frame that came within half a tick counts as in time.
        while picture is not None and len(kept) < shape.frames and time - start > _moment(len(kept)):
            kept.append(picture)
        if len(kept) == shape.frames:
            break
        last = time - start + Fraction(1, FRAME_RATE) if not frame.duration else _end(frame, time - start)
        picture = _fitted(frame, converter, shape)
    while picture is not None and len(kept) < shape.frames and last + _TOLERANCE > _moment(len(kept)):
        kept.append(picture)
    if len(kept) < shape.frames:
        seconds = shape.frames / FRAME_RATE
        raise JobError(f"{path.name} lasts {float(last):.2f} s, but {seconds:.2f} s are needed; use a longer clip.")
    return np.stack(kept), start


def _moment(index: int) -> Fraction:
    """When the frame with this index must have come at the latest."""
    return Fraction(index, FRAME_RATE) + Fraction(1, 4 * FRAME_RATE)


def _end(frame: av.VideoFrame, time: Fraction) -> Fraction:
    return time + frame.duration * frame.time_base


def _fitted(frame: av.VideoFrame, converter: VideoReformatter, shape: Shape) -> np.ndarray:
    """RGB, the right way up, cropped in the middle to the aspect ratio and scaled; uint8 (height, width, 3)."""
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
    height, width = pixels.shape[:2]
    scale = min(height / shape.height, width / shape.width)
    rows, columns = round(shape.height * scale), round(shape.width * scale)
    top, left = (height - rows) // 2, (width - columns) // 2
    cut = np.ascontiguousarray(pixels[top : top + rows, left : left + columns])
    if (rows, columns) == (shape.height, shape.width):
        return cut
    return np.asarray(Image.fromarray(cut).resize((shape.width, shape.height), Image.Resampling.LANCZOS))


def _sound(path: Path, container: av.container.InputContainer, start: Fraction, count: int) -> np.ndarray:
    """Mono samples at 16 kHz from `start` seconds on; silence where there is none."""
    blocks, begin, have = [], None, 0
    for block in _resampled(container):
        if begin is None:
            begin = (block.pts or 0) * block.time_base
        blocks.append(block.to_ndarray()[0])
        have += blocks[-1].size
        if have >= count + max(0, start - begin) * SAMPLE_RATE:
            break
    if not blocks:
        raise JobError(f"{path.name} has an empty sound track; choose another file.")
    samples = np.concatenate(blocks)
    late = round((begin - start) * SAMPLE_RATE)
    samples = np.pad(samples, (late, 0)) if late > 0 else samples[-late:]
    return np.pad(samples[:count], (0, max(0, count - samples.size))).astype(np.float32)


def _resampled(container: av.container.InputContainer) -> Iterator[av.AudioFrame]:
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=SAMPLE_RATE)
    for frame in container.decode(audio=0):
        yield from resampler.resample(frame)
    yield from resampler.resample(None)


def _captions(path: Path) -> list[str]:
    text = path.with_suffix(".txt")
    if not text.is_file():
        raise JobError(f"{path.name} has no caption; write it into {text.name} beside it.")
    return read_prompts(text)


def _with_trigger(caption: str, trigger: str) -> str:
    return caption if not trigger or trigger.lower() in caption.lower() else f"{trigger}, {caption}"


def _half(latents: Tensor) -> Tensor:
    """Latents have about unit size: half precision loses 5e-4 of them and half of the disk."""
    return latents.to("cpu", torch.float16)
