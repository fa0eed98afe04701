"""`Store`: the queue from the point of view of the page, the command line and the API.

Every method is one transaction that is on the disk when it returns, and may raise `JobError` with advice. Safe for any
number of threads and processes. Methods that take several ids skip jobs that do not exist or are in another state, and
return the number of changed jobs, since jobs can change between the display and the click.
"""

import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ovi_studio.core.errors import JobError
from ovi_studio.core.grids import Grid
from ovi_studio.core.spec import ClipSpec
from ovi_studio.queue.adding import add_batch, add_improvements, insert_jobs
from ovi_studio.queue.database import Database
from ovi_studio.queue.dependencies import jobs_of
from ovi_studio.queue.model import ENDED, EngineInfo, ImprovementOrder, Job, JobBatch, JobState
from ovi_studio.queue.order import Side, first_waiting, last_position, place
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.pictures import kept_pictures, remove_unused_pictures
from ovi_studio.queue.rows import JOBS, NO_PROGRESS, engine_of, spec_columns
from ovi_studio.queue.schema import SHOWN_ORDER
from ovi_studio.queue.trash import delete, restore

PAUSED = "paused"
"""Name of the setting that stores the pause."""
FALLBACK_LEVEL = "fallback_level"
"""Name of the setting that counts how often several GPUs ran out of memory since the user started the engine."""
_MEMORY_FALLBACK = "retry_in_smaller_tier"
_AS_NEW = (
    "attempt = 0, cancel = 0, error = NULL, note = NULL, started = NULL, finished = NULL, seconds = NULL, "
    f"ended = NULL, made_by = NULL, {NO_PROGRESS}"
)
"""Resets whatever an engine wrote into a job."""
_IN_IDS = "id IN (SELECT value FROM json_each(:ids))"


def memory_fallback_enabled(database: Database) -> bool:
    """Whether a job that runs out of memory is retried with settings that need less; True by default."""
    return bool(database.setting(_MEMORY_FALLBACK, True))


def enable_memory_fallback(database: Database, enabled: bool) -> None:
    """Set `memory_fallback_enabled` for all pages and engines."""
    database.put_setting(_MEMORY_FALLBACK, enabled)


class Store:
    """The queue of one studio."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.paths = database.paths

    @classmethod
    def open(cls, outputs: str | Path, state: str | Path | None = None) -> "Store":
        """Open or create the queue whose clips go to `outputs`. `state`: see `StudioPaths`."""
        return cls(Database(StudioPaths.of(outputs, state)))

    # Adding and changing

    def add(
        self,
        specs: Iterable[ClipSpec],
        name: str = "",
        *,
        priority: int = 0,
        grid: Grid | None = None,
        parents: Sequence[str | int | None] = (),
    ) -> list[str]:
        """Queue clips as one batch, all or none; returns the ids of the jobs, in order.

        First frames are copied, so the original files may be deleted. A batch without a name is named after its first
        prompt.

        Args:
            grid: the axes if the clips are the cells of a grid, row by row.
            parents: for each clip the job with whose last frame it begins, by its id, or by its index in these clips,
                where it must come before; None for a clip of its own. Empty if they all are.
        """
        specs = list(specs)
        if not specs:
            raise JobError("There are no clips to add; write a prompt.")
        if grid is not None and grid.cells != len(specs):
            raise ValueError(f"a grid of {grid.cells} cells has {len(specs)} clips")
        with kept_pictures(self.paths, specs) as kept, self.database.write() as connection:
            return add_batch(connection, self.paths, kept, name, priority=priority, grid=grid, parents=parents)

    def add_improvements(self, orders: Sequence[ImprovementOrder], name: str = "", *, priority: int = 0) -> list[str]:
        """Queue improvements of clips as one batch, all or none; returns the ids of the jobs, in order.

        One of a job that is not done waits for its clip.
        """
        if not orders:
            raise JobError("There are no clips to improve; choose some.")
        with self.database.write() as connection:
            return add_improvements(connection, self.paths, orders, name, priority=priority)

    def duplicate(self, ids: Collection[str]) -> list[str]:
        """Queue copies of jobs at the end, each in the batch of the original; returns the new ids."""
        with self.database.write() as connection:
            found = connection.execute(
                "SELECT batch, priority, spec, variant, steps, guided, parent, parent_clip, improvement, pixels "
                f"FROM jobs WHERE {_IN_IDS} ORDER BY number",
                _ids(ids),
            ).fetchall()
            return insert_jobs(connection, [dict(row) for row in found])

    def edit(self, job_id: str, spec: ClipSpec) -> None:
        """Change the spec of a waiting job; raises `JobError` if it is no longer waiting."""
        with kept_pictures(self.paths, [spec]) as (kept,), self.database.write() as connection:
            changed = connection.execute(
                # A clip with other settings is no cell of a grid.
                "UPDATE jobs SET spec = :spec, variant = :variant, steps = :steps, guided = :guided, cell = NULL, "
                # With a picture of its own it no longer depends on another clip.
                "parent = CASE WHEN :pictured THEN NULL ELSE parent END "
                "WHERE id = :id AND state = 'queued' AND improvement IS NULL",
                {**spec_columns(kept), "id": job_id, "pictured": kept.image is not None},
            ).rowcount
        if not changed:
            raise JobError("Only a waiting job that makes a clip can be changed; duplicate it, or cancel it first.")

    def cancel(self, ids: Collection[str]) -> int:
        """Cancel jobs: waiting ones immediately, running ones at their next step."""
        with self.database.write() as connection:
            running = connection.execute(f"UPDATE jobs SET cancel = 1 WHERE state = 'running' AND {_IN_IDS}", _ids(ids))
            waiting = connection.execute(
                "UPDATE jobs SET state = 'cancelled', finished = :now, ended = (SELECT value FROM changes) "
                f"WHERE state = 'queued' AND {_IN_IDS}",
                _ids(ids) | {"now": time.time()},
            )
            return running.rowcount + waiting.rowcount

    def take_back_cancel(self, ids: Collection[str]) -> int:
        """Let cancelled jobs wait again, each at its old place, and running ones continue if they still run."""
        with self.database.write() as connection:
            running = connection.execute(
                f"UPDATE jobs SET cancel = 0 WHERE state = 'running' AND cancel AND {_IN_IDS}", _ids(ids)
            )
            ended = connection.execute(
                f"UPDATE jobs SET state = 'queued', {_AS_NEW} WHERE state = 'cancelled' AND {_IN_IDS}", _ids(ids)
            )
            return running.rowcount + ended.rowcount

    def retry(self, ids: Collection[str]) -> int:
        """Queue failed and cancelled jobs again, at the end, and reset their attempts."""
        with self.database.write() as connection:
            found = connection.execute(
                f"SELECT number FROM jobs WHERE state IN ('failed', 'cancelled') AND {_IN_IDS} ORDER BY number",
                _ids(ids),
            ).fetchall()
            start = last_position(connection)
            connection.executemany(
                f"UPDATE jobs SET state = 'queued', position = ?, {_AS_NEW} WHERE number = ?",
                [(start + offset, row["number"]) for offset, row in enumerate(found, start=1)],
            )
            return len(found)

    def move(self, ids: Sequence[str], *, before: str | None = None, after: str | None = None) -> None:
        """Move waiting jobs, in the given order, directly before or after another one; they get its priority.

        Raises `JobError` if one of them is not waiting.
        """
        side: Side
        if before is not None and after is None:
            anchor, side = before, "before"
        elif after is not None and before is None:
            anchor, side = after, "after"
        else:
            raise ValueError("give exactly one of before and after")
        with self.database.write() as connection:
            place(connection, ids, anchor, side)

    def move_to_front(self, ids: Sequence[str]) -> None:
        """Make waiting jobs run next, in the given order, with the priority of the job that was first."""
        with self.database.write() as connection:
            anchor = first_waiting(connection, without=ids)
            if anchor is None:
                # There are no other waiting jobs: the first one stays, the others follow it.
                anchor, ids = ids[0], ids[1:]
                place(connection, ids, anchor, "after")
            else:
                place(connection, ids, anchor, "before")

    def delete(self, ids: Collection[str]) -> int:
        """Delete jobs that are not running; their clips stay in the library, and `restore` takes it back."""
        return self._delete(f"state <> 'running' AND {_IN_IDS}", _ids(ids))

    def restore(self, ids: Collection[str]) -> int:
        """Put jobs that were deleted a short time ago back where they were."""
        with self.database.write() as connection:
            return restore(connection, ids)

    def clear_finished(self, states: Collection[JobState] = ENDED) -> int:
        """Delete all jobs that ended in one of these states; their clips stay in the library."""
        wanted = [state for state in states if state in ENDED]
        return self._delete("state IN (SELECT value FROM json_each(:states))", {"states": json.dumps(wanted)})

    # Reading

    def get(self, job_id: str) -> Job:
        """One job; raises `JobError` if there is none."""
        with self.database.read() as connection:
            rows = connection.execute(f"{JOBS} WHERE jobs.id = ?", (job_id,)).fetchall()
            found = jobs_of(connection, rows, self.paths)
        if not found:
            raise JobError("This job no longer exists; it was deleted.")
        return found[0]

    def jobs(
        self,
        *,
        states: Collection[JobState] | None = None,
        batch: int | None = None,
        text: str = "",
        offset: int = 0,
        limit: int = 200,
    ) -> list[Job]:
        """Running jobs, then waiting jobs in the order in which they will run, then the others, the latest first.

        `text` is searched for in prompts and batch names.
        """
        where, values = _filter(states, batch, text)
        with self.database.read() as connection:
            rows = connection.execute(
                f"{JOBS} WHERE {where} ORDER BY {SHOWN_ORDER} LIMIT :limit OFFSET :offset",
                values | {"limit": limit, "offset": offset},
            ).fetchall()
            return jobs_of(connection, rows, self.paths)

    def ids(self, *, states: Collection[JobState] | None = None, batch: int | None = None, text: str = "") -> list[str]:
        """The ids of all jobs that match the filter of `jobs`, to cancel, retry or delete many."""
        where, values = _filter(states, batch, text)
        query = f"SELECT jobs.id FROM jobs JOIN batches ON batches.id = jobs.batch WHERE {where} ORDER BY {SHOWN_ORDER}"
        with self.database.read() as connection:
            return [row["id"] for row in connection.execute(query, values)]

    def count(self, *, states: Collection[JobState] | None = None, batch: int | None = None, text: str = "") -> int:
        """The number of jobs that match the filter of `jobs`."""
        where, values = _filter(states, batch, text)
        query = f"SELECT COUNT(*) FROM jobs JOIN batches ON batches.id = jobs.batch WHERE {where}"
        with self.database.read() as connection:
            return connection.execute(query, values).fetchone()[0]

    def counts(self, batch: int | None = None) -> Mapping[JobState, int]:
        """The number of jobs in each state."""
        only = "" if batch is None else "WHERE batch = :batch"
        query = f"SELECT state, COUNT(*) FROM jobs {only} GROUP BY state"
        with self.database.read() as connection:
            found = dict(connection.execute(query, {"batch": batch}).fetchall())
        return {state: found.get(state, 0) for state in JobState}

    def batches(self, *, offset: int = 0, limit: int = 50) -> list[JobBatch]:
        """The batches that have jobs, the latest first."""
        with self.database.read() as connection:
            rows = connection.execute(
                "SELECT batch, name, batches.created, state, COUNT(*) AS jobs FROM jobs "
                "JOIN batches ON batches.id = jobs.batch WHERE batch IN "
                "(SELECT id FROM batches ORDER BY id DESC LIMIT ? OFFSET ?) "
                "GROUP BY batch, state ORDER BY batch DESC",
                (limit, offset),
            ).fetchall()
        counts: dict[int, dict[JobState, int]] = {}
        for row in rows:
            counts.setdefault(row["batch"], dict.fromkeys(JobState, 0))[JobState(row["state"])] = row["jobs"]
        names = {row["batch"]: (row["name"], row["created"]) for row in rows}
        return [JobBatch(number, *names[number], counts=found) for number, found in counts.items()]

    def grid_batches(self) -> frozenset[int]:
        """The batches that are grids."""
        with self.database.read() as connection:
            rows = connection.execute("SELECT id FROM batches WHERE grid IS NOT NULL")
            return frozenset(row["id"] for row in rows)

    def grid(self, batch: int) -> tuple[Grid, dict[int, Job]]:
        """The axes of a batch and the jobs of its cells, numbered row by row; raises `JobError` if it is no grid.

        A cell whose job was deleted, or is another clip now, is missing.
        """
        with self.database.read() as connection:
            row = connection.execute("SELECT grid FROM batches WHERE id = ? AND grid IS NOT NULL", (batch,)).fetchone()
            cells = connection.execute(f"{JOBS} WHERE batch = ? AND cell IS NOT NULL", (batch,)).fetchall()
            jobs = jobs_of(connection, cells, self.paths)
        if row is None:
            raise JobError("This grid no longer exists; its jobs were deleted.")
        return Grid.from_json(json.loads(row["grid"])), {row["cell"]: job for row, job in zip(cells, jobs, strict=True)}

    def change_counter(self) -> int:
        """Increases with every change, including progress."""
        return self.database.change_counter()

    def seconds_left(self) -> dict[str, float]:
        """The estimated seconds until the running jobs end, by their engines; 0 where that is not known."""
        with self.database.read() as connection:
            return dict(
                connection.execute(
                    "SELECT owner, COALESCE(seconds_left, 0) FROM jobs WHERE state = 'running'"
                ).fetchall()
            )

    def turning_points(self) -> str:
        """Changes when a job is added, starts, is in another phase or stops running; not with progress in a phase."""
        running = "SELECT group_concat(id || COALESCE(phase, '') || cancel) FROM jobs WHERE state = 'running'"
        with self.database.read() as connection:
            newest, active = connection.execute(f"SELECT MAX(number), ({running}) FROM jobs").fetchone()
        return f"{newest or 0} {active or ''}"

    # The queue as a whole

    @property
    def paused(self) -> bool:
        """Whether engines start no new jobs; running jobs are finished."""
        return bool(self.database.setting(PAUSED, False))

    def pause(self) -> None:
        """Start no jobs until `resume`, even after a restart."""
        self.database.put_setting(PAUSED, True)

    def resume(self) -> None:
        """Allow jobs to start again."""
        self.database.put_setting(PAUSED, False)

    def engines(self) -> list[EngineInfo]:
        """The engines that have not ended, the latest first; a killed one is listed until its death is noticed."""
        with self.database.read() as connection:
            rows = connection.execute("SELECT * FROM engines WHERE NOT ended ORDER BY number DESC").fetchall()
        return [engine_of(row) for row in rows]

    def stop_engine(self, owner: str) -> None:
        """Ask an engine to stop after its current step; its job goes back to the queue."""
        with self.database.write() as connection:
            connection.execute("UPDATE engines SET stop = 1 WHERE owner = ?", (owner,))

    def close(self) -> None:
        """Close the database; the next call opens it again."""
        self.database.close()

    def _delete(self, where: str, values: dict[str, Any]) -> int:
        with self.database.write() as connection:
            count = delete(connection, where, values)
        remove_unused_pictures(self.database)
        return count


def _ids(ids: Collection[str]) -> dict[str, Any]:
    return {"ids": json.dumps(list(ids))}


def _filter(states: Collection[JobState] | None, batch: int | None, text: str) -> tuple[str, dict[str, Any]]:
    """An SQL condition on `JOBS` and its values."""
    terms: list[str] = ["TRUE"]
    values: dict[str, Any] = {}
    if states is not None:
        terms.append("state IN (SELECT value FROM json_each(:states))")
        values["states"] = json.dumps(list(states))
    if batch is not None:
        terms.append("batch = :batch")
        values["batch"] = batch
    if text.strip():
        terms.append(r"(json_extract(spec, '$.prompt') LIKE :text ESCAPE '\' OR batches.name LIKE :text ESCAPE '\')")
        escaped = "".join(f"\\{letter}" if letter in "\\%_" else letter for letter in text.strip())
        values["text"] = f"%{escaped}%"
    return " AND ".join(terms), values
