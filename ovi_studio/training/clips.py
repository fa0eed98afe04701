"""Encode a folder of clips with captions into samples on disk.

A clip `a.mp4` needs its caption in `a.txt` in the same folder; further lines are further captions of the same clip.
Picture and sound start together and are cut at the variant's length. The picture is cropped at the centre and scaled to
one size at 24 frames per second; the sound is mixed down to mono at 16 kHz. Clips that cannot be used are skipped and
reported with the reason. A sample is named by a hash of everything it depends on, so only what has changed is encoded.
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
from ovi_studio.training.prepare import TrainingContext, read_prompts

SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".m4v"})
_TOLERANCE = Fraction(1, 2 * FRAME_RATE)
"""Seconds by which a clip may be too short: half a frame, which rounding of timestamps can cost."""
_SCALER = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""As accurate as the conversion of our own clips (see `media`)."""
_HIGH_DEFINITION = 720
"""Height from which a video without a declared colour space is taken to be BT.709."""


@dataclass(frozen=True)
class SkippedClip:
    """A clip that cannot be used."""

    path: Path
    reason: str


@dataclass(frozen=True)
class EncodedFolder:
    """The result of encoding a folder."""

    names: Sequence[str]
    """Names of the samples in the cache."""
    reused: int
    """Number of samples that were already in the cache."""
    skipped: Sequence[SkippedClip]
    """Clips that cannot be used."""


@dataclass(frozen=True)
class ClipShape:
    """The size that every clip is converted to."""

    height: int
    width: int
    frames: int
    samples: int
    """Audio samples at 16 kHz."""


def encode_folder(
    folder: Path,
    cache: Path,
    context: TrainingContext,
    size: tuple[int, int],
    trigger: str = "",
    on_done: Callable[[int, int], None] = lambda done, of: None,
) -> EncodedFolder:
    """Encode the clips that are not in the cache yet.

    Args:
        size: (height, width), multiples of the variant's `size_unit`.
        trigger: prepended to every caption that does not contain it.
        on_done: called after every clip with the number of processed clips and the total.

    Raises:
        JobError: there is no clip, or none that can be used.
    """
    if not folder.is_dir():
        raise JobError(f"There is no folder {folder}; name one with clips and captions.")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise JobError(f"There is no clip in {folder}; put .mp4 files there, each with its caption in a .txt file.")
    variant = context.variant
    shape = ClipShape(*size, variant.frames, variant.samples)
    models = context.digest(Part.TEXT_ENCODER, Part.TOKENIZER, Part.VIDEO_VAE, Part.AUDIO_VAE)
    names: list[str] = []
    skipped: list[SkippedClip] = []
    reused = 0
    for count, path in enumerate(paths, start=1):
        try:
            captions = [_with_trigger(caption, trigger) for caption in _captions(path)]
            name = _sample_name(path, models, captions, shape, variant.audio_tag.value)
            if (cache / f"{name}.safetensors").is_file():
                reused += 1
            else:
                write_sample(cache, name, encode_clip(path, captions, context, shape), {"clip": path.name})
            names.append(name)
        except JobError as error:
            skipped.append(SkippedClip(path, str(error)))
        on_done(count, len(paths))
    if not names:
        raise JobError(f"None of the {len(paths)} clips in {folder} can be used. {skipped[0].reason}")
    return EncodedFolder(names, reused, skipped)


def _sample_name(path: Path, models: str, captions: Sequence[str], shape: ClipShape, audio_tag: str) -> str:
    """Return the hash of everything that an encoded clip depends on."""
    # Spelled out: samples in existing work folders are named by this text.
    size = f"Shape(height={shape.height}, width={shape.width}, frames={shape.frames}, samples={shape.samples})"
    key = f"({file_sha256(path)!r}, {models!r}, {captions!r}, {size}, {audio_tag!r})"
    return hashlib.sha256(key.encode()).hexdigest()[:32]


@torch.no_grad()
def encode_clip(path: Path, captions: Sequence[str], context: TrainingContext, shape: ClipShape) -> Sample:
    """Encode one clip and its captions; raises `JobError` if it cannot be used."""
    frames, samples = read_clip(path, shape)
    vae, audio_vae, device = context.models.video_vae, context.models.audio_vae, context.device
    with context.in_use(vae, audio_vae):
        video = video_vae.encode(vae, video_vae.from_bytes(frames).to(device))[0]
        mel = mel_spectrogram(torch.from_numpy(samples).unsqueeze(0).to(device))
        audio = audio_vae.encode(mel)[0].T
    return Sample(_half(video), _half(audio), context.embed(captions))


def read_clip(path: Path, shape: ClipShape) -> tuple[np.ndarray, np.ndarray]:
    """Return the frames, uint8 (frames, height, width, 3), and the sound, float32 (samples,), of a clip's start.

    Raises:
        JobError: the clip cannot be decoded, is too short, or has no sound.
    """
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.video:
                raise JobError(f"{path.name} has no video track; choose another file.")
            if not container.streams.audio:
                raise JobError(f"{path.name} has no sound; the model learns both together, so add an audio track.")
            frames, start = _frames(path, container, shape)
        with av.open(str(path), metadata_errors="replace") as container:
            return frames, _sound(path, container, start, shape.samples)
    except (av.FFmpegError, OSError, ValueError, EOFError) as error:
        raise JobError(f"{path.name} cannot be decoded ({error}); export it again as mp4.") from error


def _frames(path: Path, container: av.container.InputContainer, shape: ClipShape) -> tuple[np.ndarray, Fraction]:
    """Return the frames at 24 per second, and the time of the first one in seconds."""
    kept: list[np.ndarray] = []
    start: Fraction | None = None
    picture: np.ndarray | None = None
    end = Fraction(0)
    converter = VideoReformatter()
    for frame in container.decode(video=0):
        time = _seconds(frame)
        if time is None:
            continue
        start = time if start is None else start
        # The previous picture is shown until now; a frame that is late by less than a quarter of a frame is on time.
        while picture is not None and len(kept) < shape.frames and time - start > _deadline(len(kept)):
            kept.append(picture)
        if len(kept) == shape.frames:
            break
        end = time - start + _duration(frame)
        picture = _fit(frame, converter, shape)
    while picture is not None and len(kept) < shape.frames and end + _TOLERANCE > _deadline(len(kept)):
        kept.append(picture)
    if start is None or len(kept) < shape.frames:
        seconds = shape.frames / FRAME_RATE
        raise JobError(f"{path.name} lasts {float(end):.2f} s, but {seconds:.2f} s are needed; use a longer clip.")
    return np.stack(kept), start


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


def _fit(frame: av.VideoFrame, converter: VideoReformatter, shape: ClipShape) -> np.ndarray:
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
    height, width = pixels.shape[:2]
    scale = min(height / shape.height, width / shape.width)
    rows, columns = round(shape.height * scale), round(shape.width * scale)
    top, left = (height - rows) // 2, (width - columns) // 2
    cropped = np.ascontiguousarray(pixels[top : top + rows, left : left + columns])
    if (rows, columns) == (shape.height, shape.width):
        return cropped
    return np.asarray(Image.fromarray(cropped).resize((shape.width, shape.height), Image.Resampling.LANCZOS))


def _sound(path: Path, container: av.container.InputContainer, start: Fraction, count: int) -> np.ndarray:
    """Return mono samples at 16 kHz from `start` seconds on, padded with silence."""
    blocks: list[np.ndarray] = []
    begin: Fraction | None = None
    size = 0
    for block in _resampled(container):
        if begin is None:
            begin = _seconds(block) or Fraction(0)
        blocks.append(block.to_ndarray()[0])
        size += blocks[-1].size
        if size >= count + max(Fraction(0), start - begin) * SAMPLE_RATE:
            break
    if begin is None:
        raise JobError(f"{path.name} has an empty audio track; choose another file.")
    samples = np.concatenate(blocks)
    delay = round((begin - start) * SAMPLE_RATE)
    samples = np.pad(samples, (delay, 0)) if delay > 0 else samples[-delay:]
    return np.pad(samples[:count], (0, max(0, count - samples.size))).astype(np.float32)


def _resampled(container: av.container.InputContainer) -> Iterator[av.AudioFrame]:
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=SAMPLE_RATE)
    for frame in container.decode(audio=0):
        yield from resampler.resample(frame)
    yield from resampler.resample(None)


def _captions(path: Path) -> list[str]:
    text = path.with_suffix(".txt")
    if not text.is_file():
        raise JobError(f"{path.name} has no caption; write one to {text.name} in the same folder.")
    return read_prompts(text)


def _with_trigger(caption: str, trigger: str) -> str:
    return caption if not trigger or trigger.lower() in caption.lower() else f"{trigger}, {caption}"


def _half(latents: Tensor) -> Tensor:
    """Convert to half precision, which loses 5e-4 of latents of about unit size and saves half the disk space."""
    return latents.to("cpu", torch.float16)
