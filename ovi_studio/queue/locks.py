"""Locks of the operating system on files: who holds one lives, whatever the clocks say.

The system frees a lock when its process ends in any way. On POSIX it is `flock`: it belongs to an opened file, so two
holders in one process exclude each other too; copies that a fork made are closed in the child, so that a helper process
which outlives its parent does not look like it. On Windows one byte far behind the file's end is locked.
"""

import contextlib
import os
import sys
import time
import weakref
from pathlib import Path
from types import TracebackType

if sys.platform == "win32":
    import msvcrt

    _FAR = 2**30

    def _try_lock(descriptor: int) -> bool:
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class Lock:
    """A lock that is held; a context manager that frees it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor
        _held.add(self)

    @classmethod
    def take(cls, path: Path) -> "Lock | None":
        """The lock on a file, which is made if it is missing; None if somebody holds it. Raises `OSError`."""
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            if not _try_lock(descriptor):
                os.close(descriptor)
                return None
            # The last holder may have removed the file between the two lines above; then nobody else would see this.
            if _same_file(path, descriptor):
                return cls(path, descriptor)
            os.close(descriptor)

    @classmethod
    def wait(cls, path: Path, seconds: float) -> "Lock | None":
        """As `take`, but asks again for some time."""
        deadline = time.monotonic() + seconds
        while (lock := cls.take(path)) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return lock

    def write(self, text: str) -> None:
        """Leave a note in the file for people."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, text.encode())

    def release(self, *, remove: bool = False) -> None:
        """Free the lock, once; with `remove` the file goes too."""
        if self._descriptor is None:
            return
        if remove:
            # Windows removes no file that is open; then it is left for the next one.
            with contextlib.suppress(OSError):
                self.path.unlink()
        self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "Lock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock; a missing file is held by nobody."""
    if not path.exists():
        return False
    lock = Lock.take(path)
    if lock is None:
        return True
    lock.release()
    return False


def _same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


_held: "weakref.WeakSet[Lock]" = weakref.WeakSet()


def _forget_in_child() -> None:
    # Closing a copy does not free the parent's lock.
    for lock in list(_held):
        lock._close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
