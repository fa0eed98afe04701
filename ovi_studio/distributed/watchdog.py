"""`PeerWatchdog`: ends this process within a second after another rank or the launcher has ended.

Without it the others would wait for a dead rank in a collective, in some collectives until a timeout of minutes, and
ranks whose launcher was killed would keep running. It is a thread, because the main thread may be in a collective.
"""

import logging
import os
import threading
from collections.abc import Callable, Sequence

import psutil

POLL_SECONDS = 0.3
LOST = 1
"""Exit status of a process that has lost a peer."""

log = logging.getLogger(__name__)


class PeerWatchdog:
    """Watches the other ranks and the launcher, from its creation until `end`.

    Args:
        ranks: process ids of all ranks, which are on this machine.
    """

    def __init__(self, ranks: Sequence[int]) -> None:
        self.on_peer_loss: Callable[[], None] | None = None
        """Called before this process ends, in the watchdog's thread."""
        self._others = [pid for pid in ranks if pid != os.getpid()]
        self._launcher = os.getppid()
        self._over = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def end(self) -> None:
        """Stop watching: from now on the others may exit."""
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            gone = [pid for pid in self._others if not psutil.pid_exists(pid)]
            if not gone and os.getppid() == self._launcher:
                continue
            # They may be exiting normally, and so will this process in a moment.
            if self._over.wait(POLL_SECONDS):
                return
            # The launcher says on stderr what has happened.
            log.info("Process %s has ended; this rank cannot continue without it.", gone[0] if gone else self._launcher)
            try:
                if self.on_peer_loss is not None:
                    self.on_peer_loss()
            finally:
                os._exit(LOST)
