"""When the queue will be done: the pull schedule, in which whoever is free takes the next job that it can make.

Every engine makes clips at its own measured speed. One that made none of a kind yet is expected to be as fast as the
median of those that did. Jobs of a kind count as if they came one after the other, which moves the end of the queue by
at most a clip.
"""

import heapq
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ovi_studio.core.improvement import Improvement
from ovi_studio.core.spec import ClipSpec
from ovi_studio.queue.database import Database
from ovi_studio.queue.estimates import ClipKind, History
from ovi_studio.queue.model import FIRST_ENGINE

_HALVINGS = 60
_LEAST_SECONDS = 1e-3


@dataclass(frozen=True)
class Maker:
    """An engine that takes jobs, here or on another machine."""

    name: str = FIRST_ENGINE
    """Its slot."""
    variants: frozenset[str] | None = None
    """What it can make; None for an engine of this machine: what this machine made before, and improvements."""
    busy: float = 0.0
    """Seconds until it has ended its current job."""


@dataclass(frozen=True)
class QueueEstimate:
    """Seconds until all jobs whose kind was measured before have ended, and the number of the others."""

    seconds: float
    unmeasured: int


@dataclass(frozen=True)
class _Group:
    """Waiting jobs of a kind."""

    jobs: int
    kind: ClipKind
    improvement: Improvement | None
    pixels: float
    """Of one job."""


def estimate_queue(database: Database, makers: Sequence[Maker] = (Maker(),)) -> QueueEstimate:
    """Estimate when the last waiting or running job ends."""
    history = History(database)
    free = [maker.busy for maker in makers]
    unmeasured = 0
    for group in _groups(database):
        seconds = _seconds(history, makers, group)
        if seconds:
            _pull(free, seconds, group.jobs)
        else:
            unmeasured += group.jobs
    return QueueEstimate(max(free, default=0.0), unmeasured)


def estimate_clip(
    database: Database, spec: ClipSpec, makers: Sequence[Maker] = (Maker(),), count: int = 1
) -> float | None:
    """Estimate the seconds for clips of a kind alone, without loading models; None if none of it was made before."""
    seconds = _seconds(History(database), makers, _Group(count, ClipKind.of(spec), None, 0))
    free = [0.0] * len(makers)
    _pull(free, seconds, count)
    return max(free) if seconds else None


def _groups(database: Database) -> list[_Group]:
    with database.read() as connection:
        rows = connection.execute(
            "SELECT variant, guided, step_cache, improvement, draws, draw_steps, steps, COUNT(*) AS jobs, "
            "SUM(pixels) AS pixels FROM jobs WHERE state = 'queued' "
            "GROUP BY priority, variant, guided, step_cache, improvement, draws, draw_steps, steps "
            "ORDER BY priority DESC, MIN(position)"
        ).fetchall()
    return [
        _Group(
            row["jobs"],
            ClipKind(
                row["variant"],
                bool(row["guided"]),
                row["step_cache"],
                row["steps"],
                row["draws"],
                row["draw_steps"],
            ),
            None if row["improvement"] is None else Improvement.from_dict(json.loads(row["improvement"])),
            (row["pixels"] or 0) / row["jobs"],
        )
        for row in rows
    ]


def _seconds(history: History, makers: Sequence[Maker], group: _Group) -> dict[int, float]:
    """Return what a job takes each maker that can make it, by its index; empty if nobody made one before."""
    here = [index for index, maker in enumerate(makers) if maker.variants is None]
    if group.improvement is not None:
        taken = history.improvement(group.improvement, group.pixels)
        return {} if taken is None else dict.fromkeys(here, taken)
    measured = {
        index: taken
        for index, maker in enumerate(makers)
        if (maker.variants is None or group.kind.variant in maker.variants)
        and (taken := history.seconds(group.kind, maker.name)) is not None
    }
    if not measured or group.kind.draws is not None:  # first frames are only drawn on this machine
        return {index: taken for index, taken in measured.items() if index in here}
    able = {index for index, maker in enumerate(makers) if maker.variants and group.kind.variant in maker.variants}
    able |= {index for index in here if measured.keys() & here}
    return dict.fromkeys(able, statistics.median(measured.values())) | measured


def _pull(free: list[float], seconds: dict[int, float], jobs: int) -> None:
    """Let makers take jobs of a kind, each when it is free; `free` is when, by maker, and is moved on.

    The first jobs, up to the last few, are handed out at once, since there may be ten thousand.
    """

    def taken(maker: int, until: float) -> int:
        """Return how many jobs a maker begins until then."""
        return math.floor((until - free[maker]) / seconds[maker]) + 1 if until >= free[maker] else 0

    if not seconds:
        return
    seconds = {maker: max(one, _LEAST_SECONDS) for maker, one in seconds.items()}
    low = min(free[maker] for maker in seconds)
    high = low + jobs * min(seconds.values()) + max(seconds.values())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if sum(taken(maker, middle) for maker in seconds) <= jobs:
            low = middle
        else:
            high = middle
    counts = {maker: taken(maker, low) for maker in seconds}
    if sum(counts.values()) > jobs:
        counts = dict.fromkeys(seconds, 0)
    for maker, count in counts.items():
        free[maker] += count * seconds[maker]
    waiting = [(free[maker], maker) for maker in seconds]
    heapq.heapify(waiting)
    for _ in range(jobs - sum(counts.values())):
        moment, maker = waiting[0]
        free[maker] = moment + seconds[maker]
        heapq.heapreplace(waiting, (free[maker], maker))
