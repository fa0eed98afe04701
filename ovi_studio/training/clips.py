"""Encode a folder of clips with captions into samples on disk.

A clip `a.mp4` needs its caption in `a.txt` in the same folder; further lines are further captions of the same clip.
Picture and sound start together and are cut at the variant's length. The picture is cropped at the centre and scaled to
one size at 24 frames per second; the sound is mixed down to mono at 16 kHz. Clips that cannot be used are skipped and
reported with the reason. A sample is named by a hash of everything it depends on, so only what has changed is encoded.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ovi_studio.checkpoints.hashes import file_sha256
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import FRAME_RATE, Part
from ovi_studio.media import foreign
from ovi_studio.models import video_vae
from ovi_studio.models.mel import mel_spectrogram
from ovi_studio.training.cache import Sample, write_sample
from ovi_studio.training.prepare import TrainingContext, read_prompts

SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".m4v"})


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
    if not foreign.probe(path).sound:
        raise JobError(f"{path.name} has no sound; the model learns both together, so add an audio track.")
    picture = foreign.read_picture(path, shape.height, shape.width, shape.frames)
    if len(picture.frames) < shape.frames:
        seconds = shape.frames / FRAME_RATE
        raise JobError(f"{path.name} lasts {picture.seconds:.2f} s, but {seconds:.2f} s are needed; use a longer clip.")
    return picture.frames, foreign.read_sound(path, shape.samples, picture.start)


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
