"""The farm process: sees the machines of the cluster and runs an engine for each of their seats.

Actors that are free claim the next job that they can make, so nothing is dealt out, and a slow machine delays nobody.
The process has a name and a lock in the store like an engine, and a supervisor starts it again when it ends. If Ray's
head ends, so does this process; the next one starts another head, and the machines join that.
"""

import json
import logging
import threading
import time
from collections.abc import Sequence

import ray

from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.core.errors import JobError
from ovi_studio.farm.actor import ActorSetup
from ovi_studio.farm.cluster import dashboard_address
from ovi_studio.farm.executor import SILENCE_SECONDS, ActorExecutor
from ovi_studio.farm.machine import Machine
from ovi_studio.farm.roster import (
    MachineState,
    MachineStatus,
    Order,
    dashboard,
    orders,
    publish,
    publish_dashboard,
    resumptions,
    waiting_notice,
)
from ovi_studio.farm.seat_engine import BACK_OFF_SECONDS, SeatEngine
from ovi_studio.farm.seats import Seat, seats
from ovi_studio.queue.locks import is_held
from ovi_studio.queue.model import EngineState
from ovi_studio.queue.recovery import recover_dead_engines
from ovi_studio.queue.work import EngineSession

TICK_SECONDS = 0.5
NOTICE_SECONDS = 30.0
"""How long jobs wait for a machine that makes nothing before people are told; machines that join need some time."""
_END_SECONDS = 20.0
"""How long machines may take to write clips that are nearly done when the process ends."""
_ABANDON_SECONDS = 5.0
"""How long engines may take to give up after that; both are less than a supervisor's patience."""

log = logging.getLogger(__name__)


class Dispatcher:
    """Runs the engines of all machines; the process is connected to the cluster."""

    def __init__(
        self,
        work: EngineSession,
        setup: ActorSetup,
        head: Machine,
        adapters: AdapterLibrary,
        stop: threading.Event,
        *,
        supervised: bool = False,
        back_off: Sequence[float] = BACK_OFF_SECONDS,
        silence: float = SILENCE_SECONDS,
        notice_after: float = NOTICE_SECONDS,
    ) -> None:
        self._work = work
        self._database = work.database
        self._setup = setup
        self._head = head
        self._adapters = adapters
        self._stop = stop
        self._supervised = supervised
        self._back_off = back_off
        self._silence = silence
        self._notice_after = notice_after
        self._engines: dict[Seat, SeatEngine] = {}
        self._published = ""
        self._dashboard = dashboard(work.database)
        self._resumed = resumptions(work.database)
        self._missing: dict[str, float] = {}
        """Since when, by a monotonic clock, jobs wait for a variant that nobody makes."""
        self._told: set[str] = set()
        """Those of them that people know of."""

    def serve(self) -> None:
        """Serve until asked to end."""
        self._work.announce(EngineState.IDLE, None)
        try:
            while not self._stopping():
                self._tick()
                self._stop.wait(TICK_SECONDS)
        finally:
            self._end()

    def _tick(self) -> None:
        present = seats(ray.nodes(), self._engines)
        try:
            self._tend(present)
            recover_dead_engines(self._database, own=self._work.owner)
            self._publish()
            self._publish_dashboard()
            self._tell_who_waits()
        except JobError as error:
            log.warning("The queue is not accessible: %s", error)

    def _tend(self, present: Sequence[Seat]) -> None:
        given = orders(self._database)
        resumed = resumptions(self._database)
        for seat in present:
            engine = self._engines.get(seat)
            if engine is None:
                engine = SeatEngine(seat, self._database, self._new_executor, self._head, self._back_off)
                self._engines[seat] = engine
            if resumed.get(seat.name) != self._resumed.get(seat.name):
                engine.retry()
            order = given.get(seat.name)
            if order is Order.REMOVE:
                engine.end()
            else:
                engine.tend(paused=order is Order.PAUSE, drained=order is Order.DRAIN)
        self._resumed = resumed
        for seat in self._engines.keys() - set(present):
            # An engine that makes a clip notices by itself that the machine is gone, if it really is.
            if self._engines[seat].starting:
                self._engines[seat].end()
            if not self._engines[seat].alive:
                log.info("Machine %s has left.", seat.name)
                del self._engines[seat]

    def _new_executor(self, seat: Seat, stop: threading.Event) -> ActorExecutor:
        return ActorExecutor(seat, self._setup, self._adapters, self._silence, stop)

    def _publish(self) -> None:
        removed = {name for name, order in orders(self._database).items() if order is Order.REMOVE}
        found = [_with_state(engine.status(), removed) for engine in self._engines.values()]
        found.sort(key=lambda machine: machine.name)
        written = json.dumps([(m.name, m.state, m.reason, m.variants, m.free and round(m.free)) for m in found])
        if written != self._published:
            publish(self._database, found)
            self._published = written

    def _publish_dashboard(self) -> None:
        # It starts some seconds after the head.
        if (address := dashboard_address()) != self._dashboard:
            publish_dashboard(self._database, address)
            self._dashboard = address

    def _tell_who_waits(self) -> None:
        """Say once which jobs have waited for a while for a machine that is not there, or makes nothing."""
        found = [engine.status() for engine in self._engines.values()]
        made = {
            name for one in found if one.state in (MachineState.IDLE, MachineState.WORKING) for name in one.variants
        }
        waiting = self._work.waiting_variants()
        now, missing = time.monotonic(), waiting.keys() - made - self._head.variants.keys()
        self._missing = {variant: self._missing.get(variant, now) for variant in missing}
        self._told &= missing
        for variant, since in sorted(self._missing.items()):
            if variant not in self._told and now - since >= self._notice_after:
                self._database.add_notice(waiting_notice(variant, waiting[variant], found))
                self._told.add(variant)

    def _stopping(self) -> bool:
        if self._stop.is_set() or self._work.stop_requested():
            return True
        working = any(engine.status().state is MachineState.WORKING for engine in self._engines.values())
        abandoned = self._supervised and not is_held(self._database.paths.web_lock)
        return abandoned and not working and not self._work.waiting()

    def _end(self) -> None:
        for end, seconds in ((SeatEngine.end, _END_SECONDS), (SeatEngine.abandon, _ABANDON_SECONDS)):
            deadline = time.monotonic() + seconds
            for engine in self._engines.values():
                end(engine)
            for engine in self._engines.values():
                engine.join(max(0.0, deadline - time.monotonic()))
        publish(self._database, [])
        publish_dashboard(self._database, None)


def _with_state(status: MachineStatus, removed: set[str]) -> MachineStatus:
    if status.name in removed and status.state is not MachineState.WORKING:
        return MachineStatus(**{**vars(status), "state": MachineState.REMOVED})
    return status
