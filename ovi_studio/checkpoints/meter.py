"""Progress and speed of a download, summed over all files and reported a few times per second."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

REPORT_INTERVAL = 0.2
"""Minimum seconds between two reports."""
_WAIT_STEP = 0.2
_SPEED_WINDOW = 5.0
"""Seconds over which the speed is averaged."""


@dataclass(frozen=True)
class DownloadProgress:
    """The progress of a download."""

    file: str
    """The current file."""
    done: int
    """Bytes of all files, including those from earlier downloads."""
    total: int
    """Bytes of all files."""
    speed: float
    """Bytes per second, averaged over the last seconds."""


class Meter:
    """Counts the bytes that arrive and reports them.

    Args:
        total: bytes of all files.
        done: bytes that were present before.
    """

    def __init__(self, report: Callable[[DownloadProgress], None], total: int, done: int) -> None:
        self._report = report
        self._total = total
        self._done = done
        self._before = 0
        self._file = ""
        self._reported = 0.0
        self._arrived: deque[tuple[float, int]] = deque()

    def begin(self, name: str, already: int) -> None:
        """Start the next file, of which `already` bytes are present."""
        self._file = name
        self._before = self._done - already
        self._send(time.monotonic())

    def add(self, count: int) -> None:
        """Count bytes that have arrived, or, if negative, were discarded."""
        now = time.monotonic()
        self._done += count
        self._arrived.append((now, count))
        if now - self._reported >= REPORT_INTERVAL:
            self._send(now)

    def wait(self, seconds: float) -> None:
        """Wait, and report all the while, so that whoever watches can stop the download."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            self._send(now)
            time.sleep(min(_WAIT_STEP, end - now))

    def end(self, size: int) -> None:
        """Finish the current file."""
        self._done = self._before + size
        self._send(time.monotonic())

    def _send(self, now: float) -> None:
        while self._arrived and now - self._arrived[0][0] > _SPEED_WINDOW:
            self._arrived.popleft()
        # The first entry marks the start of the window, so its own bytes do not count.
        begin, first = self._arrived[0] if self._arrived else (now, 0)
        amount = sum(count for _, count in self._arrived) - first
        speed = amount / (now - begin) if now > begin else 0.0
        self._reported = now
        self._report(DownloadProgress(self._file, self._done, self._total, max(speed, 0.0)))
