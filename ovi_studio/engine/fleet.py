"""`Fleet`: one engine per GPU, all taking jobs from the same queue, for more clips per hour.

It has the interface of a `Supervisor` and consists of several. The engines know nothing of each other: the queue gives
each job to only one of them. The first supervisor holds the lock that keeps other web processes away from the database,
so it starts first and stops last. Imports no torch.
"""

import os
import threading
from collections.abc import Sequence

from ovi_studio.core.errors import JobError
from ovi_studio.engine.slot import EngineSlot
from ovi_studio.engine.supervisor import BACK_OFF_SECONDS, PATIENCE_SECONDS, Condition, Supervision, Supervisor
from ovi_studio.queue.store import Store

MAX_ENGINES = 64
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_WORST_FIRST = (Condition.DOWN, Condition.WAITING, Condition.STARTING, Condition.RUNNING, Condition.STOPPED)


def slots(count: int, visible: str | None) -> list[EngineSlot]:
    """Return a slot for each of `count` GPUs.

    Args:
        visible: the GPUs that this process may use (`CUDA_VISIBLE_DEVICES`); None: all.

    Raises `JobError` if there are fewer than `count`.
    """
    if not 1 <= count <= MAX_ENGINES:
        raise JobError(f"The number of engines must be from 1 to {MAX_ENGINES}, not {count}.")
    if count == 1:
        return [EngineSlot()]
    devices = (
        [str(index) for index in range(count)] if visible is None else [d for d in visible.split(",") if d.strip()]
    )
    if len(devices) < count:
        raise JobError(f"{count} engines need {count} GPUs, but {_VISIBLE} names {len(devices)}; start fewer engines.")
    return [EngineSlot.numbered(number, {_VISIBLE: devices[number]}) for number in range(count)]


class Fleet:
    """Supervises an engine in every slot, and the process that looks after other machines; `start`, then `stop`.

    Args:
        farm_command: starts that process; None: there are no other machines.
    """

    def __init__(
        self,
        store: Store,
        command: Sequence[str],
        engines: int,
        *,
        farm_command: Sequence[str] | None = None,
        back_off: Sequence[float] = BACK_OFF_SECONDS,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._supervisors = [
            Supervisor(store, command, back_off=back_off, patience=patience, slot=slot)
            for slot in slots(engines, os.environ.get(_VISIBLE))
        ]
        self.leads_machines = farm_command is not None
        """Whether other machines may join."""
        if farm_command is not None:
            farm = Supervisor(store, farm_command, back_off=back_off, patience=patience, slot=EngineSlot.of_farm())
            self._supervisors.append(farm)

    def start(self) -> None:
        """Start all engines; raises `JobError` if another web process serves this database."""
        for supervisor in self._supervisors:
            supervisor.start()

    def stop(self) -> None:
        """End all engines cleanly, at the same time."""
        first, *others = self._supervisors
        # In parallel, since their patience would add up. The first one holds the lock and must keep it to the end.
        threads = [threading.Thread(target=supervisor.stop) for supervisor in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        first.stop()

    def restart(self) -> None:
        """Restart every engine after its current step."""
        for supervisor in self._supervisors:
            supervisor.restart()

    def status(self) -> Supervision:
        """Return the supervision of the engine in the worst condition."""
        return min((one.status() for one in self._supervisors), key=lambda it: _WORST_FIRST.index(it.condition))
