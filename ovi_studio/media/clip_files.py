"""Clips as files: an mp4 with picture, sound, first frame and the recipe to make it again, and a poster next to it.

The recipe is JSON, in the mp4 and in the poster (`recipe_copies`); the first frame is the mp4's cover picture. A file
appears under its name only when it is complete and never replaces another one, even if several processes write to the
same folder. Nothing here imports torch.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ovi_studio import __version__
from ovi_studio.core.clip import Clip
from ovi_studio.core.errors import FolderError, JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media.clip_names import claim_clip_path, file_stem
from ovi_studio.media.film import Film
from ovi_studio.media.frames import POSTER_FRAME, encode_poster, poster_index, read_frame
from ovi_studio.media.mp4_encoder import cover_suffix, encode_cover
from ovi_studio.media.pictures import MAX_FILE_SIZE, decode_picture
from ovi_studio.media.recipe_copies import MAX_RECORD_BYTES, read_tag, stored_recipes
from ovi_studio.media.shot_copies import ShotCopy, stored_shots
from ovi_studio.media.small_files import part_path

APP = "Ovi Studio"
PICTURES_FOLDER = "pictures"
"""Subfolder of the output folder for first frames that were extracted from mp4 files."""
MIN_FREE_BYTES = 100 * 2**20


class FirstFrameMissing(JobError):
    """The settings of a clip can be read, but not its first frame."""

    def __init__(self, sentence: str, spec: ClipSpec) -> None:
        super().__init__(sentence)
        self.spec = spec
        """The settings without `image`."""


def write_clip(clip: Clip, directory: str | Path, name: str | None = None) -> Path:
    """Write `<name>.mp4` and its poster `<name>.jpg`; returns the path of the mp4.

    The default name consists of the prompt, (height)x(width) and the seed; a name that is taken gets a counter. Raises
    `JobError` if the folder is full or not writable. Nothing is left behind after an error or an interruption.
    """
    directory = Path(directory)
    height, width = clip.frames.shape[1:3]
    stem = file_stem(name) if name else f"{file_stem(clip.spec.prompt)}_{height}x{width}_{clip.spec.seed}"
    return _write(encode_clip(clip, source_name(clip.spec, directory)), directory, stem)


def write_clip_as(clip: Clip, path: Path) -> Path:
    """Write a clip like `write_clip`, with exactly this file name unless it is taken (`clip_names.check_name_free`)."""
    return _write(encode_clip(clip, source_name(clip.spec, path.parent)), path.parent, path.stem, path.suffix)


@dataclass(frozen=True, eq=False)
class EncodedClip:
    """The files of a clip before they are written. Compared by identity."""

    movie: bytes
    """The mp4."""
    poster: bytes
    """The JPEG."""


def encode_clip(clip: Clip, source: str | None) -> EncodedClip:
    """Encode a clip with its recipe; possible once for a clip whose frames are a film. Raises `JobError`.

    Args:
        source: how the recipe names the clip's source, see `source_name`.
    """
    if not np.isfinite(clip.samples).all():
        raise JobError("Some values of the sound are NaN or infinite; make the clip with other settings.")
    cover = None if clip.picture is None else encode_cover(clip.picture)
    recipe = _recipe(clip, cover, source)
    movie = Film.of(clip.frames).mp4(clip.samples, recipe, clip.picture, cover)
    return EncodedClip(movie, encode_poster(clip.frames[poster_index(clip.frames.shape[0])], recipe))


def source_name(spec: ClipSpec, directory: Path) -> str | None:
    """Return how a clip in the folder names its source: the whole path may reveal something about the person."""
    if spec.source is None:
        return None
    try:
        return Path(os.path.relpath(spec.source.resolve(), directory.resolve())).as_posix()
    except ValueError:  # on another drive
        return spec.source.name


def write_encoded(clip: EncodedClip, directory: Path, name: str) -> Path:
    """Write an encoded clip like `write_clip`."""
    return _write(clip, directory, file_stem(name))


def _write(clip: EncodedClip, directory: Path, stem: str, suffix: str = ".mp4") -> Path:
    def write(part: Path) -> bytes:
        part.write_bytes(clip.movie)
        return clip.poster

    return place_clip(directory, stem, write, len(clip.movie) + len(clip.poster), suffix)


def place_clip(directory: Path, stem: str, write: Callable[[Path], bytes], size: int, suffix: str = ".mp4") -> Path:
    """Write an mp4 and its poster under a free name; returns the path of the mp4.

    Raises `FolderError` if they do not fit. Nothing is left behind after an error or an interruption.

    Args:
        write: writes the mp4 to the path that it is given, and returns the poster.
        size: bytes that both are expected to have.
    """
    with output_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        check_free(directory, size)
        path = claim_clip_path(directory, stem, suffix)
        poster_path = path.with_suffix(".jpg")
        try:
            poster = write(part_path(path))
            part_path(poster_path).write_bytes(poster)
            for part in (part_path(path), part_path(poster_path)):
                _flush(part)
            # The poster first, so that an mp4 never appears without its poster.
            part_path(poster_path).replace(poster_path)
            part_path(path).replace(path)
        except BaseException:
            for leftover in (part_path(path), part_path(poster_path), poster_path):
                with contextlib.suppress(OSError):
                    leftover.unlink(missing_ok=True)
            raise
    return path


def check_writable(directory: str | Path) -> None:
    """Create the folder and check that a clip fits, before one is computed; raises `JobError` with advice."""
    directory = Path(directory)
    with output_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(b"probe")
    check_free(directory, MIN_FREE_BYTES)


def read_record(path: str | Path, shot: int | None = None) -> dict[str, Any]:
    """The recipe in an mp4 or a poster: `app`, `version`, `spec`, `picture` if there is a first frame, and the clip's
    own record.

    Of the copies in an mp4, the first one that can be used counts. Raises `JobError` if the file cannot be read, is not
    a clip of this app, or contains a broken recipe.

    Args:
        shot: the number of a film's shot, from 1, whose clip's recipe is meant.
    """
    path = Path(path)
    if shot is not None:
        return _parse_recipe(_read_shot(path, shot).recipe, path)
    refusal = None
    with _opened(path) as file:
        for stored in stored_recipes(file):
            try:
                return _parse_recipe(stored, path)
            except JobError as error:
                refusal = refusal or error
    raise refusal or JobError(f"{path} does not contain a recipe of {APP}; choose a clip that was made with it.")


def read_film(path: str | Path) -> list[dict[str, Any]]:
    """The recipes of a film's shots, in order; empty for any other file. Raises `JobError` if it cannot be read."""
    path = Path(path)
    with _opened(path) as file:
        return [_parse_recipe(copy.recipe, path) for copy in stored_shots(file)]


def read_cover(path: Path) -> bytes | None:
    """The first frame in a clip, a PNG or JPEG file; None if there is none. Raises `JobError`."""
    with _opened(path) as file:
        return read_tag(file, b"covr", MAX_FILE_SIZE)


def read_spec(
    path: str | Path,
    pictures_directory: str | Path,
    *,
    image: Path | None = None,
    shot: int | None = None,
    source: Path | None = None,
) -> ClipSpec:
    """The spec that makes the clip at `path` again.

    If it keeps a part of another file, `source` names that file as seen from here, or from next to the clip if it is
    not there any more; whether it is the right one is seen when the clip is made.

    Its first frame is written to `pictures_directory/<sha256>.png` or `.jpg`, and the spec's `image` names that file.
    Raises `JobError` like `read_record`, and `FirstFrameMissing` if the first frame is not in the file (which is so in
    a poster, and in a clip whose tags were cleared) or differs from the one in the recipe.

    Args:
        image: the first frame to use instead of the one in the file.
        shot: see `read_record`.
        source: where the clip's source is now.
    """
    path = Path(path)
    record = read_record(path, shot)
    if (named := record["spec"].get("source")) is not None:
        record["spec"]["source"] = str(source or _find_source(str(named), path.parent))
    if image is None and (record.get("picture") is not None or record["spec"].get("image") is not None):
        data = read_cover(path) if shot is None else _read_shot(path, shot).picture
        if data is None or hashlib.sha256(data).hexdigest() != _stored_hash(record):
            spec = ClipSpec.from_record({**record["spec"], "image": None})
            raise FirstFrameMissing(f"The first frame is not in {path}; choose the picture again.", spec)
        image = _save_first_frame(data, Path(pictures_directory), f"in {path}")
    return ClipSpec.from_record({**record["spec"], "image": image})


def _find_source(named: str, folder: Path) -> Path:
    """Return the path of a clip's source: as the recipe names it from the clip's folder, or in that folder itself."""
    recorded = folder / named
    return recorded if recorded.is_file() else folder / Path(named).name


def make_poster(path: Path) -> bytes:
    """The poster of a clip whose own one is gone; raises `JobError` if the clip cannot be decoded."""
    return encode_poster(read_frame(path, POSTER_FRAME), json.dumps(read_record(path)))


def _parse_recipe(stored: bytes, path: Path) -> dict[str, Any]:
    if len(stored) > MAX_RECORD_BYTES:
        raise JobError(f"{path} was not made by {APP} (its comment has more than 1 MB); choose another clip.")
    try:
        record = json.loads(stored or b"null")
    except (ValueError, RecursionError) as error:
        raise JobError(f"{path} was not made by {APP}, or its recipe is broken; choose another clip.") from error
    if isinstance(record, dict) and record.get("app") == APP and "film" in record:
        raise JobError(f"{path} is a film; choose one of its shots by its number.")
    if not isinstance(record, dict) or record.get("app") != APP or not isinstance(record.get("spec"), dict):
        raise JobError(f"{path} does not contain a recipe of {APP}; choose a clip that was made with it.")
    return record


def _recipe(clip: Clip, cover: bytes | None, source: str | None) -> str:
    spec = {**clip.spec.to_dict(), "source": source}
    record = {**clip.record, "app": APP, "version": __version__, "spec": spec}
    if clip.picture is not None and cover is not None:
        # Only the name: the path may reveal something about the person.
        spec["image"] = clip.spec.image.name if clip.spec.image is not None else None
        stored = hashlib.sha256(cover).hexdigest()
        record["picture"] = {"name": spec["image"], "sha256": clip.picture.sha256, "stored_sha256": stored}
    text = json.dumps(record, allow_nan=False)
    if len(text) > MAX_RECORD_BYTES:
        raise ValueError(f"the clip's record has {len(text)} characters and could not be read back")
    return text


# Writing


def _flush(path: Path) -> None:
    """Without this, a rename could survive a power cut and the data not."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def check_free(directory: Path, size: int) -> None:
    """Raise `FolderError` if the disk of a folder has less than `size` bytes left."""
    with output_errors(directory):
        free = shutil.disk_usage(directory).free
    if free < size:
        raise FolderError(
            f"Only {free // 2**20} MB are free in the output folder {directory}; free up {-(-size // 2**20)} MB "
            f"or choose another folder."
        )


@contextlib.contextmanager
def output_errors(directory: Path) -> Iterator[None]:
    """Turn an `OSError` about the output folder into a `FolderError` with advice."""
    try:
        yield
    except OSError as error:
        raise FolderError(_output_advice(directory, error)) from error


def _output_advice(directory: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"There is no space left for a file in {directory}; free up some space or choose another output folder."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"The output folder {directory} is not writable; change its permissions or choose another one."
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"The output folder {directory} is a file or below a file; choose another one."
    return f"The output folder {directory} cannot be used ({error.strerror}); check the disk or choose another folder."


# Reading


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        # Not only for the message: opening a pipe would block forever.
        if not path.is_file():
            raise JobError(f"There is no clip {path}; it may have been moved or deleted.")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise JobError(
            f"The clip {path} cannot be read ({error.strerror}); check the file and its permissions."
        ) from error


def _read_shot(path: Path, number: int) -> ShotCopy:
    with _opened(path) as file:
        shots = list(stored_shots(file))
    if not shots:
        raise JobError(f"{path} is not a film of {APP}; its settings are read without the number of a shot.")
    if not 1 <= number <= len(shots):
        raise JobError(f"{path} has {len(shots)} shots, and no shot {number}; choose one from 1 to {len(shots)}.")
    return shots[number - 1]


def _stored_hash(record: Mapping[str, Any]) -> Any:
    picture = record.get("picture")
    return picture.get("stored_sha256") if isinstance(picture, dict) else None


def _save_first_frame(data: bytes, directory: Path, name: str) -> Path:
    """Write a picture under its hash unless it exists already; rejects anything but PNG and JPEG."""
    suffix = cover_suffix(data)
    if suffix is None:
        raise JobError(f"The first frame {name} is not a PNG or JPEG; choose the picture again.")
    path = directory / (decode_picture(data, name).sha256 + suffix)
    with output_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_bytes() != data:
            # In a folder of its own: another process may be writing the same picture.
            with tempfile.TemporaryDirectory(dir=directory) as scratch:
                copy = Path(scratch) / path.name
                copy.write_bytes(data)
                copy.replace(path)
    return path
