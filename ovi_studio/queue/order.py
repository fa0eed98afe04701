"""The order of the queue: positions are floating-point numbers, so that moving a job changes only one row.

The gap between two neighbours can be halved about fifty times; after that, the queue is renumbered.
"""

import json
import sqlite3
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from ovi_studio.core.errors import JobError
from ovi_studio.queue.model import JobState

Side = Literal["before", "after"]


MAX_PRIORITY = 100


def check_priority(priority: int) -> None:
    """Raise `JobError` for a priority that no job may have."""
    if abs(priority) > MAX_PRIORITY:
        raise JobError(f"The priority must be between {-MAX_PRIORITY} and {MAX_PRIORITY}, not {priority}.")


def place(connection: sqlite3.Connection, ids: Sequence[str], anchor: str, side: Side) -> None:
    """Move queued jobs, in the given order, directly before or after `anchor`; they get its priority."""
    moving = [job for job in dict.fromkeys(ids) if job != anchor]
    _require_queued(connection, [anchor, *moving])
    positions = _free_positions(connection, moving, anchor, side)
    if positions is None:
        _renumber(connection)
        positions = _free_positions(connection, moving, anchor, side)
    priority = connection.execute("SELECT priority FROM jobs WHERE id = ?", (anchor,)).fetchone()[0]
    rows = zip(positions or (), moving, strict=True)
    connection.executemany(
        "UPDATE jobs SET priority = ?, position = ? WHERE id = ?",
        [(priority, position, job) for position, job in rows],
    )


def first_waiting(connection: sqlite3.Connection, without: Sequence[str]) -> str | None:
    """The id of the job that runs next, ignoring those in `without`."""
    row = connection.execute(
        "SELECT id FROM jobs WHERE state = 'queued' AND id NOT IN (SELECT value FROM json_each(?)) "
        "ORDER BY priority DESC, position, number LIMIT 1",
        (json.dumps(list(without)),),
    ).fetchone()
    return None if row is None else row["id"]


def last_position(connection: sqlite3.Connection) -> float:
    """The highest position; new jobs are placed after it."""
    return connection.execute("SELECT COALESCE(MAX(position), 0) FROM jobs").fetchone()[0]


def spaced(low: float | None, high: float | None, count: int) -> list[float] | None:
    """`count` increasing numbers between two bounds, either of which may be open; None if there is no room."""
    if low is None:
        first = 0.0 if high is None else high - count
        return [first + index for index in range(count)]
    if high is None:
        return [low + 1 + index for index in range(count)]
    step = (high - low) / (count + 1)
    numbers = [low + step * (index + 1) for index in range(count)]
    bounded = [low, *numbers, high]
    return numbers if all(left < right for left, right in pairwise(bounded)) else None


def _free_positions(
    connection: sqlite3.Connection, moving: Sequence[str], anchor: str, side: Side
) -> list[float] | None:
    at = connection.execute("SELECT priority, position, number FROM jobs WHERE id = ?", (anchor,)).fetchone()
    compare, direction = ("<", "DESC") if side == "before" else (">", "ASC")
    neighbour = connection.execute(
        f"SELECT position FROM jobs WHERE state = 'queued' AND priority = ? AND (position, number) {compare} (?, ?) "
        f"AND id NOT IN (SELECT value FROM json_each(?)) ORDER BY position {direction}, number {direction} LIMIT 1",
        (at["priority"], at["position"], at["number"], json.dumps(list(moving))),
    ).fetchone()
    beyond = None if neighbour is None else neighbour["position"]
    low, high = (beyond, at["position"]) if side == "before" else (at["position"], beyond)
    return spaced(low, high, len(moving))


def _renumber(connection: sqlite3.Connection) -> None:
    connection.execute(
        "UPDATE jobs SET position = ranks.rank FROM (SELECT number, ROW_NUMBER() OVER "
        "(ORDER BY priority DESC, position, number) AS rank FROM jobs WHERE state = 'queued') AS ranks "
        "WHERE jobs.number = ranks.number"
    )


def _require_queued(connection: sqlite3.Connection, ids: Sequence[str]) -> None:
    queued = connection.execute(
        "SELECT COUNT(*) FROM jobs WHERE state = ? AND id IN (SELECT value FROM json_each(?))",
        (JobState.QUEUED, json.dumps(list(ids))),
    ).fetchone()[0]
    if queued != len(ids):
        raise JobError("Only waiting jobs can be moved; one of these is running, has ended or was deleted.")
