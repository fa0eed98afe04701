"""A wish to stop, from SIGTERM or Ctrl+C, that a loop can look at between two steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ovi_studio.core.signals import ending_signals


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl+C set; the second one ends the process as it always does."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    before = {kind: signal.getsignal(kind) for kind in ending_signals()}

    def request(kind: int, frame: object) -> None:
        stopping.set()
        signal.signal(kind, before[kind])

    for kind in before:
        signal.signal(kind, request)
    try:
        yield stopping
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
