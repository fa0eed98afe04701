"""The files of a job: its clip, found again by the job's id, and its first frame, kept under its content's hash."""

import contextlib
from pathlib import Path

from ovi_studio.core.errors import JobError
from ovi_studio.media.clip_files import read_record
from ovi_studio.media.pictures import read_picture
from ovi_studio.media.small_files import folder_errors, part_path, write_atomically
from ovi_studio.queue.paths import StudioPaths

_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def clip_name(number: int, job_id: str, prompt: str) -> str:
    """What `clip_files.write_clip` is asked to call the clip; number and id come first: a long prompt cuts neither.

    The number sorts a folder in the order of the queue.
    """
    return f"{_prefix(number, job_id)} {prompt}"


def find_clip(paths: StudioPaths, number: int, job_id: str) -> Path | None:
    """The complete clip of a job, if it is in the output folder.

    A clip has its name only when it is whole, and holds the id of its job.
    """
    for path in _files(paths, number, job_id):
        if path.suffix == ".mp4":
            try:
                record = read_record(path)
            except JobError:
                continue  # somebody else's file under this name
            if record.get("job") == job_id:
                return path
    return None


def remove_leftovers(paths: StudioPaths, number: int, job_id: str) -> None:
    """Remove what an engine left that died while it wrote: part files, and a poster without its clip."""
    with folder_errors(paths.outputs):
        for path in _files(paths, number, job_id):
            if path.suffix == ".part" or (path.suffix == ".jpg" and not path.with_suffix(".mp4").exists()):
                path.unlink(missing_ok=True)
    remove_preview(paths, job_id)


def preview_path(paths: StudioPaths, job_id: str) -> Path:
    """Where the live preview of a job is."""
    return paths.previews / f"{job_id}.jpg"


def remove_preview(paths: StudioPaths, job_id: str) -> None:
    """Remove the live preview of a job that does not run any more."""
    path = preview_path(paths, job_id)
    for leftover in (path, part_path(path)):
        with contextlib.suppress(OSError):
            leftover.unlink(missing_ok=True)


def keep_picture(source: Path, folder: Path) -> Path:
    """Copy a first frame to `folder/<sha256>.<ext>` unless it is there; returns that path.

    The original may be a temporary upload. Raises `JobError` if it is no picture that can be used.
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


def _prefix(number: int, job_id: str) -> str:
    return f"{number:05d}_{job_id}"


def _files(paths: StudioPaths, number: int, job_id: str) -> list[Path]:
    return sorted(paths.outputs.glob(f"{_prefix(number, job_id)}*"))
