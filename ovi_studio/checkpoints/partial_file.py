"""`PartialFile`: a file that is being downloaded, and the SHA-256 of its content so far."""

import hashlib
import os
from pathlib import Path

from ovi_studio.checkpoints.disk import writing
from ovi_studio.checkpoints.meter import Meter


class PartialFile:
    """Appends to the file at `path`, which may exist from an earlier download. Methods raise `JobError`."""

    def __init__(self, path: Path, meter: Meter) -> None:
        self._path = path
        self.meter = meter
        with writing(self._path):
            self._file = self._path.open("a+b")
            self._file.seek(0)
            self._digest = hashlib.file_digest(self._file, "sha256")
            self.size = self._file.tell()

    @property
    def digest(self) -> str:
        """SHA-256 of the content, in hex."""
        return self._digest.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Append bytes and count them."""
        with writing(self._path):
            self._file.write(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)
        self.meter.add(len(chunk))

    def flush(self) -> None:
        """Let other readers of the file see what was written."""
        with writing(self._path):
            self._file.flush()

    def restart(self) -> None:
        """Discard the content."""
        with writing(self._path):
            self._file.truncate(0)
        self._digest = hashlib.sha256()
        self.meter.add(-self.size)
        self.size = 0

    def close(self) -> None:
        """Flush the file to disk, since it is about to be renamed to its final name."""
        with writing(self._path), self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
