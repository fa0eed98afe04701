"""Files that travel by content: what a clip is made from, kept on a machine of the farm under the hash of each file.

A file comes in pieces into a part file and gets its name only if its hash is right, so that one that was damaged on the
way is never used. The cache is bounded: the files that were used longest ago make room. A clip sees its files under the
names that they have on the head, as links to the cache, so that messages and recipes are the same wherever it is made;
a link also outlives the cached file. Imports no torch or ray.
"""

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

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

    name: str
    """What people call it."""
    sha256: str
    size: int
    """Bytes."""

    @classmethod
    def of(cls, path: Path) -> "Content":
        """Return the content of a file; raises `JobError` if it is gone."""
        with _source_errors(path):
            return cls(path.name, file_sha256(path), path.stat().st_size)


def read_pieces(path: Path) -> Iterator[bytes]:
    """Yield a file in pieces, an empty one as well; raises `JobError` if it is gone."""
    with _source_errors(path), path.open("rb") as file:
        yield file.read(PIECE_BYTES)
        while piece := file.read(PIECE_BYTES):
            yield piece


class FileCache:
    """The files of one machine, in one folder, which the processes of all its GPUs share."""

    def __init__(self, folder: Path, bound: int = CACHE_BYTES) -> None:
        self.folder = folder
        self._bound = bound

    def path(self, content: Content) -> Path:
        """Return the path of a file, whether or not it is here."""
        return self.folder / content.sha256

    def lacks(self, contents: Collection[Content]) -> list[Content]:
        """Return those files that must be sent; the others count as used now."""
        missing = []
        for content in contents:
            path = self.path(content)
            try:
                stat = path.stat()
                # The time of access alone: by the other one it is known that a file's hash is still right.
                os.utime(path, ns=(time.time_ns(), stat.st_mtime_ns))
            except OSError:
                missing.append(content)
                continue
            if stat.st_size != content.size:
                missing.append(content)
        return missing

    def append(self, content: Content, offset: int, piece: bytes) -> None:
        """Take a piece of a file, the first at offset 0, each after the one before; the last completes the file.

        Raises `JobError` if the content is not what was announced, `FolderError` if there is no room.
        """
        part = _part(self.path(content))
        with _disk_errors(self.folder):
            if offset == 0:
                self.folder.mkdir(parents=True, exist_ok=True)
                part.unlink(missing_ok=True)
                self._make_room(content)
            with part.open("ab") as file:
                if file.tell() != offset:
                    raise JobError(f"A piece of {content.name} was lost on its way to a machine; queue the job again.")
                file.write(piece)
            if offset + len(piece) >= content.size:
                self._complete(content, part)

    def lay_out(self, files: Mapping[str, Content], folder: Path) -> None:
        """Make a folder in which these files, and no others, have these names (paths with `/`)."""
        with _disk_errors(folder):
            shutil.rmtree(folder, ignore_errors=True)
            for name, content in files.items():
                link = folder / name
                link.parent.mkdir(parents=True, exist_ok=True)
                # Not a symbolic link: the library refuses adapters that lie elsewhere.
                link.hardlink_to(self.path(content))

    def _complete(self, content: Content, part: Path) -> None:
        with part.open("rb") as file:
            arrived = hashlib.file_digest(file, "sha256").hexdigest()
        if arrived != content.sha256:
            part.unlink()
            raise JobError(f"{content.name} was damaged on its way to a machine; queue the job again.")
        part.replace(self.path(content))

    def _make_room(self, content: Content) -> None:
        """Remove the files that were used longest ago until the new one fits below the bound."""
        if content.size > self._bound:
            raise JobError(
                f"{content.name} has {content.size / 2**30:.1f} GiB, too much for the cache of the farm's machines."
            )
        known = self._known()
        total = sum(stat.st_size for _, stat in known)
        for path, stat in sorted(known, key=lambda it: it[1].st_atime_ns):
            if total + content.size <= self._bound:
                break
            if not _is_arriving(path):
                total -= stat.st_size
                path.unlink(missing_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free < content.size:
            raise FolderError(f"Only {free // 2**20} MB are free in {self.folder}; free up some space there.")

    def _known(self) -> list[tuple[Path, os.stat_result]]:
        """Return what is in the folder, without what another process has just renamed or removed."""
        found = []
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append((path, path.stat()))
        return found


def _part(path: Path) -> Path:
    """Return the name under which a file arrives in this process."""
    return part_path(path.with_name(f"{path.name}.{os.getpid()}"))


def _is_arriving(path: Path) -> bool:
    """Whether this is the part of a file that some process receives."""
    match path.suffixes:
        case [process, ".part"]:
            return psutil.pid_exists(int(process[1:]))
    return False


@contextlib.contextmanager
def _source_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise JobError(f"{path.name} cannot be read ({error.strerror}); choose it again.") from error


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FolderError(f"{folder} cannot be used ({error.strerror}); free up space or check the disk.") from error
