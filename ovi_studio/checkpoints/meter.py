"""How far a download is and how fast: what arrives is added up over all files and reported some times a second."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

REPORT_INTERVAL = 0.2
"""Seconds between two reports, at least."""
_SPEED_WINDOW = 5.0
"""Seconds over which the speed is taken."""


@dataclass(frozen=True)
class DownloadProgress:
    """Where a download stands; `done` counts what was here before, `speed` is bytes a second over the last seconds."""

    file: str
    done: int
    total: int
    speed: float


class Meter:
    """Adds up what arrives and reports it.

    Args:
        total: bytes of all files.
        done: bytes of them that were here before.
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
        """The next file, of which so many bytes are here."""
        self._file = name
        self._before = self._done - already
        self._send(time.monotonic())

    def add(self, count: int) -> None:
        """Bytes have arrived, or, below zero, turned out to be none."""
        now = time.monotonic()
        self._done += count
        self._arrived.append((now, count))
        if now - self._reported >= REPORT_INTERVAL:
            self._send(now)

    def end(self, size: int) -> None:
        """The file is whole."""
        self._done = self._before + size
        self._send(time.monotonic())

    def _send(self, now: float) -> None:
        while self._arrived and now - self._arrived[0][0] > _SPEED_WINDOW:
            self._arrived.popleft()
        # The first entry marks where the window begins, so its own bytes do not count.
        begin, first = self._arrived[0] if self._arrived else (now, 0)
        amount = sum(count for _, count in self._arrived) - first
        speed = amount / (now - begin) if now > begin else 0.0
        self._reported = now
        self._report(DownloadProgress(self._file, self._done, self._total, max(speed, 0.0)))
