"""What a download needs of a disk: free space, a writable place, and that no other download writes there. No torch."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ovi_studio.checkpoints.file_check import holds
from ovi_studio.core.errors import JobError

RESUMES = "then repeat the command: it resumes"
"""The end of every sentence about an interrupted download."""


def free_space(folder: Path) -> int:
    """Free bytes on the disk where `folder` is or would be created."""
    return shutil.disk_usage(existing_ancestor(folder)).free


def existing_ancestor(folder: Path) -> Path:
    """The innermost folder of a path that exists and can be reached."""
    folder = folder.resolve()
    return next(place for place in (folder, *folder.parents) if holds(place.is_dir))


def format_bytes(count: int) -> str:
    """Decimal units, as used by hubs and disk vendors: `23.3 GB`."""
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Convert an `OSError` to a `JobError` that says that `place` cannot be written."""
    try:
        yield
    except OSError as error:
        raise JobError(
            f"{place} cannot be written ({error.strerror or error}); make it writable or choose another directory with "
            f"--ckpt-dir, {RESUMES}."
        ) from error


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Allow only one download into a directory, since two would append to the same files."""
    from filelock import Timeout
    from huggingface_hub.utils import WeakFileLock  # with an HTTP client

    with ExitStack() as stack:
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
            try:
                # With a timeout of 0 it would not even try once.
                stack.enter_context(WeakFileLock(directory / ".download.lock", timeout=0.5))
            except Timeout as error:
                raise JobError(
                    f"Another download into {directory} is running; wait until it ends, {RESUMES}."
                ) from error
        yield
