"""`FilmStore`: films and the takes of their shots.

A film is stored as the text that describes it. What is to be made follows from comparing it with the takes that there
are (`apply`): a take counts if it was made from the same settings, after the same take of the shot that it continues,
and if its job or its clip still exists. So editing a film, choosing another take, and queueing the film once more all
make what is missing and nothing else. Jobs and takes are added in one transaction.
"""

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.queue.adding import add_batch
from ovi_studio.queue.files import find_clip_of
from ovi_studio.queue.model import JobState
from ovi_studio.queue.pictures import kept_pictures
from ovi_studio.queue.rows import spec_columns
from ovi_studio.queue.store import Store

_NOT, _FOLLOWS, _PICKED = 0, 1, 2
"""Values of `takes.chosen`."""


@dataclass(frozen=True)
class StoredFilm:
    """A film in the store."""

    id: int
    source: str | None
    """Where it came from, such as the path of its file; unique."""
    text: str
    created: float


@dataclass(frozen=True)
class Take:
    """A take of a shot."""

    shot: str
    number: int
    """Counts up from 1 for each shot."""
    job: str
    seed: int
    parent: str | None
    """The job of the take that it continues."""
    chosen: bool
    """Whether it is the one in the film."""


@dataclass(frozen=True)
class WantedShot:
    """What a shot should have."""

    shot: str
    specs: tuple[ClipSpec, ...]
    """One for each take, which differ only in their seeds."""
    drawn: bool
    """Whether the seeds were drawn, so that takes with any seed count."""
    parent: str | None
    """The shot that it continues; comes before it."""


@dataclass(frozen=True)
class Applied:
    """What `FilmStore.apply` did."""

    film: int
    queued: tuple[str, ...]
    """The new jobs, in the order in which they will run."""
    wanted: tuple[str, ...]
    """The jobs of all takes that the film asks for, old and new."""


class FilmStore:
    """The films of one studio."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._database = store.database

    def films(self) -> list[StoredFilm]:
        """All films, the latest first."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT * FROM films ORDER BY id DESC").fetchall()
        return [_film_of(row) for row in rows]

    def get(self, film: int) -> StoredFilm:
        """One film; raises `JobError` if there is none."""
        with self._database.read() as connection:
            row = connection.execute("SELECT * FROM films WHERE id = ?", (film,)).fetchone()
        if row is None:
            raise JobError("This film no longer exists; it was deleted.")
        return _film_of(row)

    def find(self, source: str) -> StoredFilm | None:
        """The film that came from there."""
        with self._database.read() as connection:
            row = connection.execute("SELECT * FROM films WHERE source = ?", (source,)).fetchone()
        return None if row is None else _film_of(row)

    def takes(self, film: int) -> list[Take]:
        """Every take, by shot and number."""
        with self._database.read() as connection:
            return [_take_of(row) for row in _take_rows(connection, film)]

    def choose(self, film: int, shot: str, number: int) -> None:
        """Put a take into the film; raises `JobError` if there is no such take."""
        with self._database.write() as connection:
            row = connection.execute(
                "SELECT job FROM takes WHERE film = ? AND shot = ? AND number = ?", (film, shot, number)
            ).fetchone()
            if row is None:
                raise JobError(f"The shot {shot} has no take {number}; choose one of those that it has.")
            _choose(connection, film, shot, row["job"], _PICKED)

    def apply(
        self,
        title: str,
        text: str,
        shots: Sequence[WantedShot],
        *,
        film: int | None = None,
        source: str | None = None,
        again: str | None = None,
        priority: int = 0,
    ) -> Applied:
        """Store a film and queue the takes that are missing; what still waits and is no longer asked for is cancelled.

        Args:
            film: the film to change; None adds one.
            again: a shot that gets these takes in addition to what it has, the first of which is chosen.
        """
        specs = [spec for shot in shots for spec in shot.specs]
        with kept_pictures(self._store.paths, specs) as kept, self._database.write() as connection:
            film = _save(connection, film, source, text)
            change = _Change(self._store, connection, film, priority)
            remaining = iter(kept)
            for shot in shots:
                change.add_shot(shot, [next(remaining) for _ in shot.specs], again=shot.shot == again)
            queued = change.queue(title)
            outdated = change.outdated()
        self._store.cancel(outdated)
        return Applied(film, tuple(queued), tuple(change.wanted))

    def delete(self, film: int) -> None:
        """Forget a film; its jobs and clips stay."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM films WHERE id = ?", (film,))


class _Change:
    """One transaction's worth of `apply`. New takes have a number in place of a job until they are queued."""

    def __init__(self, store: Store, connection: sqlite3.Connection, film: int, priority: int) -> None:
        self._store, self._connection = store, connection
        self._film, self._priority = film, priority
        self._takes: dict[str, list[sqlite3.Row]] = {}
        for row in _take_rows(connection, film):
            self._takes.setdefault(row["shot"], []).append(row)
        self._specs: list[ClipSpec] = []
        self._parents: list[str | int | None] = []
        self._new: list[dict[str, object]] = []
        self._chosen: dict[str, str | int] = {}
        self._current: dict[str, tuple[str, str | int | None]] = {}
        """Shot -> recipe and parent of what it should have."""
        self._choices: list[tuple[str, str | int, int]] = []
        self.wanted: list[str] = []

    def add_shot(self, wanted: WantedShot, specs: list[ClipSpec], *, again: bool) -> None:
        """Compare what a shot has with what it should have."""
        parent = None if wanted.parent is None else self._chosen[wanted.parent]
        recipe = _recipe(specs[0])
        self._current[wanted.shot] = recipe, parent
        takes = self._takes.get(wanted.shot, [])
        fitting = [
            take for take in takes if take["recipe"] == recipe and take["parent"] == parent and self._is_there(take)
        ]
        if again:
            missing, kept = specs, []
        elif wanted.drawn:
            missing, kept = specs[len(fitting) :], fitting[: len(specs)]
        else:
            known = {take["seed"] for take in fitting}
            missing = [spec for spec in specs if spec.seed not in known]
            kept = [take for take in fitting if take["seed"] in {spec.seed for spec in specs}]
        first = len(self._specs)
        number = max((take["number"] for take in takes), default=0)
        for offset, spec in enumerate(missing, 1):
            row = {"shot": wanted.shot, "number": number + offset, "recipe": recipe, "seed": spec.seed}
            self._new.append(row)
            self._specs.append(spec)
            self._parents.append(parent)
        self.wanted += [take["job"] for take in kept]
        self._decide(wanted.shot, takes, kept, first if missing else None, parent, again=again, anew=not fitting)

    def queue(self, title: str) -> list[str]:
        """Add the jobs and takes that are missing, and store what is chosen; returns the ids of the jobs."""
        jobs: list[str] = []
        if self._specs:
            jobs = add_batch(
                self._connection,
                self._store.paths,
                self._specs,
                title,
                priority=self._priority,
                parents=self._parents,
            )
        for row, job, parent in zip(self._new, jobs, self._parents, strict=True):
            values = row | {
                "film": self._film,
                "job": job,
                "parent": jobs[parent] if isinstance(parent, int) else parent,
            }
            self._connection.execute(
                "INSERT INTO takes (film, shot, number, job, recipe, seed, parent, chosen) VALUES "
                "(:film, :shot, :number, :job, :recipe, :seed, :parent, 0)",
                values,
            )
        for shot, (recipe, parent) in self._current.items():
            self._current[shot] = recipe, jobs[parent] if isinstance(parent, int) else parent
        for shot, take, how in self._choices:
            _choose(self._connection, self._film, shot, jobs[take] if isinstance(take, int) else take, how)
        self.wanted += jobs
        return jobs

    def outdated(self) -> list[str]:
        """The takes that nobody asks for any more: of shots that are gone, or made from something else."""
        return [
            row["job"]
            for row in _take_rows(self._connection, self._film)
            if not row["chosen"] and self._current.get(row["shot"]) != (row["recipe"], row["parent"])
        ]

    def _decide(
        self,
        shot: str,
        takes: list[sqlite3.Row],
        kept: list[sqlite3.Row],
        new: int | None,
        parent: str | int | None,
        *,
        again: bool,
        anew: bool,
    ) -> None:
        """Choose the take of a shot: the one that is chosen, unless something newer replaces it."""
        current = next((take for take in takes if take["chosen"]), None)
        picked = current is not None and current["chosen"] == _PICKED and self._is_there(current)
        chosen: str | int
        how = _FOLLOWS
        if again and new is not None:
            chosen, how = new, _PICKED
        elif current is not None and picked and current["parent"] == parent and (new is None or not anew):
            chosen, how = current["job"], _PICKED
        elif current is not None and current["job"] in [take["job"] for take in kept]:
            chosen = current["job"]
        else:
            assert kept or new is not None
            chosen = kept[0]["job"] if new is None or (kept and not anew) else new
        self._chosen[shot] = chosen
        self._choices.append((shot, chosen, how))

    def _is_there(self, take: sqlite3.Row) -> bool:
        """Whether a take can still be used: its job will make it, or its clip exists."""
        job = self._connection.execute("SELECT state, clip FROM jobs WHERE id = ?", (take["job"],)).fetchone()
        if job is None:
            return find_clip_of(self._store.paths, take["job"]) is not None
        return job["state"] != JobState.DONE or (self._store.paths.outputs / job["clip"]).is_file()


def _save(connection: sqlite3.Connection, film: int | None, source: str | None, text: str) -> int:
    if film is None:
        cursor = connection.execute(
            "INSERT INTO films (source, film, created) VALUES (?, ?, ?)", (source, text, time.time())
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid
    if not connection.execute("UPDATE films SET film = ? WHERE id = ?", (text, film)).rowcount:
        raise JobError("This film no longer exists; it was deleted.")
    return film


def _choose(connection: sqlite3.Connection, film: int, shot: str, job: str, how: int) -> None:
    connection.execute(
        "UPDATE takes SET chosen = CASE job WHEN ? THEN ? ELSE ? END WHERE film = ? AND shot = ?",
        (job, how, _NOT, film, shot),
    )


def _recipe(spec: ClipSpec) -> str:
    """What a take is made from, apart from its seed; the name of a kept picture is a hash of its content."""
    values = json.loads(spec_columns(spec)["spec"])
    return json.dumps(values | {"seed": None}, sort_keys=True, ensure_ascii=False)


def _take_rows(connection: sqlite3.Connection, film: int) -> list[sqlite3.Row]:
    return connection.execute("SELECT * FROM takes WHERE film = ? ORDER BY shot, number", (film,)).fetchall()


def _take_of(row: sqlite3.Row) -> Take:
    return Take(row["shot"], row["number"], row["job"], row["seed"], row["parent"], bool(row["chosen"]))


def _film_of(row: sqlite3.Row) -> StoredFilm:
    return StoredFilm(row["id"], row["source"], row["film"], row["created"])
