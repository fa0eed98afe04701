"""`PeerWatchdog`: ends this process within a second when another rank or the launcher is gone.

Without it the others would wait for a dead rank in a collective, some kinds of them until their timeout of minutes, and
ranks whose launcher was killed would go on for nobody. A thread, because the main thread is in that collective.
"""

import logging
import os
import threading
from collections.abc import Callable, Sequence

import psutil

POLL_SECONDS = 0.3
LOST = 1
"""Exit status."""

log = logging.getLogger(__name__)


class PeerWatchdog:
    """Begins when it is made.

    Args:
        ranks: process ids of all ranks, on this machine.
    """

    def __init__(self, ranks: Sequence[int]) -> None:
        self.on_peer_loss: Callable[[], None] | None = None
        """Called before this process ends, in the watchdog's thread."""
        self._others = [pid for pid in ranks if pid != os.getpid()]
        self._launcher = os.getppid()
        self._over = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def end(self) -> None:
        """From now on others may leave."""
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            gone = [pid for pid in self._others if not psutil.pid_exists(pid)]
            if not gone and os.getppid() == self._launcher:
                continue
            # They may be leaving in order, and this process with them in a moment.
            if self._over.wait(POLL_SECONDS):
                return
            log.error("Process %s is gone; without it this rank cannot go on.", gone[0] if gone else self._launcher)
            try:
                if self.on_peer_loss is not None:
                    self.on_peer_loss()
            finally:
                os._exit(LOST)
