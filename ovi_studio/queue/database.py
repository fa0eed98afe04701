"""The SQLite file: connections, transactions, settings, and what to do if it is damaged or cannot be written.

Write-ahead log, so that readers never wait. `synchronous=FULL`: a transaction is on the disk when it returns, so that
a power cut undoes nothing that somebody was told; with `NORMAL` the file would be whole but the last seconds could be
missing, such as a claim, and then a job would run once more than it may. Progress is the exception: it comes with every
step and is worth nothing after a power cut, so it does not wait for the disk.

A file that is damaged is found when it is opened. It is kept aside as `jobs.db.damaged-<n>`, a new one is begun, and a
notice says so; the clips that were finished are files and stay.
"""

import itertools
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ovi_studio.core.errors import JobError
from ovi_studio.media.small_files import folder_errors
from ovi_studio.queue.connections import ConnectionPool
from ovi_studio.queue.locks import Lock
from ovi_studio.queue.model import Notice
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.schema import migrate

BUSY_SECONDS = 15.0
"""How long a transaction waits for others; the longest of ours takes well under a second."""
_COMPANIONS = ("", "-wal", "-shm")
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_ADVICE = {
    sqlite3.SQLITE_FULL: "There is no space left for the job database {}; free some.",
    sqlite3.SQLITE_READONLY: "The job database {} cannot be written; change its rights or its folder's.",
    sqlite3.SQLITE_PERM: "The job database {} cannot be written; change its rights or its folder's.",
    sqlite3.SQLITE_CANTOPEN: "The job database {} cannot be opened; check the rights of its folder and the disk.",
    sqlite3.SQLITE_IOERR: "The disk refuses the job database {}; check that it has space and is not failing.",
    sqlite3.SQLITE_BUSY: "Another program keeps the job database {} locked; end it, then try again.",
    sqlite3.SQLITE_CORRUPT: "The job database {} is damaged; start Ovi Studio again, it then begins a new one.",
    sqlite3.SQLITE_NOTADB: "The job database {} is damaged; start Ovi Studio again, it then begins a new one.",
}


class Database:
    """One database, for any number of threads. Every method may raise `JobError`."""

    def __init__(self, paths: StudioPaths) -> None:
        self.paths = paths
        self._pool = ConnectionPool(partial(_connect, paths.database))
        paths.prepare()
        # One process at a time looks at the file and may replace it.
        with folder_errors(paths.state):
            lock = Lock.wait(paths.state / "opening.lock", 60)
        if lock is None:
            raise JobError(f"Another program keeps {paths.state} locked; end it, then try again.")
        with lock, self._advice():
            aside = _set_aside(paths.database) if _is_damaged(paths.database) else None
            if not paths.database.exists():
                _begin(paths.database)
            with self._pool.lend() as connection:
                migrate(connection)
            self._identity = _identity(paths.database)
        if aside is not None:
            self.add_notice(
                f"The job database was damaged. It was kept as {aside.name} and a new one was begun; jobs that waited "
                f"have to be added again. The clips that were finished are all there."
            )

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection for one `SELECT`."""
        with self._advice(), self._pool.lend() as connection:
            yield connection

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction that nobody can come between; counts as one change. Undone if the block raises."""
        with self._advice(), self._pool.lend() as connection:
            if not durable:
                connection.execute("PRAGMA synchronous = NORMAL")
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("UPDATE changes SET value = value + 1")
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if not durable:
                    connection.execute("PRAGMA synchronous = FULL")

    def change_counter(self) -> int:
        """Grows with every transaction of anybody, progress included; a page that knows it need not look again."""
        with self.read() as connection:
            return connection.execute("SELECT value FROM changes").fetchone()[0]

    def replaced(self) -> bool:
        """Whether the file is not the one any more that was opened: set aside as damaged, or deleted."""
        return _identity(self.paths.database) != self._identity

    def setting(self, key: str, default: Any = None) -> Any:
        """A JSON value that was kept under a name."""
        with self.read() as connection:
            row = connection.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return default if row is None else json.loads(row[0])

    def put_setting(self, key: str, value: Any) -> None:
        """Keep a JSON value under a name."""
        with self.write() as connection:
            connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, json.dumps(value)))

    def notices(self) -> list[Notice]:
        """What people should know, the latest first."""
        with self.read() as connection:
            return [Notice(*row) for row in connection.execute("SELECT * FROM notices ORDER BY id DESC LIMIT 100")]

    def add_notice(self, text: str) -> None:
        """Tell people something until they put it away."""
        with self.write() as connection:
            connection.execute("INSERT INTO notices (text, created) VALUES (?, ?)", (text, time.time()))

    def dismiss_notice(self, notice: int) -> None:
        """Put a notice away."""
        with self.write() as connection:
            connection.execute("DELETE FROM notices WHERE id = ?", (notice,))

    def close(self) -> None:
        """Close the connections; the next call opens a new one."""
        self._pool.close()

    @contextmanager
    def _advice(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            sentence = _ADVICE.get(_code(error))
            if sentence is None:
                raise
            raise JobError(sentence.format(self.paths.database)) from error


def _connect(path: Path) -> sqlite3.Connection:
    # One thread at a time uses a connection, but not always the same one.
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _begin(path: Path) -> None:
    """Make a new file, which appears under its name when it has its tables: one without is damaged."""
    part = path.with_name(f"{path.name}.part")
    for companion in _COMPANIONS:
        part.with_name(part.name + companion).unlink(missing_ok=True)
        # What lay beside a file that is gone would be taken for a part of the new one.
        path.with_name(path.name + companion).unlink(missing_ok=True)
    with closing(_connect(part)) as connection:
        migrate(connection)
    part.replace(path)


def _code(error: sqlite3.Error) -> int:
    """The primary error code; errors of the Python module itself have none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_damaged(path: Path) -> bool:
    if not path.exists():
        return False
    if path.stat().st_size == 0:
        return True
    try:
        # Read only, so that what belongs to the file is left as it was for whoever wants to rescue it.
        address = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, timeout=BUSY_SECONDS, uri=True)) as connection:
            return connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok"
    except sqlite3.DatabaseError as error:
        if _code(error) in _DAMAGED:
            return True
        raise


def _set_aside(path: Path) -> Path:
    """Rename a database with what belongs to it."""
    aside = next(
        candidate
        for number in itertools.count(1)
        if not (candidate := path.with_name(f"{path.name}.damaged-{number}")).exists()
    )
    with folder_errors(path.parent):
        for companion in _COMPANIONS:
            source = path.with_name(path.name + companion)
            if source.exists():
                source.replace(aside.with_name(aside.name + companion))
    return aside


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
