"""Jobs that begin with the last frame of another job's clip, or improve that clip.

Such a job waits until its parent is done (`schema.CLAIMABLE`). Nothing is stored about why it waits: that follows from
the states of the jobs before it each time it is read, so retrying or restoring one of them is all that it takes to free
those behind it. The clip itself is looked at when the job is claimed.
"""

import itertools
import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ovi_studio.core.errors import FolderError, JobError
from ovi_studio.queue.database import Database
from ovi_studio.queue.files import find_clip_of, keep_last_frame
from ovi_studio.queue.model import Dependency, Job, JobState
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.pictures import adding_pictures
from ovi_studio.queue.rows import job_of, spec_columns
from ovi_studio.queue.schema import UNDECIDED

_WAITS = "state = 'queued' AND parent IS NOT NULL AND parent_clip IS NULL"
_OWN_FRAME = "give this one a first frame of its own"
_GONE = (
    "The clip of the job before it, with whose last frame this one begins, was moved, deleted or damaged; put it back "
    f"and retry this job, or {_OWN_FRAME}."
)


def jobs_of(connection: sqlite3.Connection, rows: Iterable[sqlite3.Row], paths: StudioPaths) -> list[Job]:
    """Convert rows of `JOBS`, with what the waiting ones among them wait for."""
    rows = list(rows)
    waiting = [row["id"] for row in rows if row["state"] == JobState.QUEUED and _lacks_frame(row)]
    found = _dependencies(connection, waiting) if waiting else {}
    return [job_of(row, paths, found.get(row["id"])) for row in rows]


def parent_columns(connection: sqlite3.Connection, parent: str, paths: StudioPaths) -> dict[str, str | None]:
    """The columns for a job that continues `parent`, of which only the clip may be left.

    Raises `JobError` if there is neither.
    """
    row = connection.execute(
        f"SELECT state, clip, {UNDECIDED.format(job='jobs.id')} AS undecided FROM jobs WHERE id = ?", (parent,)
    ).fetchone()
    if row is not None:
        ready = row["state"] == JobState.DONE and not row["undecided"]
        return {"parent": parent, "parent_clip": row["clip"] if ready else None}
    clip = find_clip_of(paths, parent)
    if clip is None:
        raise JobError("The job to continue no longer exists; it was deleted.")
    return {"parent": parent, "parent_clip": clip.name}


def refresh_parent_clips(connection: sqlite3.Connection) -> None:
    """Note the clips of parents that are done and decided, of which the waiting jobs do not know it yet.

    That is so after one of the two was deleted and restored, and when the words of a take were checked.
    """
    connection.execute(
        "UPDATE jobs SET parent_clip = (SELECT done.clip FROM jobs AS done WHERE done.id = jobs.parent AND "
        f"done.state = 'done' AND NOT {UNDECIDED.format(job='done.id')}) "
        "WHERE parent IS NOT NULL AND parent_clip IS NULL"
    )


def with_clip(database: Database, job: Job) -> Job:
    """A claimed job with what it needs of another clip: its first frame, which is then stored with the job, or all.

    Raises `JobError` if that clip is gone, `FolderError` if the frame cannot be written.
    """
    if job.improves is not None:
        clip = job.improves.clip
        if clip is None or clip.is_symlink() or not clip.is_file():
            raise JobError("The clip to improve was moved or deleted; put it back and retry this job.")
        return job
    if job.parent is None or job.spec.image is not None:
        return job
    with database.read() as connection:
        name = connection.execute("SELECT parent_clip FROM jobs WHERE id = ?", (job.id,)).fetchone()[0]
    clip = database.paths.outputs / name
    if clip.is_symlink() or not clip.is_file():
        raise JobError(_GONE)
    with adding_pictures(database.paths):
        try:
            image = keep_last_frame(clip, database.paths.pictures)
        except FolderError:
            raise
        except JobError as error:
            raise JobError(_GONE) from error
        spec = replace(job.spec, image=image, size=None)
        with database.write() as connection:
            connection.execute(
                "UPDATE jobs SET spec = :spec WHERE id = :id AND state = 'running'",
                {"spec": spec_columns(spec)["spec"], "id": job.id},
            )
    return replace(job, spec=spec)


def _lacks_frame(row: sqlite3.Row) -> bool:
    return row["parent"] is not None and row["parent_clip"] is None


def _dependencies(connection: sqlite3.Connection, waiting: list[str]) -> Mapping[str, Dependency]:
    """What each of these jobs waits for."""
    rows = connection.execute(
        "WITH RECURSIVE line (id) AS (SELECT value FROM json_each(:ids) UNION "
        f"SELECT parent FROM jobs JOIN line USING (id) WHERE {_WAITS}) "
        "SELECT id, number, state, parent, parent_clip, improvement FROM jobs JOIN line USING (id)",
        {"ids": json.dumps(waiting)},
    )
    known = {row["id"]: row for row in rows}
    found: dict[str, Dependency] = {}
    for job in waiting:
        line = [job]
        # Up to a job that waits for nothing, or that another line has passed.
        while (row := known.get(line[-1])) and row["state"] == JobState.QUEUED and _lacks_frame(row):
            if line[-1] in found:
                break
            line.append(row["parent"])
        for child, parent in reversed(list(itertools.pairwise(line))):
            improves = known[child]["improvement"] is not None
            found[child] = _dependency(known.get(parent), found.get(parent), improves)
    return found


def _dependency(parent: sqlite3.Row | None, above: Dependency | None, improves: bool) -> Dependency:
    alternative = "cancel this one" if improves else _OWN_FRAME
    if above is not None and above.blocked:
        return replace(above, number=None if parent is None else parent["number"])
    if parent is None:
        sentence = f"Blocked: a job on which it depends was deleted; put that back, or {alternative}."
        return Dependency(None, True, sentence)
    number = parent["number"]
    if parent["state"] in (JobState.FAILED, JobState.CANCELLED):
        what = "failed" if parent["state"] == JobState.FAILED else "was cancelled"
        sentence = f"Blocked: job {number}, on which it depends, {what}; retry job {number}, or {alternative}."
        return Dependency(number, True, sentence)
    if parent["state"] == JobState.DONE:
        return Dependency(number, False, f"Waits until the words of job {number} are checked.")
    return Dependency(number, False, f"Waits for the {'clip' if improves else 'last frame'} of job {number}.")
