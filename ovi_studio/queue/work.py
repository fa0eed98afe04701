"""`EngineSession`: the queue from an engine's point of view.

An engine has a name (its owner name in the store) and holds the lock on the file of that name while it is alive; if the
lock can be acquired, the engine is dead (`recovery`). Every method may raise `JobError`.
"""

import json
import os
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ovi_studio.core.errors import FolderError, JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media.small_files import folder_errors
from ovi_studio.queue.database import Database
from ovi_studio.queue.dependencies import with_clip
from ovi_studio.queue.files import remove_preview
from ovi_studio.queue.locks import Lock
from ovi_studio.queue.model import EngineState, Job, JobProgress, JobState, Verdict
from ovi_studio.queue.pictures import kept_pictures
from ovi_studio.queue.rows import JOBS, NO_PROGRESS, job_of, spec_columns
from ovi_studio.queue.schema import CLAIMABLE

ENDED_CLEANLY = 1
FOUND_DEAD = 2
"""Values of `engines.ended`; 0 is a live engine."""
_REMEMBERED_ENGINES = 20
_MAKEABLE = (
    "CASE WHEN improvement IS NOT NULL THEN :improves "
    "ELSE (:draws OR draws IS NULL) "
    "AND (:variants IS NULL OR variant IN (SELECT value FROM json_each(:variants))) END"
)


class EngineSession:
    """One engine's access to the queue; a context manager that registers and unregisters the engine."""

    def __init__(self, database: Database, owner: str, *, supervised: bool = False) -> None:
        self.database = database
        self.owner = owner
        self._supervised = supervised
        self._lock: Lock | None = None

    def __enter__(self) -> "EngineSession":
        with folder_errors(self.database.paths.owners):
            # A check whether this engine is dead holds the lock for a moment.
            self._lock = Lock.acquire(self.database.paths.owners / f"{self.owner}.lock", 1)
        if self._lock is None:
            raise JobError(f"There is already an engine {self.owner}; stop it, or use another name.")
        self._lock.write(f"{os.getpid()}\n")
        with self.database.write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO engines (owner, pid, supervised, state, started) VALUES (?, ?, ?, ?, ?)",
                (self.owner, os.getpid(), self._supervised, EngineState.STARTING, time.time()),
            )
            connection.execute(
                "DELETE FROM engines WHERE ended AND number NOT IN "
                "(SELECT number FROM engines ORDER BY number DESC LIMIT ?)",
                (_REMEMBERED_ENGINES,),
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # After an error only the lock is released: the next recovery finds it free and handles the job.
        try:
            if kind is None:
                with self.database.write() as connection:
                    connection.execute("UPDATE engines SET ended = ? WHERE owner = ?", (ENDED_CLEANLY, self.owner))
        finally:
            if self._lock is not None:
                self._lock.release(remove=kind is None)

    def announce(self, state: EngineState, variant: str | None) -> None:
        """Publish this engine's state and its loaded variant; any state but `STARTING` means that it is ready."""
        with self.database.write() as connection:
            connection.execute(
                "UPDATE engines SET state = ?, variant = ?, ready = ready OR ? WHERE owner = ?",
                (state, variant, state is not EngineState.STARTING, self.owner),
            )

    def stop_requested(self) -> bool:
        """Whether this engine was asked to stop."""
        with self.database.read() as connection:
            row = connection.execute("SELECT stop FROM engines WHERE owner = ?", (self.owner,)).fetchone()
        return row is not None and bool(row["stop"])

    def claim(
        self, variants: Collection[str] | None = None, *, improves: bool = True, draws: bool = True
    ) -> Job | None:
        """Claim the next job and count the attempt; None if no job can start or the queue is paused.

        A job that begins with the last frame of another clip has it as its picture. If a clip that a job needs is
        gone, the job fails with advice, and the next one is claimed.

        Args:
            variants: those that this engine can make; None for all.
            improves: whether it can improve clips.
            draws: whether it can draw first frames.
        """
        while self.waiting(
            variants, improves=improves, draws=draws
        ):  # called twenty thousand times a day, so this must not write
            job = self._claim_next(variants, improves, draws)
            if job is None:
                return None
            try:
                return with_clip(self.database, job)
            except FolderError:
                self.release(job)
                raise
            except JobError as error:
                self.fail(job, str(error))
        return None

    def _claim_next(self, variants: Collection[str] | None, improves: bool, draws: bool) -> Job | None:
        with self.database.write() as connection:
            claimed = connection.execute(
                "UPDATE jobs SET state = 'running', owner = :owner, made_by = :owner, attempt = attempt + 1, "
                "cancel = 0, started = :now "
                f"WHERE number = (SELECT number FROM jobs WHERE {CLAIMABLE} AND {_MAKEABLE} "
                "ORDER BY priority DESC, position, number LIMIT 1) "
                "AND NOT EXISTS (SELECT 1 FROM settings WHERE key = 'paused' AND value = 'true') RETURNING number",
                {
                    "owner": self.owner,
                    "now": time.time(),
                    "variants": _as_json(variants),
                    "improves": improves,
                    "draws": draws,
                },
            ).fetchall()
            if not claimed:
                return None
            row = connection.execute(f"{JOBS} WHERE number = ?", (claimed[0]["number"],)).fetchone()
            return job_of(row, self.database.paths)

    def waiting(self, variants: Collection[str] | None = None, *, improves: bool = True, draws: bool = True) -> bool:
        """Whether there is a job to claim; see `claim`."""
        with self.database.read() as connection:
            return bool(
                connection.execute(
                    f"SELECT EXISTS (SELECT 1 FROM jobs WHERE {CLAIMABLE} AND {_MAKEABLE}) "
                    "AND NOT EXISTS (SELECT 1 FROM settings WHERE key = 'paused' AND value = 'true')",
                    {"variants": _as_json(variants), "improves": improves, "draws": draws},
                ).fetchone()[0]
            )

    def waiting_variants(self) -> dict[str, int]:
        """Return how many jobs wait for each variant, without those that wait for another job or a drawn picture."""
        with self.database.read() as connection:
            query = f"SELECT variant, COUNT(*) FROM jobs WHERE {CLAIMABLE} AND draws IS NULL GROUP BY variant"
            return dict(connection.execute(query).fetchall())

    def report(self, job: Job, progress: JobProgress) -> Verdict:
        """Store the progress of a job and read, in the same statement, whether to continue."""
        with self.database.write(durable=False) as connection:
            rows = connection.execute(
                "UPDATE jobs SET phase = ?, step = ?, total = ?, seconds_per_step = ?, seconds_left = ?, part = ?, "
                "preview = ? "
                "WHERE id = ? AND owner = ? AND state = 'running' "
                "RETURNING cancel, (SELECT stop FROM engines WHERE engines.owner = jobs.owner) AS stop",
                (
                    progress.phase,
                    progress.step,
                    progress.total,
                    progress.seconds_per_step,
                    progress.seconds_left,
                    progress.fraction,
                    None if progress.preview is None else progress.preview.name,
                    job.id,
                    self.owner,
                ),
            ).fetchall()
        if not rows:
            return Verdict.LOST
        if rows[0]["cancel"]:
            return Verdict.CANCEL
        return Verdict.STOP if rows[0]["stop"] else Verdict.CONTINUE

    def keep_drawn(self, job: Job, spec: ClipSpec) -> ClipSpec:
        """Store the first frame that was drawn for a job, so that no later attempt draws it again.

        Returns the spec with the copy of the picture that stays with the job.
        """
        with kept_pictures(self.database.paths, [spec]) as (kept,), self.database.write() as connection:
            connection.execute(
                "UPDATE jobs SET spec = ? WHERE id = ? AND owner = ? AND state = 'running'",
                (spec_columns(kept)["spec"], job.id, self.owner),
            )
        return kept

    def finish(self, job: Job, clip: Path, seconds: float) -> bool:
        """Mark a job as done; its clip is in the library. Returns whether the job still belonged to this engine."""
        return self._end(job, JobState.DONE, clip=clip.name, seconds=seconds)

    def fail(self, job: Job, reason: str) -> bool:
        """Mark a job as failed for a reason that is shown. Returns whether the job still belonged to this engine."""
        return self._end(job, JobState.FAILED, error=reason)

    def cancelled(self, job: Job) -> bool:
        """Mark a job as cancelled. Returns whether the job still belonged to this engine."""
        return self._end(job, JobState.CANCELLED)

    def release(self, job: Job, note: str | None = None) -> bool:
        """Return a job to the queue without counting the attempt. Returns whether it still belonged to this engine.

        Args:
            note: replaces the job's note; None keeps it.
        """
        remove_preview(self.database.paths, job.id)
        with self.database.write() as connection:
            changed = connection.execute(
                f"UPDATE jobs SET state = CASE cancel WHEN 1 THEN 'cancelled' ELSE 'queued' END, "
                f"attempt = attempt - 1, started = NULL, made_by = NULL, note = COALESCE(?, note), {NO_PROGRESS} "
                f"WHERE id = ? AND owner = ? AND state = 'running'",
                (note, job.id, self.owner),
            ).rowcount
        return bool(changed)

    def _end(self, job: Job, state: JobState, **columns: Any) -> bool:
        # Before the transition, so that an engine that is killed after it leaves nothing behind.
        remove_preview(self.database.paths, job.id)
        values = {"clip": None, "error": None, "seconds": None} | columns
        with self.database.write() as connection:
            changed = connection.execute(
                f"UPDATE jobs SET state = :state, clip = :clip, error = :error, seconds = :seconds, finished = :now, "
                f"ended = (SELECT value FROM changes), {NO_PROGRESS} "
                f"WHERE id = :id AND owner = :owner AND state = 'running'",
                values | {"state": state, "now": time.time(), "id": job.id, "owner": self.owner},
            ).rowcount
        return bool(changed)


def _as_json(variants: Collection[str] | None) -> str | None:
    return None if variants is None else json.dumps(list(variants))
