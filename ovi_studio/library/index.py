"""The index of the output folder, in a separate SQLite file. It is only a cache and may be deleted.

Files that are not clips have rows, too, so that they are not read again until they change. Thread-safe. A damaged index
is recreated; a full or read-only disk raises `JobError`.
"""

import json
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ovi_studio.core.errors import JobError
from ovi_studio.library.clips import Query
from ovi_studio.library.probe import Facts
from ovi_studio.library.search import Term
from ovi_studio.library.text import fold
from ovi_studio.media.small_files import folder_errors

_VERSION = 2
_SCHEMA = """
CREATE TABLE files (
    name TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    poster INTEGER NOT NULL,
    id TEXT UNIQUE,
    recipe TEXT, variant TEXT, model TEXT, seed TEXT, pictured INTEGER, height INTEGER, width INTEGER, seconds REAL,
    favourite INTEGER, tags TEXT, lora TEXT, words TEXT, spec TEXT
) STRICT;
CREATE INDEX files_by_time ON files (modified, name);
CREATE INDEX files_by_recipe ON files (recipe);
"""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Stamp(NamedTuple):
    """Identifies the version of a file that was read. There are thousands, so this is not a dataclass."""

    bytes: int
    modified: int
    """Nanoseconds since 1970."""
    poster: bool
    """Whether there is a poster next to the file."""


@dataclass(frozen=True)
class Read:
    """A file that was read; it is a clip if it has facts."""

    name: str
    stamp: Stamp
    id: str = ""
    facts: Facts | None = None
    favourite: bool = False
    tags: Collection[str] = ()


class Index:
    """The table of known files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self.opened = 0
        """How often the index was opened; it may have been recreated each time."""

    def stamps(self) -> dict[str, Stamp]:
        """The stamps of all known files."""
        with self._open() as connection:
            rows = connection.execute("SELECT name, bytes, modified, poster FROM files").fetchall()
        return {name: Stamp(size, modified, bool(poster)) for name, size, modified, poster in rows}

    def update(self, gone: Collection[str], read: Collection[Read], posters: Mapping[str, bool]) -> None:
        """Remove files that are gone, store those that were read, and update whether known files have posters."""
        with self._open() as connection, connection:
            connection.executemany("DELETE FROM files WHERE name = ?", [(name,) for name in gone])
            connection.executemany(f"INSERT OR REPLACE INTO files VALUES ({', '.join('?' * 18)})", map(_row, read))
            changed = [(int(there), name) for name, there in posters.items()]
            connection.executemany("UPDATE files SET poster = ? WHERE name = ?", changed)

    def discard(self, name: str) -> None:
        """Treat a file as not a clip until it changes."""
        with self._open() as connection, connection:
            connection.execute("UPDATE files SET id = NULL WHERE name = ?", (name,))

    def mark(self, recipes: Collection[str]) -> None:
        """Mark the clips with these recipes, and no others, as favourites."""
        with self._open() as connection, connection:
            connection.execute(
                "UPDATE files SET favourite = recipe IN (SELECT value FROM json_each(:all)) WHERE id IS NOT NULL "
                "AND favourite != (recipe IN (SELECT value FROM json_each(:all)))",
                {"all": json.dumps(sorted(recipes))},
            )

    def tag(self, changed: Mapping[str, Collection[str]]) -> None:
        """Replace the tags of the clips with these recipes."""
        with self._open() as connection, connection:
            rows = [(_lines(tags), recipe) for recipe, tags in changed.items()]
            connection.executemany("UPDATE files SET tags = ? WHERE recipe = ?", rows)

    def clear_tags(self) -> None:
        """Remove the tags of all clips."""
        with self._open() as connection, connection:
            connection.execute("UPDATE files SET tags = '' WHERE tags != ''")

    def find(self, clip: str) -> sqlite3.Row | None:
        """The row of a clip; None if there is none."""
        with self._open() as connection:
            return connection.execute("SELECT * FROM files WHERE id = ?", (clip,)).fetchone()

    def named(self, name: str) -> str | None:
        """The id of the clip in this file."""
        with self._open() as connection:
            row = connection.execute("SELECT id FROM files WHERE name = ?", (name,)).fetchone()
            return None if row is None else row["id"]

    def select(self, query: Query) -> tuple[list[sqlite3.Row], int]:
        """The rows of one page, and the number of rows on all pages."""
        where, values = _conditions(query)
        order = "DESC" if query.order == "newest" else "ASC"
        with self._open() as connection:
            total = connection.execute(f"SELECT count(*) FROM files WHERE {where}", values).fetchone()[0]
            rows = connection.execute(
                f"SELECT * FROM files WHERE {where} ORDER BY modified {order}, name {order} LIMIT ? OFFSET ?",
                [*values, query.limit, query.offset],
            ).fetchall()
        return rows, total

    def variants(self) -> list[str]:
        """The variants that occur in clips."""
        with self._open() as connection:
            rows = connection.execute("SELECT DISTINCT variant FROM files WHERE id IS NOT NULL ORDER BY variant")
            return [row[0] for row in rows]

    def with_recipe(self, recipe: str) -> str | None:
        """The id of a clip with this recipe."""
        with self._open() as connection:
            row = connection.execute("SELECT id FROM files WHERE recipe = ? AND id IS NOT NULL", (recipe,)).fetchone()
            return None if row is None else row[0]

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._connect()
                    self.opened += 1
                yield self._connection
            except sqlite3.DatabaseError as error:
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code in _DAMAGED:
                    self._remove()
                    raise JobError(
                        "The library's index was damaged and will be rebuilt; reload the library."
                    ) from error
                if isinstance(error, sqlite3.OperationalError):
                    raise JobError(
                        f"The library's index {self.path} cannot be used ({error}); check the disk's free space and "
                        f"permissions."
                    ) from error
                raise

    def _connect(self) -> sqlite3.Connection:
        with folder_errors(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = _connection(self.path)
        try:
            usable = _prepare(connection)
        except sqlite3.DatabaseError as error:
            connection.close()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
                raise
            usable = False
        if not usable:
            connection.close()
            self._remove()
            connection = _connection(self.path)
            _prepare(connection)
        return connection

    def _remove(self) -> None:
        self.close()
        with folder_errors(self.path.parent):
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)


def _connection(path: Path) -> sqlite3.Connection:
    # One connection for all threads; the lock serialises access.
    connection = sqlite3.connect(path, timeout=15, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    return connection


def _prepare(connection: sqlite3.Connection) -> bool:
    """Create missing tables; returns whether the file has the tables of this version."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == _VERSION:
        connection.execute("SELECT * FROM files LIMIT 0")
        return connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
    if version != 0 or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return False
    connection.execute("PRAGMA journal_mode = WAL")
    # A cache does not need to wait for the disk.
    connection.execute("PRAGMA synchronous = NORMAL")
    with suppress(sqlite3.OperationalError):  # another process was faster
        connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
    if connection.in_transaction:
        connection.rollback()
    return True


def _row(read: Read) -> tuple[object, ...]:
    known = (read.name, read.stamp.bytes, read.stamp.modified, int(read.stamp.poster))
    if read.facts is None:
        return (*known, *[None] * 14)
    facts, spec = read.facts, read.facts.spec
    height, width = facts.size
    return (
        *known, read.id, facts.recipe, spec.variant, fold(spec.variant), str(spec.seed), int(spec.image is not None),
        height, width, facts.seconds, int(read.favourite), _lines(read.tags), _lines(use.name for use in spec.stack),
        fold(spec.prompt), json.dumps(spec.to_dict()),
    )  # fmt: skip


def _lines(texts: Iterable[str]) -> str:
    """Folded texts between line breaks, so that a whole one can be found."""
    return "".join(f"\n{fold(text)}\n" for text in texts)


def _conditions(query: Query) -> tuple[str, list[object]]:
    clauses: list[str] = ["id IS NOT NULL"]
    values: list[object] = []
    for term in query.terms:
        clause, given = _condition(term)
        clauses.append(f"NOT ({clause})" if term.excluded else f"({clause})")
        values += given
    if query.variant is not None:
        clauses.append("variant = ?")
        values.append(query.variant)
    if query.favourites_only:
        clauses.append("favourite = 1")
    if query.with_picture is not None:
        clauses.append("pictured = ?")
        values.append(int(query.with_picture))
    return " AND ".join(clauses), values


def _condition(term: Term) -> tuple[str, list[object]]:
    # Not LIKE, since the words may contain percent signs.
    match term.kind:
        case "word":
            return "instr(words, ?) > 0 OR instr(tags, ?) > 0", [term.value] * 2
        case "tag":
            return "instr(tags, ?) > 0", [f"\n{term.value}\n"]
        case "lora" | "model":
            return f"instr({term.kind}, ?) > 0", [term.value]
        case "seed":
            return "seed = ?", [term.value]
        case "favourite":
            return "favourite = 1", []
        case "frame":
            return "pictured = 1", []
        case "from":
            return "modified >= ?", [int(term.value) * 10**9]
        case "until":
            return "modified < ?", [int(term.value) * 10**9]
