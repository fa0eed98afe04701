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
from ovi_studio.queue.dependencies import refresh_parent_clips
from ovi_studio.queue.pictures import kept_pictures
from ovi_studio.queue.rows import spec_columns
from ovi_studio.queue.store import Store
from ovi_studio.queue.takes import Choice, Take, add_take, choose, has_right_words, is_there, quality, take_rows


@dataclass(frozen=True)
class StoredFilm:
    """A film in the store."""

    id: int
    source: str | None
    """Where it came from, such as the path of its file; unique."""
    text: str
    created: float


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
    word_errors: float | None = None
    """The word error rate from which no further take is made: the takes are made one after another then, each after
    the one before was checked. None: all are made."""


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
            return [Take.of(row) for row in take_rows(connection, film)]

    def choose(self, film: int, shot: str, number: int) -> None:
        """Put a take into the film; raises `JobError` if there is no such take any more."""
        with self._database.write() as connection:
            row = connection.execute(
                "SELECT * FROM takes WHERE film = ? AND shot = ? AND number = ?", (film, shot, number)
            ).fetchone()
            if row is None:
                raise JobError(f"The shot {shot} has no take {number}; choose one of those that it has.")
            if not is_there(connection, self._store.paths, row):
                raise JobError(f"Take {number} of the shot {shot} was deleted; choose another one, or make one.")
            choose(connection, film, shot, row["job"], Choice.PICKED)

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
            refresh_parent_clips(connection)  # nobody checks its takes now


class _Change:
    """One transaction's worth of `apply`. New takes have a number in place of a job until they are queued."""

    def __init__(self, store: Store, connection: sqlite3.Connection, film: int, priority: int) -> None:
        self._store, self._connection = store, connection
        self._film, self._priority = film, priority
        # What could not be checked is tried again.
        connection.execute(
            "UPDATE takes SET scores = NULL WHERE film = ? AND json_extract(scores, '$.error') IS NOT NULL", (film,)
        )
        self._takes: dict[str, list[sqlite3.Row]] = {}
        for row in take_rows(connection, film):
            self._takes.setdefault(row["shot"], []).append(row)
        self._specs: list[ClipSpec] = []
        self._parents: list[str | int | None] = []
        self._new: list[dict[str, object]] = []
        self._chosen: dict[str, str | int] = {}
        self._current: dict[str, tuple[str, str | int | None]] = {}
        """Shot -> recipe and parent of what it should have."""
        self._choices: list[tuple[str, str | int, Choice]] = []
        self._searches: dict[str, tuple[float, str]] = {}
        """Job of an unchecked take -> what `takes.word_errors` and `takes.more_seeds` should be."""
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
        current = next((take for take in takes if take["chosen"]), None)
        picked = current is not None and current["chosen"] == Choice.PICKED and self._is_there(current)
        stays = picked and bool(fitting) and not again and current is not None and current["parent"] == parent
        missing, kept = (specs, []) if again else _compared(wanted, specs, fitting)
        self.wanted += [take["job"] for take in kept]
        search: dict[str, object] = {"word_errors": None, "more_seeds": None}
        if wanted.word_errors is not None and not again:
            # A person who picked a take has decided.
            missing, more, kept = ([], [], kept) if stays else self._search(wanted.word_errors, missing, kept, current)
            search = {"word_errors": wanted.word_errors, "more_seeds": json.dumps([spec.seed for spec in more])}
        shared = {"shot": wanted.shot, "recipe": recipe, **search}
        number = max((take["number"] for take in takes), default=0)
        first = len(self._specs) if missing else None
        for offset, spec in enumerate(missing, 1):
            self._new.append(shared | {"number": number + offset, "seed": spec.seed})
            self._specs.append(spec)
            self._parents.append(parent)
        if again and first is not None:
            chosen, how = first, Choice.PICKED
        elif stays and current is not None:
            chosen, how = current["job"], Choice.PICKED
        elif current is not None and current["job"] in [take["job"] for take in kept]:
            chosen, how = current["job"], Choice.FOLLOWS
        else:
            chosen = kept[0]["job"] if first is None or (kept and fitting) else first
            how = Choice.FOLLOWS
        self._chosen[wanted.shot] = chosen
        self._choices.append((wanted.shot, chosen, how))

    def queue(self, title: str) -> list[str]:
        """Add the jobs and takes that are missing, and store what is chosen; returns the ids of the jobs."""
        self._store_searches()
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
            known = {"film": self._film, "job": job, "parent": jobs[parent] if isinstance(parent, int) else parent}
            add_take(self._connection, row | known)
        for shot, (recipe, parent) in self._current.items():
            self._current[shot] = recipe, jobs[parent] if isinstance(parent, int) else parent
        for shot, take, how in self._choices:
            choose(self._connection, self._film, shot, jobs[take] if isinstance(take, int) else take, how)
        refresh_parent_clips(self._connection)
        self.wanted += jobs
        return jobs

    def outdated(self) -> list[str]:
        """The takes that nobody asks for any more: of shots that are gone, or made from something else."""
        return [
            row["job"]
            for row in take_rows(self._connection, self._film)
            if not row["chosen"] and self._current.get(row["shot"]) != (row["recipe"], row["parent"])
        ]

    def _search(
        self, most: float, missing: list[ClipSpec], kept: list[sqlite3.Row], current: sqlite3.Row | None
    ) -> tuple[list[ClipSpec], list[ClipSpec], list[sqlite3.Row]]:
        """Return the take to make now, those that may follow, and the one that is in the film if none is made now."""
        if right := [take for take in kept if has_right_words(take, most)]:
            same = [take for take in right if current is not None and take["job"] == current["job"]]
            return [], [], same or [min(right, key=quality)]
        if unchecked := [take for take in kept if take["scores"] is None]:
            seeds = json.dumps([spec.seed for spec in missing])
            self._searches |= {take["job"]: (most, seeds) for take in unchecked}
            return [], [], unchecked[:1]
        return (missing[:1], missing[1:], []) if missing else ([], [], [min(kept, key=quality)])

    def _store_searches(self) -> None:
        """Let what was not checked be searched for right words where that is asked for, and nothing else."""
        self._connection.execute("UPDATE takes SET word_errors = NULL WHERE film = ? AND scores IS NULL", (self._film,))
        self._connection.executemany(
            "UPDATE takes SET word_errors = ?, more_seeds = ? WHERE job = ?",
            [(*search, job) for job, search in self._searches.items()],
        )

    def _is_there(self, take: sqlite3.Row) -> bool:
        return is_there(self._connection, self._store.paths, take)


def _compared(
    wanted: WantedShot, specs: list[ClipSpec], fitting: list[sqlite3.Row]
) -> tuple[list[ClipSpec], list[sqlite3.Row]]:
    """Return the clips that are missing, and the takes that count."""
    if wanted.drawn:
        return specs[len(fitting) :], fitting[: len(specs)]
    seeds, known = {spec.seed for spec in specs}, {take["seed"] for take in fitting}
    return [spec for spec in specs if spec.seed not in known], [take for take in fitting if take["seed"] in seeds]


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


def _recipe(spec: ClipSpec) -> str:
    """What a take is made from, apart from its seed; the name of a kept picture is a hash of its content."""
    values = json.loads(spec_columns(spec)["spec"])
    return json.dumps(values | {"seed": None}, sort_keys=True, ensure_ascii=False)


def _film_of(row: sqlite3.Row) -> StoredFilm:
    return StoredFilm(row["id"], row["source"], row["film"], row["created"])
