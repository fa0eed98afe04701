"""Taking back what was just done: an `UndoLog` keeps for a short time how to reverse the latest acts of each session.

A session is one open page, so that nobody takes back what another one did. Kept in memory only: what must survive a
restart, such as a deleted job, is kept by the service that can restore it. What cannot be reversed, such as deleting
files, is done when it can no longer be taken back; if the program ends before, it is not done. Thread-safe.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ovi_studio.core.errors import JobError

log = logging.getLogger(__name__)

OFFERED_SECONDS = 10
"""How long a page offers to take an act back."""
KEPT_SECONDS = 60.0
"""How long an offer is kept: a page goes on offering while the pointer rests on it, and may answer late."""
MAX_OFFERS = 500
"""For all sessions together; the oldest is forgotten first."""


@dataclass(frozen=True)
class UndoOffer:
    """What a page needs to offer that an act be taken back."""

    id: str
    label: str
    """A sentence about what was done, such as `3 jobs were cancelled.`"""


@dataclass(frozen=True)
class _Kept:
    session: str
    offer: UndoOffer
    undo: Callable[[], None]
    made: float
    timer: threading.Timer | None = None


class UndoLog:
    """The acts that can still be taken back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, kept_seconds: float = KEPT_SECONDS) -> None:
        self._clock = clock
        self._kept_seconds = kept_seconds
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}

    def offer(
        self, session: str, label: str, undo: Callable[[], None], finish: Callable[[], None] | None = None
    ) -> UndoOffer:
        """Remember how to reverse an act.

        Args:
            undo: runs at most once, and may raise `JobError` with advice.
            finish: runs, in a thread of its own, when `undo` no longer can.
        """
        offer = UndoOffer(secrets.token_urlsafe(12), label)
        timer = None
        if finish is not None:
            timer = threading.Timer(self._kept_seconds, self._finish, (offer.id, finish))
            timer.daemon = True
        with self._lock:
            self._forget_old()
            if len(self._kept) >= MAX_OFFERS:
                self._forget_oldest()
            self._kept[offer.id] = _Kept(session, offer, undo, self._clock(), timer)
        if timer is not None:
            timer.start()
        return offer

    def undo(self, session: str, offer: str) -> UndoOffer:
        """Reverse the act of an offer; raises `JobError` if it is too late, or the act can no longer be reversed."""
        with self._lock:
            self._forget_old()
            kept = self._kept.get(offer)
            if kept is None or kept.session != session:
                raise JobError("It is too late to undo this.")
            del self._kept[offer]
        if kept.timer is not None:
            kept.timer.cancel()
        kept.undo()
        return kept.offer

    def close(self) -> None:
        """Forget all offers; what waits to be finished is not done."""
        with self._lock:
            for kept in self._kept.values():
                if kept.timer is not None:
                    kept.timer.cancel()
            self._kept.clear()

    def _finish(self, offer: str, finish: Callable[[], None]) -> None:
        with self._lock:
            if self._kept.pop(offer, None) is None:
                return
        try:
            finish()
        except JobError as error:
            log.warning("%s", error)

    def _forget_old(self) -> None:
        oldest = self._clock() - self._kept_seconds
        for name in [name for name, kept in self._kept.items() if kept.made < oldest and kept.timer is None]:
            del self._kept[name]

    def _forget_oldest(self) -> None:
        """Forget an offer before its time; one that waits to be finished stays until then."""
        name = next((name for name, kept in self._kept.items() if kept.timer is None), None)
        if name is not None:
            del self._kept[name]
