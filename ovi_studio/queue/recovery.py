"""What happens to the jobs of an engine that is gone.

Whether it is gone is asked of the operating system, never of a clock: its lock can be taken. Who takes it keeps it
until everything is put right, so that two who notice at once do not do it twice. A job of a dead engine

- is done if its clip is complete in the library: the engine died between the last rename and the last transaction;
- is cancelled if it was to be;
- goes back to its place in the queue the first time, and the second time has failed: it may be what stops engines.

What the engine left half-written is removed.
"""

import sqlite3
import time
from typing import Any

from ovi_studio.media.small_files import folder_errors
from ovi_studio.queue.database import Database
from ovi_studio.queue.files import find_clip, remove_leftovers
from ovi_studio.queue.locks import Lock
from ovi_studio.queue.model import JobState
from ovi_studio.queue.rows import NO_PROGRESS
from ovi_studio.queue.work import FOUND_DEAD

MAX_ATTEMPTS = 2
STOPPED_TWICE = (
    "The engine stopped twice on this job, so it may be what stops it: choose other settings or a smaller variant, and "
    "look into the engine's log. Retry it if the cause lay elsewhere, such as a power cut."
)


def recover_dead(database: Database, *, own: str | None = None, blameless: bool = False) -> list[str]:
    """Put the jobs of all engines right that are dead; returns the ids of the jobs.

    Args:
        own: name of the engine that asks, if one does; it is alive.
        blameless: the engines were killed on purpose, so that the attempts do not count.
    """
    recovered = []
    for owner in sorted(_owners(database) - {own}):
        with folder_errors(database.paths.owners):
            database.paths.owners.mkdir(parents=True, exist_ok=True)
            lock = Lock.take(database.paths.owners / f"{owner}.lock")
        if lock is None:
            continue
        try:
            recovered += _recover(database, owner, blameless)
        except BaseException:
            lock.release()
            raise
        lock.release(remove=True)
    return recovered


def living_engines(database: Database) -> list[str]:
    """The names of the engines that are alive."""
    alive = []
    for path in sorted(database.paths.owners.glob("*.lock")):
        with folder_errors(path.parent):
            lock = Lock.take(path)
        if lock is None:
            alive.append(path.stem)
        else:
            lock.release()
    return alive


def _owners(database: Database) -> set[str]:
    with database.read() as connection:
        rows = connection.execute(
            "SELECT owner FROM engines WHERE NOT ended UNION SELECT owner FROM jobs WHERE state = 'running'"
        ).fetchall()
    return {row["owner"] for row in rows} | {path.stem for path in database.paths.owners.glob("*.lock")}


def _recover(database: Database, owner: str, blameless: bool) -> list[str]:
    """With the owner's lock in hand."""
    with database.read() as connection:
        jobs = connection.execute(
            "SELECT number, id, attempt, cancel FROM jobs WHERE state = 'running' AND owner = ?", (owner,)
        ).fetchall()
    outcomes = [_outcome(database, job, blameless) for job in jobs]
    if not jobs and not _is_listed(database, owner):
        return []
    with database.write() as connection:
        for outcome in outcomes:
            connection.execute(
                f"UPDATE jobs SET state = :state, attempt = :attempt, error = :error, clip = :clip, "
                f"finished = CASE WHEN :state = 'queued' THEN NULL ELSE :now END, "
                f"ended = CASE WHEN :state = 'queued' THEN NULL ELSE (SELECT value FROM changes) END, "
                f"{NO_PROGRESS} WHERE number = :number",
                outcome | {"now": time.time()},
            )
        connection.execute("UPDATE engines SET ended = ? WHERE owner = ? AND NOT ended", (FOUND_DEAD, owner))
    return [job["id"] for job in jobs]


def _outcome(database: Database, job: sqlite3.Row, blameless: bool) -> dict[str, Any]:
    clip = find_clip(database.paths, job["number"], job["id"])
    remove_leftovers(database.paths, job["number"], job["id"])
    attempt = job["attempt"] - blameless
    state, error = JobState.QUEUED, None
    if clip is not None:
        state = JobState.DONE
    elif job["cancel"]:
        state = JobState.CANCELLED
    elif attempt >= MAX_ATTEMPTS:
        state, error = JobState.FAILED, STOPPED_TWICE
    return {
        "number": job["number"],
        "state": state,
        "attempt": attempt,
        "error": error,
        "clip": None if clip is None else clip.name,
    }


def _is_listed(database: Database, owner: str) -> bool:
    with database.read() as connection:
        query = "SELECT 1 FROM engines WHERE owner = ? AND NOT ended"
        return connection.execute(query, (owner,)).fetchone() is not None
