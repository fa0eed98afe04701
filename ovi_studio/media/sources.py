"""The source of a clip: the file of which a part is kept, or from which the clip starts. Nothing here imports torch.

A file is known by its hash: a clip that was queued with one is not made with another. What is noted at the end of a
take when it is checked does not count.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from ovi_studio.core.errors import JobError
from ovi_studio.core.spans import kept_of_picture, kept_of_sound
from ovi_studio.core.spec import ClipSpec, clip_size
from ovi_studio.core.variants import Variant
from ovi_studio.media.score_box import size_without_scores

_CHUNK = 2**20


@dataclass(frozen=True, eq=False)
class Source:
    """What a clip uses of its source, in the clip's own size, rates and length."""

    frames: np.ndarray | None = None
    """uint8 (T, H, W, 3), RGB; a shorter video holds its last frame. None if the picture is not used."""
    samples: np.ndarray | None = None
    """float32 (N,) in [-1, 1]; shorter sound is followed by silence. None if the sound is not used."""

    def parts(self, *, picture: bool, sound: bool) -> "Source":
        """Return only the halves that are named."""
        return Source(self.frames if picture else None, self.samples if sound else None)


def pin_source(spec: ClipSpec) -> ClipSpec:
    """Return the clip with the hash of its source.

    Raises `JobError` if the file is missing, cannot be read, or is not the one that the clip names.
    """
    if spec.source is None:
        return spec
    digest = _sha256(spec.source)
    if spec.source_sha256 not in (None, digest):
        raise JobError(f"{spec.source.name} is not the file that the clip was made with; choose the original one.")
    return replace(spec, source_sha256=digest)


def check_source(spec: ClipSpec, variant: Variant) -> None:
    """Raise `JobError` unless the source is there, is the named file, has what is used of it, and leaves work to do."""
    if spec.source is None:
        return
    from ovi_studio.media import foreign  # needs PyAV, which a clip without a source can do without

    pin_source(spec)
    facts = foreign.probe(spec.source)
    if spec.uses_picture and facts.shape is None:
        raise JobError(f"{spec.source.name} has no picture; keep only its sound, or choose a video.")
    if spec.uses_sound and not facts.sound:
        raise JobError(f"{spec.source.name} has no sound; keep only its picture, or choose a file with sound.")
    if spec.uses_picture and facts.hdr:
        raise JobError(foreign.HDR_ADVICE.format(name=spec.source.name))
    picture = kept_of_picture(spec.keep_picture, variant.video_latent_frames)
    sound = kept_of_sound(spec.keep_sound, variant.audio_latent_length)
    if all(picture) and all(sound):
        raise JobError(f"All of {spec.source.name} is kept, so nothing would be made; keep less.")


def read_source(spec: ClipSpec, variant: Variant) -> Source | None:
    """Read what a clip uses of its source; None if it has none. Raises `JobError` like `check_source`."""
    if spec.source is None:
        return None
    from ovi_studio.media import foreign

    check_source(spec, variant)
    facts = foreign.probe(spec.source)
    frames = None
    if spec.uses_picture:
        height, width = clip_size(spec, variant, source=facts.shape)
        found = foreign.read_picture(spec.source, height, width, variant.frames).frames
        frames = np.pad(found, ((0, variant.frames - len(found)), (0, 0), (0, 0), (0, 0)), mode="edge")
    # The sound of a video starts with its picture.
    samples = foreign.read_sound(spec.source, variant.samples, facts.start) if spec.uses_sound else None
    return Source(frames, samples)


def _sha256(path: Path) -> str:
    try:
        status = path.stat()
        if not path.is_file():
            raise FileNotFoundError
        return _hash_once(path, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    except FileNotFoundError:
        raise JobError(f"There is no file {path.name}; it may have been moved or deleted.") from None
    except OSError as error:
        raise JobError(f"{path.name} cannot be read ({error.strerror}); check its permissions.") from error


@lru_cache(maxsize=8)
def _hash_once(path: Path, stamp: tuple[int, ...]) -> str:
    """Hash a file; `stamp` only tells the versions of a file apart."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = size_without_scores(file)
        file.seek(0)
        while chunk := file.read(min(left, _CHUNK)):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()
