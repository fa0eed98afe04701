"""Recovery of the jobs of dead engines.

Whether an engine is dead is determined by its lock, never by a clock: an engine is dead if its lock can be acquired.
The lock is then held until the recovery is complete, so that two processes do not recover the same engine. A job of a
dead engine

- is done if its clip is complete in the library: the engine died between the last rename and the last transaction;
- is cancelled if its cancellation was requested;
- otherwise returns to its position in the queue the first time, and fails the second time, since the job itself may be
  what crashes the engine.

Partially written files of the engine are removed.
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
    "The engine stopped twice on this job, so the job may be the cause: choose other settings or a smaller variant, "
    "and check the engine's log. Retry the job if there was another cause, such as a power cut."
)


def recover_dead_engines(database: Database, *, own: str | None = None, deliberate: bool = False) -> list[str]:
    """Recover the jobs of all dead engines; returns the ids of the jobs.

    Args:
        own: name of the calling engine, if there is one; it is alive.
        deliberate: the engines were killed deliberately, so the attempts do not count.
    """
    recovered = []
    for owner in sorted(_owners(database) - {own}):
        with folder_errors(database.paths.owners):
            database.paths.owners.mkdir(parents=True, exist_ok=True)
            lock = Lock.try_acquire(database.paths.owners / f"{owner}.lock")
        if lock is None:
            continue
        try:
            recovered += _recover(database, owner, deliberate)
        except BaseException:
            lock.release()
            raise
        lock.release(remove=True)
    return recovered


def live_engines(database: Database) -> list[str]:
    """The names of the engines that are alive."""
    alive = []
    for path in sorted(database.paths.owners.glob("*.lock")):
        with folder_errors(path.parent):
            lock = Lock.try_acquire(path)
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


def _recover(database: Database, owner: str, deliberate: bool) -> list[str]:
    """Recover the jobs of one engine; the caller holds its lock."""
    with database.read() as connection:
        jobs = connection.execute(
            "SELECT number, id, attempt, cancel FROM jobs WHERE state = 'running' AND owner = ?", (owner,)
        ).fetchall()
    outcomes = [_outcome(database, job, deliberate) for job in jobs]
    if not jobs and not _is_listed(database, owner):
        return []
    with database.write() as connection:
        for outcome in outcomes:
            connection.execute(
                f"UPDATE jobs SET state = :state, attempt = :attempt, error = :error, clip = :clip, "
                f"made_by = CASE WHEN :state = 'queued' THEN NULL ELSE made_by END, "
                f"finished = CASE WHEN :state = 'queued' THEN NULL ELSE :now END, "
                f"ended = CASE WHEN :state = 'queued' THEN NULL ELSE (SELECT value FROM changes) END, "
                f"{NO_PROGRESS} WHERE number = :number",
                outcome | {"now": time.time()},
            )
        connection.execute("UPDATE engines SET ended = ? WHERE owner = ? AND NOT ended", (FOUND_DEAD, owner))
    return [job["id"] for job in jobs]


def _outcome(database: Database, job: sqlite3.Row, deliberate: bool) -> dict[str, Any]:
    clip = find_clip(database.paths, job["number"], job["id"])
    remove_leftovers(database.paths, job["number"], job["id"])
    attempt = job["attempt"] - deliberate
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
