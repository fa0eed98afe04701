"""Folders of chunks that wait for the rest of their clip, each of one owner at a time. Imports no torch."""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ovi_studio.core.errors import JobError
from ovi_studio.media.small_files import folder_errors
from ovi_studio.queue.locks import Lock

_FORMAT = 1
"""Counts up when the same work would give other chunks."""
_ABANDONED_SECONDS = 7 * 24 * 3600
"""Chunks that nobody has continued for this long are removed."""


@contextmanager
def chunk_folder(work: Path, owner: str, content: Any) -> Iterator[Path]:
    """The folder for the chunks of one clip; those that an earlier process made for the same owner are in it.

    Args:
        work: folder of all such folders.
        owner: letters, digits and underscores; raises `JobError` if another process works for it at the moment.
        content: JSON value of everything that decides about the chunks; those of another content are removed.
    """
    with folder_errors(work):
        work.mkdir(parents=True, exist_ok=True)
        lock = Lock.try_acquire(work / f"{owner}.lock")
        if lock is None:
            raise JobError("Another process is making this clip at the moment; wait until it has ended.")
        try:
            digest = hashlib.sha256(json.dumps([_FORMAT, content], sort_keys=True).encode()).hexdigest()
            folder = work / f"{owner}-{digest[:32]}"
            for other in work.iterdir():
                if other != folder and (_belongs(other, owner) or _abandoned(other)):
                    shutil.rmtree(other, ignore_errors=True)
            folder.mkdir(exist_ok=True)
            yield folder
        finally:
            lock.release(remove=True)


def discard_chunks(work: Path, owner: str) -> None:
    """Remove the chunks of an owner, who will not continue them."""
    for folder in work.glob(f"{owner}-*"):
        shutil.rmtree(folder, ignore_errors=True)


def _belongs(folder: Path, owner: str) -> bool:
    return folder.name.startswith(f"{owner}-")


def _abandoned(folder: Path) -> bool:
    return folder.is_dir() and time.time() - folder.stat().st_mtime > _ABANDONED_SECONDS
