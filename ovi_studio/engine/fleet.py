"""`Fleet`: one engine a GPU, each with its own claim on the queue, for a queue that is to be done sooner.

Looks like a supervisor of one engine and is made of several. The engines know nothing of each other: the queue gives a
job to one of them only. The first supervisor holds the lock that keeps other web processes away from the database, so
it comes first and goes last. Imports no torch.
"""

import os
import threading
from collections.abc import Sequence

from ovi_studio.core.errors import JobError
from ovi_studio.engine.slot import EngineSlot
from ovi_studio.engine.supervisor import Condition, Supervision, Supervisor
from ovi_studio.queue.store import Store

MAX_ENGINES = 64
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_FROM_BAD_TO_GOOD = (Condition.DOWN, Condition.WAITING, Condition.STARTING, Condition.RUNNING, Condition.STOPPED)


def slots(count: int, visible: str | None) -> list[EngineSlot]:
    """One for each of `count` GPUs.

    Args:
        visible: what this process may see of the GPUs (`CUDA_VISIBLE_DEVICES`); None: all.

    Raises `JobError` if there are fewer.
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
    """Looks after an engine in every slot; `start`, then `stop`."""

    def __init__(self, store: Store, command: Sequence[str], engines: int, **options: object) -> None:
        places = slots(engines, os.environ.get(_VISIBLE))
        self._supervisors = [Supervisor(store, command, slot=slot, **options) for slot in places]

    def start(self) -> None:
        """Begin; raises `JobError` if another web process serves this database."""
        for supervisor in self._supervisors:
            supervisor.start()

    def stop(self) -> None:
        """End all engines in order, at the same time."""
        first, *others = self._supervisors
        # Else their patience would add up. The first one alone has the lock and must keep it to the end.
        threads = [threading.Thread(target=supervisor.stop) for supervisor in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        first.stop()

    def restart(self) -> None:
        """Let every engine end after its step and start anew."""
        for supervisor in self._supervisors:
            supervisor.restart()

    def status(self) -> Supervision:
        """How it is with the one that is worst off."""
        return min((one.status() for one in self._supervisors), key=lambda it: _FROM_BAD_TO_GOOD.index(it.condition))
