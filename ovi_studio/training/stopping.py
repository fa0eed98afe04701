"""Stop requests by SIGTERM or Ctrl+C, for a loop to check between two steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ovi_studio.core.signals import ending_signals


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM or Ctrl+C sets; a second signal of the same kind has its usual effect."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    previous = {number: signal.getsignal(number) for number in ending_signals()}

    def request(number: int, frame: object) -> None:
        stopping.set()
        signal.signal(number, previous[signal.Signals(number)])

    for number in previous:
        signal.signal(number, request)
    try:
        yield stopping
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
