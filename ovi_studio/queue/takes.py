"""The takes of shots: which one is in the film, what was measured about each, and more until the words are right.

A take of such a search is undecided until it was checked, and what continues it waits for that (`schema.UNDECIDED`). A
check and what follows from it are one transaction: another take with the next seed; or, if the words are right, no seed
is left or nothing could be heard, the best take there is. The shots that wait continue the new or the best take then.
"""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from ovi_studio.queue.adding import insert_jobs
from ovi_studio.queue.dependencies import refresh_parent_clips
from ovi_studio.queue.files import find_clip_of
from ovi_studio.queue.model import JobState
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.store import Store

ERROR = "error"
"""The entry of scores that says why a take could not be checked."""
_WORD_ERRORS = "word_error_rate"
_UNCHECKED = (
    "SELECT takes.film, takes.job, jobs.clip, jobs.parent_clip FROM takes LEFT JOIN jobs ON jobs.id = takes.job "
    "WHERE takes.scores IS NULL AND (jobs.state = 'done' OR jobs.id IS NULL "
    "AND takes.job NOT IN (SELECT id FROM deleted_jobs)) ORDER BY takes.word_errors IS NULL, jobs.number LIMIT 1"
)


class Choice(IntEnum):
    """Why a take is in the film."""

    NO = 0
    FOLLOWS = 1
    """From what there is and what is asked for."""
    PICKED = 2
    """A person chose it."""


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
    scores: Mapping[str, Any] | None
    """What was measured, or why nothing could be (`ERROR`); None: it was not checked yet."""

    @classmethod
    def of(cls, row: sqlite3.Row) -> "Take":
        """Convert a row of `takes`."""
        scores = None if row["scores"] is None else json.loads(row["scores"])
        return cls(row["shot"], row["number"], row["job"], row["seed"], row["parent"], bool(row["chosen"]), scores)


@dataclass(frozen=True)
class UncheckedTake:
    """A take that is made and was not checked."""

    film: int
    job: str
    clip: Path | None
    """None if it is gone."""
    continues: Path | None
    """The clip with whose last frame it begins."""


class TakeScores:
    """The checks of one studio's takes."""

    def __init__(self, store: Store) -> None:
        self._paths, self._database = store.paths, store.database

    def unchecked(self) -> UncheckedTake | None:
        """The next take to check; those on which something depends come first."""
        with self._database.read() as connection:
            row = connection.execute(_UNCHECKED).fetchone()
        if row is None:
            return None
        outputs = self._paths.outputs
        clip = find_clip_of(self._paths, row["job"]) if row["clip"] is None else outputs / row["clip"]
        before = None if row["parent_clip"] is None else outputs / row["parent_clip"]
        return UncheckedTake(row["film"], row["job"], clip, before)

    def record(self, job: str, scores: Mapping[str, Any]) -> None:
        """Store what was measured about a take, and queue or choose what follows from it."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE takes SET scores = ? WHERE job = ? AND scores IS NULL",
                (json.dumps(scores, ensure_ascii=False), job),
            )
            row = connection.execute("SELECT * FROM takes WHERE job = ?", (job,)).fetchone()
            # A person who picked a take has decided; and an older text or take may have gone out of the film.
            if row is not None and row["word_errors"] is not None and row["chosen"] == Choice.FOLLOWS:
                _decide(connection, self._paths, row)
            refresh_parent_clips(connection)


def take_rows(connection: sqlite3.Connection, film: int) -> list[sqlite3.Row]:
    """All takes of a film, by shot and number."""
    return connection.execute("SELECT * FROM takes WHERE film = ? ORDER BY shot, number", (film,)).fetchall()


def add_take(connection: sqlite3.Connection, values: Mapping[str, Any]) -> None:
    """Insert a take that is not in the film; `values` are all columns but `chosen` and `scores`."""
    connection.execute(
        "INSERT INTO takes (film, shot, number, job, recipe, seed, parent, chosen, word_errors, more_seeds) VALUES "
        "(:film, :shot, :number, :job, :recipe, :seed, :parent, 0, :word_errors, :more_seeds)",
        values,
    )


def choose(connection: sqlite3.Connection, film: int, shot: str, job: str, how: Choice) -> None:
    """Put the take that a job makes into the film, in place of another one of its shot."""
    connection.execute(
        "UPDATE takes SET chosen = CASE job WHEN ? THEN ? ELSE ? END WHERE film = ? AND shot = ?",
        (job, how, Choice.NO, film, shot),
    )


def is_there(connection: sqlite3.Connection, paths: StudioPaths, take: sqlite3.Row) -> bool:
    """Whether a take can still be used: its job will make it, or its clip exists."""
    job = connection.execute("SELECT state, clip FROM jobs WHERE id = ?", (take["job"],)).fetchone()
    if job is None:
        return find_clip_of(paths, take["job"]) is not None
    return job["state"] != JobState.DONE or (paths.outputs / job["clip"]).is_file()


def word_errors(take: sqlite3.Row) -> float | None:
    """The word error rate of a take; None if its words were not checked."""
    return None if take["scores"] is None else json.loads(take["scores"]).get(_WORD_ERRORS)


def has_right_words(take: sqlite3.Row, most: float) -> bool:
    """Whether a take was checked and at most so many of its words are wrong."""
    errors = word_errors(take)
    return errors is not None and errors <= most


def quality(take: sqlite3.Row) -> tuple[float, int, int]:
    """Sorts takes, the best first: by wrong words, then by faults, then by number."""
    scores = json.loads(take["scores"] or "{}")
    errors = scores.get(_WORD_ERRORS)
    return float("inf") if errors is None else errors, len(scores.get("faults", ())), take["number"]


def _decide(connection: sqlite3.Connection, paths: StudioPaths, take: sqlite3.Row) -> None:
    """Let the shots that wait for a take that was checked continue the next one, or the best if it is the last."""
    place = take["film"], take["shot"], take["recipe"], take["parent"]
    alike = [
        row
        for row in take_rows(connection, take["film"])
        if (row["film"], row["shot"], row["recipe"], row["parent"]) == place and is_there(connection, paths, row)
    ]
    following: str | None = None
    if word_errors(take) is not None and not has_right_words(take, take["word_errors"]):
        unchecked = [row["job"] for row in alike if row["scores"] is None]
        following = unchecked[0] if unchecked else _another(connection, take)
    if following is None:
        checked = [row for row in alike if row["scores"] is not None]
        following = min(checked, key=quality, default=take)["job"]
    choose(connection, take["film"], take["shot"], following, Choice.FOLLOWS)
    _continue_from(connection, take["film"], take["job"], following)


def _another(connection: sqlite3.Connection, take: sqlite3.Row) -> str | None:
    """Queue a take with the next seed; returns its job, or None if no seed is left or the first job was deleted."""
    seeds = json.loads(take["more_seeds"] or "[]")
    if not seeds:
        return None
    return _copy(connection, take, {"seed": seeds[0]}, {"seed": seeds[0], "more_seeds": json.dumps(seeds[1:])})


def _continue_from(connection: sqlite3.Connection, film: int, old: str, new: str) -> None:
    """Let the shots that continue one take continue another; those that were made already are made again."""
    moves = [(old, new)] if old != new else []
    while moves:
        old, new = moves.pop()
        children = connection.execute(
            "SELECT takes.*, jobs.state FROM takes LEFT JOIN jobs ON jobs.id = takes.job "
            "WHERE takes.film = ? AND takes.parent = ?",
            (film, old),
        ).fetchall()
        for child in children:
            if child["state"] == JobState.QUEUED:
                connection.execute("UPDATE takes SET parent = ? WHERE job = ?", (new, child["job"]))
                connection.execute(
                    "UPDATE jobs SET parent = ?, parent_clip = NULL, spec = json_set(spec, '$.image', NULL) "
                    "WHERE id = ?",
                    (new, child["job"]),
                )
            elif child["chosen"] and (again := _copy(connection, child, {"image": None}, {"parent": new})):
                choose(connection, film, child["shot"], again, Choice.FOLLOWS)
                moves.append((child["job"], again))


def _copy(
    connection: sqlite3.Connection, take: sqlite3.Row, spec: Mapping[str, Any], changes: Mapping[str, Any]
) -> str | None:
    """Queue a take once more, with changes of its spec and of the take; returns its job.

    None if the first job was deleted, which alone knows the spec.
    """
    row = connection.execute(
        "SELECT batch, priority, spec, variant, steps, guided, parent, parent_clip FROM jobs WHERE id = ?",
        (take["job"],),
    ).fetchone()
    if row is None:
        return None
    columns = dict(row) | {"spec": json.dumps(json.loads(row["spec"]) | dict(spec), ensure_ascii=False)}
    if "parent" in changes:
        columns |= {"parent": changes["parent"], "parent_clip": None}
    (job,) = insert_jobs(connection, [columns])
    number = connection.execute(
        "SELECT MAX(number) + 1 FROM takes WHERE film = ? AND shot = ?", (take["film"], take["shot"])
    ).fetchone()[0]
    add_take(connection, dict(take) | {"number": number, "job": job} | dict(changes))
    return job
