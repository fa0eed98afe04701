"""The files of a job: its clip, identified by the job's id, and its first frame, stored under its content hash."""

import contextlib
import hashlib
from pathlib import Path

import numpy as np

from ovi_studio.core.errors import JobError
from ovi_studio.media.clip_files import read_record
from ovi_studio.media.frames import encode_png, read_frame
from ovi_studio.media.pictures import read_picture
from ovi_studio.media.small_files import folder_errors, part_path, write_atomically
from ovi_studio.queue.paths import StudioPaths

_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".heic", ".heif", ".bmp", ".gif", ".tif", ".tiff")


def clip_name(number: int, job_id: str, prompt: str) -> str:
    """The name for `clip_files.write_clip`; number and id come first, so that a long prompt does not truncate them.

    The number sorts a folder in queue order.
    """
    return f"{_prefix(number, job_id)} {prompt}"


def find_clip(paths: StudioPaths, number: int, job_id: str) -> Path | None:
    """The complete clip of a job, if it is in the output folder.

    A clip gets its name only when it is complete, and contains the id of its job.
    """
    for path in _files(paths, number, job_id):
        if path.suffix == ".mp4":
            try:
                record = read_record(path)
            except JobError:
                continue  # an unrelated file with this name
            if record.get("job") == job_id:
                return path
    return None


def find_clip_of(paths: StudioPaths, job_id: str) -> Path | None:
    """The complete clip of a job that may have been deleted from the queue, if it is in the output folder."""
    found = (path.name.partition("_")[0] for path in sorted(paths.outputs.glob(f"*_{job_id}*.mp4")))
    numbers = [int(number) for number in found if number.isdecimal()]
    return next((clip for number in numbers if (clip := find_clip(paths, number, job_id))), None)


def remove_leftovers(paths: StudioPaths, number: int, job_id: str) -> None:
    """Remove what an engine left when it died while writing: part files, and a poster without a clip."""
    with folder_errors(paths.outputs):
        for path in _files(paths, number, job_id):
            if path.suffix == ".part" or (path.suffix == ".jpg" and not path.with_suffix(".mp4").exists()):
                path.unlink(missing_ok=True)
    remove_preview(paths, job_id)


def preview_path(paths: StudioPaths, job_id: str) -> Path:
    """The path of a job's live preview."""
    return paths.previews / f"{job_id}.jpg"


def remove_preview(paths: StudioPaths, job_id: str) -> None:
    """Remove the live preview of a job that is no longer running."""
    path = preview_path(paths, job_id)
    for leftover in (path, part_path(path)):
        with contextlib.suppress(OSError):
            leftover.unlink(missing_ok=True)


def keep_picture(source: Path, folder: Path) -> Path:
    """Copy a first frame to `folder/<sha256>.<ext>` unless it exists; returns that path.

    The original may be a temporary upload. Raises `JobError` if it is not a usable picture.
    """
    if source.parent == folder and source.is_file():
        return source
    picture = read_picture(source)
    suffix = source.suffix.lower()
    path = folder / (picture.sha256 + (suffix if suffix in _PICTURE_SUFFIXES else ".img"))
    with folder_errors(folder):
        if not path.is_file() or path.stat().st_size != len(picture.data):
            write_atomically(path, picture.data)
    return path


def keep_last_frame(clip: Path, folder: Path) -> Path:
    """Write the exact last frame of a clip to `folder/<sha256>.png` unless it exists; returns that path.

    Raises `JobError` if the clip cannot be decoded.
    """
    return keep_frame(read_frame(clip), folder)


def keep_frame(pixels: np.ndarray, folder: Path) -> Path:
    """Write uint8 (H, W, 3) to `folder/<sha256>.png` unless it exists; returns that path. Raises `JobError`."""
    data = encode_png(pixels)
    path = folder / f"{hashlib.sha256(data).hexdigest()}.png"
    if not path.is_file() or path.stat().st_size != len(data):
        write_atomically(path, data)
    return path


def _prefix(number: int, job_id: str) -> str:
    return f"{number:05d}_{job_id}"


def _files(paths: StudioPaths, number: int, job_id: str) -> list[Path]:
    return sorted(paths.outputs.glob(f"{_prefix(number, job_id)}*"))
