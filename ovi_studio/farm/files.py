"""Files that travel by content: first frames and adapters that a machine of the farm keeps under their hashes.

A file comes in pieces into a part file and gets its name only if its hash is right, so that one that was damaged on the
way is never used. The cache is bounded: the files that were used longest ago make room. Imports no torch or ray.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from ovi_studio.checkpoints.hashes import file_sha256
from ovi_studio.core.errors import FolderError, JobError
from ovi_studio.media.small_files import part_path

PIECE_BYTES = 4 * 2**20
"""Size of the pieces in which files travel."""
CACHE_BYTES = 20 * 2**30
"""Bound of the cache; adapters have 50 MB to 2 GB."""


@dataclass(frozen=True)
class Content:
    """A file by its content."""

    location: str
    """Path in the cache, with `/`, which contains a hash of the content; never one that a person chose."""
    sha256: str
    size: int
    """Bytes."""

    @classmethod
    def of(cls, path: Path, location: str) -> "Content":
        """Return the content of a file; raises `JobError` if it is gone."""
        try:
            return cls(location, file_sha256(path), path.stat().st_size)
        except OSError as error:
            raise JobError(f"{path.name} cannot be read ({error.strerror}); choose it again.") from error


class FileCache:
    """The files of one machine, in one folder."""

    def __init__(self, folder: Path, bound: int = CACHE_BYTES) -> None:
        self.folder = folder
        self._bound = bound
        with _disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def path(self, content: Content) -> Path:
        """Return the path of a file, whether or not it is here."""
        return self.folder / content.location

    def lacks(self, contents: Collection[Content]) -> list[Content]:
        """Return those files that must be sent; the others count as used now."""
        missing = []
        for content in contents:
            path = self.path(content)
            if path.is_file() and path.stat().st_size == content.size:
                os.utime(path)
            else:
                missing.append(content)
        return missing

    def append(self, content: Content, offset: int, piece: bytes) -> None:
        """Take a piece of a file, the first at offset 0, each after the one before; the last completes the file.

        Raises `JobError` if the content is not what was announced, `FolderError` if there is no room.
        """
        # The GPUs of a machine share the folder.
        part = part_path(self.path(content).with_name(f"{self.path(content).name}.{os.getpid()}"))
        with _disk_errors(self.folder):
            if offset == 0:
                self._make_room(content)
                part.parent.mkdir(exist_ok=True)
                part.unlink(missing_ok=True)
            with part.open("ab") as file:
                if file.tell() != offset:
                    raise JobError(f"A piece of {content.location} was lost on the way; queue the job again.")
                file.write(piece)
            if offset + len(piece) >= content.size:
                self._complete(content, part)

    def _complete(self, content: Content, part: Path) -> None:
        with part.open("rb") as file:
            arrived = hashlib.file_digest(file, "sha256").hexdigest()
        if arrived != content.sha256:
            part.unlink()
            raise JobError(f"The file {content.location} was damaged on its way to a machine; queue the job again.")
        part.replace(self.path(content))

    def _make_room(self, content: Content) -> None:
        """Remove the files that were used longest ago until the new one fits below the bound."""
        if content.size > self._bound:
            raise JobError(
                f"A file of {content.size / 2**30:.1f} GiB is too large for the cache of the farm's machines."
            )
        known = sorted((p for p in self.folder.rglob("*") if p.is_file()), key=lambda path: path.stat().st_mtime)
        total = sum(path.stat().st_size for path in known)
        for path in known:
            if total + content.size <= self._bound:
                break
            total -= path.stat().st_size
            path.unlink(missing_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free < content.size:
            raise FolderError(f"Only {free // 2**20} MB are free in {self.folder}; free up some space there.")


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FolderError(f"{folder} cannot be used ({error.strerror}); free up space or check the disk.") from error
