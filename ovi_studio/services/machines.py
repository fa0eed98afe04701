"""The engines and machines of a queue, and how fast they are: for estimates, the System tab and `farm status`."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import psutil

from ovi_studio.engine.slot import EngineSlot
from ovi_studio.farm.roster import TAKING, MachineState, MachineStatus, Order, machines, orders
from ovi_studio.queue.database import Database
from ovi_studio.queue.estimates import History, MadeClips, made_clips
from ovi_studio.queue.model import EngineInfo
from ovi_studio.queue.schedule import Maker
from ovi_studio.queue.store import Store

THIS_MACHINE = "This machine"


@dataclass(frozen=True)
class MachineFigures:
    """What people see of an engine on this machine, or of a GPU of another one."""

    slot: str
    """Of its engine; unlike the name, the same whatever else there is."""
    name: str
    elsewhere: bool
    """Whether it is another machine, which takes orders."""
    state: MachineState
    order: Order | None = None
    """What somebody asked of it."""
    card: str = ""
    """Empty if it is not known which one."""
    memory: float = 0.0
    """GiB; 0 if it is not known."""
    free: float | None = None
    """GiB of that."""
    variants: tuple[str, ...] = ()
    """What it makes."""
    clips: int = 0
    """Made by it, as far as they were counted."""
    seconds_per_step: float | None = None
    """Of clips of the kind that it made last, as are the next ones."""
    clips_per_hour: float | None = None
    """While it works."""
    measured: str = ""
    """The variant that these speeds are of."""
    since: float | None = None
    """Seconds since 1970, for display."""
    error: str = ""
    """The last one, or why it makes nothing."""


def machine_figures(
    store: Store, variants: Collection[str], gpus: Mapping[str, tuple[int, int]]
) -> list[MachineFigures]:
    """Return the figures of the engines of this machine, and then of the others by name.

    Args:
        variants: those that are complete here.
        gpus: used and total bytes of the memory of each GPU here, by its name (`gpu_memory`).
    """
    speeds, given = _Speeds(store.database), orders(store.database)
    here = [engine for engine in reversed(store.engines()) if _is_here(EngineSlot.of(engine.owner))]
    found = [_here(engine, len(here), tuple(variants), gpus, speeds) for engine in here]
    found.sort(key=lambda figures: figures.name)
    return found + [_elsewhere(status, given.get(status.name), speeds) for status in machines(store.database)]


def list_makers(store: Store) -> list[Maker]:
    """Return whoever takes jobs, and when each is free; the engine of this machine if nobody does at present."""
    busy = store.seconds_left()
    taking = {one.name: frozenset(one.variants) for one in machines(store.database) if one.state in TAKING}
    makers = []
    for engine in store.engines():
        slot, left = EngineSlot.of(engine.owner), busy.get(engine.owner, 0.0)
        if slot.elsewhere:
            # One that takes no other job still ends its current one.
            makers.append(Maker(slot.name, taking.get(slot.title, frozenset()), left))
        elif slot.makes_clips:
            makers.append(Maker(slot.name, None, left))
    return makers if any(maker.variants != frozenset() for maker in makers) else [*makers, Maker()]


def format_figures(found: Collection[MachineFigures]) -> str:
    """Return the table that `farm status` prints."""
    head = ("machine", "card", "GiB", "free", "state", "makes", "clips", "an hour", "s a step", "error")
    rows = [head, *(_cells(one) for one in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _cells(one: MachineFigures) -> tuple[str, ...]:
    return (
        one.name,
        one.card,
        f"{one.memory:.0f}" if one.memory else "",
        "" if one.free is None else f"{one.free:.1f}",
        f"{one.state} ({one.order})" if one.order and one.state is not MachineState.REMOVED else str(one.state),
        ", ".join(one.variants),
        str(one.clips),
        "" if one.clips_per_hour is None else f"{one.clips_per_hour:.1f}",
        "" if one.seconds_per_step is None else f"{one.seconds_per_step:.2f}",
        one.error,
    )


class _Speeds:
    """How fast engines made clips of the kind that they made last."""

    def __init__(self, database: Database) -> None:
        self._history = History(database)
        self._made = made_clips(database)

    def of(self, slot: EngineSlot) -> dict[str, Any]:
        """Return the figures of an engine's speed."""
        made = self._made.get(slot.name, MadeClips())
        times = None if made.latest is None else self._history.phase_times(made.latest, slot.name)
        if made.latest is None or times is None:
            return {"clips": made.clips}
        seconds = times.seconds(made.latest.steps)
        return {
            "clips": made.clips,
            "seconds_per_step": times.step,
            "clips_per_hour": 3600 / seconds if seconds else None,
            "measured": made.latest.variant,
        }


def _is_here(slot: EngineSlot) -> bool:
    return slot.makes_clips and not slot.elsewhere


def _here(
    engine: EngineInfo,
    engines: int,
    variants: tuple[str, ...],
    gpus: Mapping[str, tuple[int, int]],
    speeds: _Speeds,
) -> MachineFigures:
    slot = EngineSlot.of(engine.owner)
    card, used, total = "", 0, 0
    if not gpus:
        memory = psutil.virtual_memory()
        card, used, total = "CPU", memory.total - memory.available, memory.total
    elif len(gpus) == engines and slot.number < engines:
        # Otherwise an engine may have several GPUs, or not these.
        name = list(gpus)[slot.number]
        card, (used, total) = name.partition(": ")[2] or name, gpus[name]
    return MachineFigures(
        slot=slot.name,
        name=slot.title if engines > 1 else THIS_MACHINE,
        elsewhere=False,
        state=MachineState(engine.state),
        card=card,
        memory=total / 2**30,
        free=(total - used) / 2**30 if total else None,
        variants=variants,
        since=engine.started,
        **speeds.of(slot),
    )


def _elsewhere(status: MachineStatus, order: Order | None, speeds: _Speeds) -> MachineFigures:
    slot = EngineSlot.of_machine(status.name)
    return MachineFigures(
        slot=slot.name,
        name=status.name,
        elsewhere=True,
        state=status.state,
        order=order,
        card=status.card,
        memory=status.memory,
        free=status.free,
        variants=status.variants,
        since=status.since or None,
        error=status.reason,
        **speeds.of(slot),
    )
