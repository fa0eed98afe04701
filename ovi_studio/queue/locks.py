"""File locks of the operating system: a held lock means that its owner is alive, independent of clocks.

The system releases a lock when its process ends in any way. On POSIX it is `flock`, which belongs to an open file: two
holders in one process exclude each other as well, and descriptors copied by a fork are closed in the child, so that a
helper process which outlives its parent does not keep the lock. On Windows one byte far beyond the end of the file is
locked.
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
    """A held lock; a context manager that releases it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor
        _held.add(self)

    @classmethod
    def try_acquire(cls, path: Path) -> "Lock | None":
        """Lock a file, which is created if it is missing; None if the lock is already held. Raises `OSError`."""
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            if not _try_lock(descriptor):
                os.close(descriptor)
                return None
            # The last holder may have removed the file after it was opened here; a lock on it would protect nothing.
            if _same_file(path, descriptor):
                return cls(path, descriptor)
            os.close(descriptor)

    @classmethod
    def acquire(cls, path: Path, seconds: float) -> "Lock | None":
        """Like `try_acquire`, but keep trying for `seconds`."""
        deadline = time.monotonic() + seconds
        while (lock := cls.try_acquire(path)) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return lock

    def write(self, text: str) -> None:
        """Write a remark for people into the file."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, text.encode())

    def release(self, *, remove: bool = False) -> None:
        """Release the lock, at most once; with `remove`, also delete the file."""
        if self._descriptor is None:
            return
        if remove:
            # Windows cannot remove an open file; then it stays for the next holder.
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
    """Whether the lock is held; False for a missing file."""
    if not path.exists():
        return False
    lock = Lock.try_acquire(path)
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


def _close_in_child() -> None:
    # Closing a copied descriptor does not release the parent's lock.
    for lock in list(_held):
        lock._close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
