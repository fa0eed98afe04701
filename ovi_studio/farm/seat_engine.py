"""`SeatEngine`: the thread that runs an engine for a seat of the cluster.

The engine is that of `engine.loop`, with a name of its own in the store and the lock that goes with it. When it ends
with an error, its lock is free and its job is recovered, as if its process had died.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence

from ovi_studio.core.errors import JobError
from ovi_studio.engine.loop import Engine
from ovi_studio.engine.slot import EngineSlot
from ovi_studio.farm.executor import ActorExecutor
from ovi_studio.farm.machine import Machine, differences
from ovi_studio.farm.roster import MachineState, MachineStatus
from ovi_studio.farm.seats import Seat
from ovi_studio.queue.database import Database
from ovi_studio.queue.work import EngineSession

BACK_OFF_SECONDS = (1.0, 5.0, 30.0)
ASIDE_SECONDS = 600.0
"""How long a machine that fails every time is left alone before it is tried again."""

log = logging.getLogger(__name__)


class SeatEngine:
    """Runs engines on a seat, one after the other, until the seat is gone; a new one after each that failed.

    Args:
        new_executor: starts an actor, and ends its waiting at the event; takes minutes if the machine must hash its
            checkpoints.
        head: what the machine must not differ from.
    """

    def __init__(
        self,
        seat: Seat,
        database: Database,
        new_executor: Callable[[Seat, threading.Event], ActorExecutor],
        head: Machine,
        back_off: Sequence[float] = BACK_OFF_SECONDS,
    ) -> None:
        self.seat = seat
        self._database = database
        self._new_executor = new_executor
        self._head = head
        self._back_off = tuple(back_off)
        self._stop = threading.Event()
        self._executor: ActorExecutor | None = None
        self._machine = Machine(seat.name, head.versions)
        self._error = ""
        self._failures = 0
        self._paused = False
        self._retry_at = 0.0
        self._since = time.time()
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        """Whether an engine runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def starting(self) -> bool:
        """Whether an engine runs that does not know its machine yet."""
        return self.alive and self._executor is None

    @property
    def aside(self) -> bool:
        """Whether the machine fails every time."""
        return self._failures >= len(self._back_off)

    def tend(self, *, paused: bool, drained: bool) -> None:
        """Start an engine if there should be one; to be called again and again."""
        self._paused = paused or drained
        executor = self._executor
        if executor is not None:
            executor.taking = not self._paused
        if drained and self.alive and not self._working():
            self._stop.set()
        if not self.alive and not drained and time.monotonic() >= self._retry_at:
            self._stop = threading.Event()
            self._thread = threading.Thread(target=self._serve, name=self.seat.name, daemon=True)
            self._thread.start()

    def retry(self) -> None:
        """Try a machine again that was set aside."""
        self._failures, self._retry_at, self._error = 0, 0.0, ""

    def end(self) -> None:
        """Ask the engine to end; its job goes back to the queue, unless its clip is nearly written."""
        self._stop.set()

    def abandon(self) -> None:
        """End the engine whatever it does; its job goes back to the queue."""
        self._stop.set()
        if (executor := self._executor) is not None:
            executor.abandon()

    def join(self, seconds: float) -> None:
        """Wait until the engine has ended."""
        if self._thread is not None:
            self._thread.join(seconds)

    def status(self) -> MachineStatus:
        """Return the machine as people see it."""
        executor = self._executor
        free, memory = (None if executor is None else executor.memory()) or (None, self._machine.memory)
        return MachineStatus(
            self.seat.name,
            self._machine.card,
            memory,
            tuple(sorted(self._machine.variants)),
            self._state(),
            self._error,
            self._since,
            free,
        )

    def _state(self) -> MachineState:
        if self._working():
            return MachineState.WORKING
        if self._paused:
            return MachineState.PAUSED
        if self.aside and not self.alive:
            return MachineState.SET_ASIDE
        return MachineState.IDLE if self._executor is not None else MachineState.STARTING

    def _working(self) -> bool:
        return self._executor is not None and self._executor.making

    def _serve(self) -> None:
        try:
            self._run()
        except JobError as error:
            self._failed(str(error))
        except Exception as error:
            fault = self._executor.fault if self._executor else None
            if fault is None:
                log.exception("The engine of machine %s ends because of an unexpected error:", self.seat.name)
            self._failed(fault or f"{type(error).__name__}: {error}")
        finally:
            executor, self._executor = self._executor, None
            if executor is not None:
                executor.close()

    def _run(self) -> None:
        executor = self._new_executor(self.seat, self._stop)
        self._executor, self._machine = executor, executor.machine
        executor.taking = not self._paused
        if found := differences(self._head, executor.machine):
            self._failed(" ".join(found), for_good=True)
            return
        log.info("Machine %s (%s) makes %s.", self.seat.name, executor.machine.card, ", ".join(executor.variants()))
        owner = EngineSlot.of_machine(self.seat.name).owner(secrets.token_hex(4))
        with EngineSession(self._database, owner) as work:
            Engine(work, executor, self._stop, patrols=False).serve()

    def _failed(self, reason: str, *, for_good: bool = False) -> None:
        if self._stop.is_set():
            return  # it was told to end, and does
        made = self._executor.made if self._executor else 0
        self._failures = len(self._back_off) if for_good else (1 if made else self._failures + 1)
        self._error = reason
        delay = ASIDE_SECONDS if self.aside else self._back_off[self._failures - 1]
        self._retry_at = time.monotonic() + delay
        log.warning("Machine %s is tried again after %.0f s: %s", self.seat.name, delay, reason)
