"""The machines of the farm as the page and `farm status` show them, and what people ask of them.

Both are settings of the queue's database: the farm process publishes the machines and reads the orders, everybody else
does the opposite. Imports no torch or ray.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from ovi_studio.core.errors import JobError
from ovi_studio.queue.database import Database

_MACHINES = "farm/machines"
_ORDERS = "farm/order/"
_RESUMED = "farm/resumed/"
"""Before the name of a machine, so that nobody overwrites what another asked of another one."""
_DASHBOARD = "farm/dashboard"


class MachineState(StrEnum):
    """What a machine does."""

    STARTING = "starting"
    IDLE = "idle"
    WORKING = "working"
    PAUSED = "paused"
    SET_ASIDE = "set aside"
    """It fails, for the reason that is given; it is tried again later, and when somebody asks for it."""
    REMOVED = "removed"


TAKING = (MachineState.IDLE, MachineState.WORKING)
"""The states of machines that take jobs."""


class Order(StrEnum):
    """What somebody asked of a machine."""

    PAUSE = "pause"
    """Finish the current clip, and take no other."""
    DRAIN = "drain"
    """The same, and then give its memory back."""
    REMOVE = "remove"
    """Give the current job back, and make nothing more."""


@dataclass(frozen=True)
class MachineStatus:
    """One GPU of a machine, or its processor."""

    name: str
    card: str
    memory: float
    """GiB of the GPU, or of the machine without one; 0 until that is known."""
    variants: tuple[str, ...]
    state: MachineState
    reason: str = ""
    """Why it makes nothing, or its last error."""
    since: float = 0.0
    """Seconds since 1970, for display."""
    free: float | None = None
    """GiB of the memory that are free; None if that is not known."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "MachineStatus":
        """From what `publish` wrote."""
        return cls(**{**values, "variants": tuple(values["variants"]), "state": MachineState(values["state"])})


def publish(database: Database, machines: list[MachineStatus]) -> None:
    """Replace the list of machines."""
    database.put_setting(_MACHINES, [asdict(machine) for machine in machines])


def machines(database: Database) -> list[MachineStatus]:
    """Return the machines as they were published last."""
    return [MachineStatus.from_json(values) for values in database.setting(_MACHINES, [])]


def makeable(database: Database) -> set[str]:
    """Return the variants that some machine can make."""
    return {variant for machine in machines(database) for variant in machine.variants}


def orders(database: Database) -> dict[str, Order]:
    """Return what was asked of machines, by name."""
    return {name: Order(order) for name, order in _by_machine(database, _ORDERS).items() if order is not None}


def give_order(database: Database, name: str, order: Order | None) -> None:
    """Ask something of a machine; None: to make clips again. Raises `JobError` if there is no such machine."""
    known = {machine.name for machine in machines(database)}
    if name not in known:
        raise JobError(
            f"There is no machine {name}; there {'are ' + ', '.join(sorted(known)) if known else 'is none'}."
        )
    values: dict[str, Any] = {_ORDERS + name: order}
    if order is None:
        values[_RESUMED + name] = resumptions(database).get(name, 0) + 1
    database.put_settings(values)


def dashboard(database: Database) -> str | None:
    """Return the address of Ray's dashboard; None if it does not run."""
    return database.setting(_DASHBOARD)


def publish_dashboard(database: Database, address: str | None) -> None:
    """Say where Ray's dashboard runs."""
    database.put_setting(_DASHBOARD, address)


def waiting_notice(variant: str, jobs: int, found: list[MachineStatus]) -> str:
    """Return the notice for jobs whose variant no machine makes at present."""
    having = [f"{machine.name} is {machine.state}" for machine in found if variant in machine.variants]
    who = ", ".join(having) or "no machine has it at present"
    count = "A job waits" if jobs == 1 else f"{jobs} jobs wait"
    return f"{count} for a machine that can make {variant}: {who}."


def resumptions(database: Database) -> dict[str, int]:
    """Return how often a machine was asked to make clips again, by name; one that was set aside is then tried."""
    return _by_machine(database, _RESUMED)


def _by_machine(database: Database, prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): json.loads(value) for name, value in database.settings(prefix).items()}
