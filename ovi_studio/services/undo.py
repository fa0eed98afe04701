"""Taking back what was just done: an `UndoLog` keeps for a short time how to reverse the latest acts of each session.

A session is one open page, so that nobody takes back what another one did. Kept in memory only: what must survive a
restart, such as a deleted job, is kept by the service that can restore it. Thread-safe.
"""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ovi_studio.core.errors import JobError

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


class UndoLog:
    """The acts that can still be taken back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}

    def offer(self, session: str, label: str, undo: Callable[[], None]) -> UndoOffer:
        """Remember how to reverse an act; `undo` runs at most once, and may raise `JobError` with advice."""
        offer = UndoOffer(secrets.token_urlsafe(12), label)
        with self._lock:
            self._forget_old()
            if len(self._kept) >= MAX_OFFERS:
                del self._kept[next(iter(self._kept))]
            self._kept[offer.id] = _Kept(session, offer, undo, self._clock())
        return offer

    def undo(self, session: str, offer: str) -> UndoOffer:
        """Reverse the act of an offer; raises `JobError` if it is too late, or the act can no longer be reversed."""
        with self._lock:
            self._forget_old()
            kept = self._kept.get(offer)
            if kept is None or kept.session != session:
                raise JobError("It is too late to undo this.")
            del self._kept[offer]
        kept.undo()
        return kept.offer

    def _forget_old(self) -> None:
        oldest = self._clock() - KEPT_SECONDS
        for name in [name for name, kept in self._kept.items() if kept.made < oldest]:
            del self._kept[name]
