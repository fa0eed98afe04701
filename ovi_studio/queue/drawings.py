"""Requests for pictures to choose a first frame from: one to four, drawn by an engine between two jobs.

Somebody waits for them, so they come before all jobs; as they are few and small, they hold up the queue for a minute.
Requests and their pictures are removed after a day.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ovi_studio.core.drawing import MAX_CANDIDATES, MAX_SEED, Drawing
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media.small_files import folder_errors
from ovi_studio.queue.database import Database
from ovi_studio.queue.locks import is_held
from ovi_studio.queue.model import JobState
from ovi_studio.queue.rows import spec_columns, spec_of

KEPT_SECONDS = 24 * 3600
MAX_WAITING = 20
"""Requests that may wait at once."""
_ENDED_EARLY = "The engine ended before the pictures were drawn; draw them again."


@dataclass(frozen=True)
class Candidates:
    """A request for pictures, and what became of it."""

    id: str
    spec: ClipSpec
    """The clip whose first frame they may be; `to_draw` says how they are drawn."""
    count: int
    state: JobState
    pictures: tuple[Path, ...] = ()
    """Those that are drawn."""
    step: int = 0
    """Completed steps of the picture that is being drawn."""
    total: int = 0
    error: str | None = None

    def specs(self) -> list[ClipSpec]:
        """One clip for each picture, with consecutive seeds of the image model."""
        drawing = self.spec.to_draw
        if drawing is None:
            raise ValueError("the clip asks for no picture")
        first = self.spec.seed if drawing.seed is None else drawing.seed
        seeds = [min(first + number, MAX_SEED) for number in range(self.count)]
        return [replace(self.spec, drawing=replace(drawing, seed=seed)) for seed in seeds]


def ask_for_candidates(database: Database, spec: ClipSpec, count: int) -> str:
    """Ask for pictures; returns the id of the request. Raises `JobError` for a count that is not possible."""
    if not 1 <= count <= MAX_CANDIDATES:
        raise JobError(f"Between 1 and {MAX_CANDIDATES} pictures are drawn at once, not {count}.")
    _remove_old(database)
    request = secrets.token_hex(5)
    with database.write() as connection:
        waiting = connection.execute("SELECT COUNT(*) FROM drawings WHERE state = 'queued'").fetchone()[0]
        if waiting >= MAX_WAITING:
            raise JobError("Too many pictures wait to be drawn; wait for those, or cancel them.")
        connection.execute(
            "INSERT INTO drawings (id, spec, count, created) VALUES (?, ?, ?, ?)",
            (request, spec_columns(spec)["spec"], count, time.time()),
        )
    return request


def candidates(database: Database, request: str) -> Candidates:
    """What became of a request; raises `JobError` if it is gone."""
    with database.read() as connection:
        row = connection.execute("SELECT * FROM drawings WHERE id = ?", (request,)).fetchone()
    if row is None:
        raise JobError("These pictures are no longer here; draw them again.")
    paths = database.paths
    found = Candidates(
        row["id"],
        spec_of(row, paths),
        row["count"],
        JobState(row["state"]),
        tuple(paths.drawings / Path(picture["name"]).name for picture in json.loads(row["pictures"])),
        row["step"],
        row["total"],
        row["error"],
    )
    if found.state is JobState.RUNNING and not is_held(paths.owners / f"{row['owner']}.lock"):
        return replace(found, state=JobState.FAILED, error=_ENDED_EARLY)
    return found


def cancel_candidates(database: Database, request: str) -> None:
    """Draw no more pictures of a request, from the next step on."""
    with database.write() as connection:
        connection.execute(
            "UPDATE drawings SET state = 'cancelled' WHERE id = ? AND state IN ('queued', 'running')", (request,)
        )


def candidates_waiting(database: Database) -> bool:
    """Whether a request waits for an engine."""
    with database.read() as connection:
        return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM drawings WHERE state = 'queued')").fetchone()[0])


def claim_candidates(database: Database, owner: str) -> Candidates | None:
    """Claim the request that waits longest for an engine."""
    if not candidates_waiting(database):
        return None
    with database.write() as connection:
        rows = connection.execute(
            "UPDATE drawings SET state = 'running', owner = ? WHERE number = "
            "(SELECT number FROM drawings WHERE state = 'queued' ORDER BY number LIMIT 1) RETURNING id",
            (owner,),
        ).fetchall()
    return candidates(database, rows[0]["id"]) if rows else None


def report_candidates(database: Database, request: str, step: int, total: int, drawn: Sequence[ClipSpec]) -> bool:
    """Store the progress of a request, with the clips whose pictures are drawn; returns whether to continue."""
    return _update(database, request, "step = ?, total = ?, pictures = ?", step, total, _pictures(drawn))


def end_candidates(database: Database, request: str, drawn: Sequence[ClipSpec], error: str | None = None) -> None:
    """Store the end of a request."""
    state = JobState.DONE if error is None else JobState.FAILED
    _update(database, request, "state = ?, pictures = ?, error = ?", state, _pictures(drawn), error)


def drawing_of(database: Database, picture: Path) -> Drawing | None:
    """How a picture was drawn, if it is a copy of one that somebody chose."""
    try:
        name = f"{hashlib.sha256(picture.read_bytes()).hexdigest()}.png"
    except OSError:
        return None  # whoever reads it says so
    with database.read() as connection:
        query = "SELECT pictures FROM drawings WHERE pictures LIKE ? ORDER BY number DESC LIMIT 1"
        row = connection.execute(query, (f"%{name}%",)).fetchone()
    found = [] if row is None else json.loads(row["pictures"])
    return next((Drawing.from_dict(drawn["drawing"]) for drawn in found if drawn["name"] == name), None)


def release_candidates(database: Database, request: str) -> None:
    """Give a request back, for the next engine."""
    _update(database, request, "state = 'queued', owner = NULL, step = 0, total = 0")


def _update(database: Database, request: str, assignments: str, *values: object) -> bool:
    with database.write(durable=False) as connection:
        query = f"UPDATE drawings SET {assignments} WHERE id = ? AND state = 'running'"
        return bool(connection.execute(query, (*values, request)).rowcount)


def _pictures(drawn: Sequence[ClipSpec]) -> str:
    return json.dumps(
        [
            {"name": spec.image.name, "drawing": spec.drawing.to_dict()}
            for spec in drawn
            if spec.image is not None and spec.drawing is not None
        ]
    )


def _remove_old(database: Database, now: Callable[[], float] = time.time) -> None:
    before = now() - KEPT_SECONDS
    with database.write() as connection:
        # One that an engine still draws ends at its next step.
        connection.execute("DELETE FROM drawings WHERE created < ?", (before,))
    folder = database.paths.drawings
    if folder.is_dir():
        with folder_errors(folder):
            for path in folder.iterdir():
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < before:
                        path.unlink()
