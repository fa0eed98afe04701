"""The SQLite file: connections, transactions, settings, and the handling of damaged and unwritable files.

Write-ahead log, so that readers never wait. `synchronous=FULL`: a transaction is on the disk when it returns, so that
a power cut does not undo anything that was confirmed. With `NORMAL` the file would be intact, but the last seconds
could be missing, such as a claim, and then a job could run once too often. Progress is the exception: it is reported
with every step and worthless after a power cut, so it does not wait for the disk.

A damaged file is detected when it is opened. It is renamed to `jobs.db.damaged-<n>`, a new one is created, and a notice
says so; finished clips are separate files and not affected.
"""

import itertools
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ovi_studio.core.errors import JobError
from ovi_studio.media.small_files import folder_errors, part_path
from ovi_studio.queue.connections import ConnectionPool
from ovi_studio.queue.locks import Lock
from ovi_studio.queue.model import Notice
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.schema import migrate

BUSY_SECONDS = 15.0
"""How long a transaction waits for others; the longest one takes well under a second."""
_FILE_SUFFIXES = ("", "-wal", "-shm")
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_NOT_WRITABLE = "The job database {} is not writable; change its permissions or those of its folder."
_IS_DAMAGED = "The job database {} is damaged; restart Ovi Studio to create a new one."
_ADVICE = {
    sqlite3.SQLITE_FULL: "There is no space left for the job database {}; free up some space.",
    sqlite3.SQLITE_READONLY: _NOT_WRITABLE,
    sqlite3.SQLITE_PERM: _NOT_WRITABLE,
    sqlite3.SQLITE_CANTOPEN: "The job database {} cannot be opened; check the permissions of its folder and the disk.",
    sqlite3.SQLITE_IOERR: "The disk reports an error for the job database {}; check its free space and its health.",
    sqlite3.SQLITE_BUSY: "Another program has locked the job database {}; close it, then try again.",
    sqlite3.SQLITE_CORRUPT: _IS_DAMAGED,
    sqlite3.SQLITE_NOTADB: _IS_DAMAGED,
}


class Database:
    """A database for any number of threads. Every method may raise `JobError`."""

    def __init__(self, paths: StudioPaths) -> None:
        self.paths = paths
        self._pool = ConnectionPool(partial(_connect, paths.database))
        paths.prepare()
        # Only one process at a time may check and replace the file.
        with folder_errors(paths.state):
            lock = Lock.acquire(paths.state / "opening.lock", 60)
        if lock is None:
            raise JobError(f"Another program has locked {paths.state}; close it, then try again.")
        with lock, self._advice():
            aside = _set_aside(paths.database) if _is_damaged(paths.database) else None
            if not paths.database.exists():
                _create(paths.database)
            with self._pool.lend() as connection:
                migrate(connection)
            self._identity = _identity(paths.database)
        if aside is not None:
            self.add_notice(
                f"The job database was damaged. It was renamed to {aside.name} and a new one was created; waiting jobs "
                f"have to be added again. All finished clips are still there."
            )

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection for one `SELECT`."""
        with self._advice(), self._pool.lend() as connection:
            yield connection

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """An exclusive transaction, which counts as one change; rolled back if the block raises."""
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
        """Increases with every transaction of any process, including progress; an unchanged value means no news."""
        with self.read() as connection:
            return connection.execute("SELECT value FROM changes").fetchone()[0]

    def replaced(self) -> bool:
        """Whether the opened file was replaced since: renamed as damaged, or deleted."""
        return _identity(self.paths.database) != self._identity

    def setting(self, key: str, default: Any = None) -> Any:
        """The JSON value that is stored under a name."""
        with self.read() as connection:
            row = connection.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return default if row is None else json.loads(row[0])

    def put_setting(self, key: str, value: Any) -> None:
        """Store a JSON value under a name."""
        self.put_settings({key: value})

    def put_settings(self, values: Mapping[str, Any]) -> None:
        """Store JSON values under their names, in one transaction."""
        with self.write() as connection:
            rows = [(key, json.dumps(value)) for key, value in values.items()]
            connection.executemany("INSERT OR REPLACE INTO settings VALUES (?, ?)", rows)

    def settings(self, prefix: str) -> dict[str, str]:
        """The stored JSON of all names that begin like this."""
        with self.read() as connection:
            rows = connection.execute("SELECT key, value FROM settings WHERE key GLOB ?", (f"{prefix}*",))
            return dict(rows.fetchall())

    def notices(self) -> list[Notice]:
        """The notices for the user, the latest first."""
        with self.read() as connection:
            return [Notice(*row) for row in connection.execute("SELECT * FROM notices ORDER BY id DESC LIMIT 100")]

    def add_notice(self, text: str) -> None:
        """Show a message to the user until it is dismissed."""
        with self.write() as connection:
            connection.execute("INSERT INTO notices (text, created) VALUES (?, ?)", (text, time.time()))

    def dismiss_notice(self, notice: int) -> None:
        """Remove a notice."""
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
    # Only one thread at a time uses a connection, but not always the same thread.
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _create(path: Path) -> None:
    """Create a database, which gets its name only when it has its tables: a file without tables counts as damaged."""
    part = part_path(path)
    for suffix in _FILE_SUFFIXES:
        part.with_name(part.name + suffix).unlink(missing_ok=True)
        # The log of a deleted file would be taken for that of the new one.
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    with closing(_connect(part)) as connection:
        migrate(connection)
    part.replace(path)


def _code(error: sqlite3.Error) -> int:
    """The primary error code; 0 for errors of the Python module itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_damaged(path: Path) -> bool:
    if not path.exists():
        return False
    if path.stat().st_size == 0:
        return True
    try:
        # Read-only, so that the file and its log stay unchanged for a possible rescue.
        address = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, timeout=BUSY_SECONDS, uri=True)) as connection:
            return connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok"
    except sqlite3.DatabaseError as error:
        if _code(error) in _DAMAGED:
            return True
        raise


def _set_aside(path: Path) -> Path:
    """Rename a database together with its log files."""
    aside = next(
        candidate
        for number in itertools.count(1)
        if not (candidate := path.with_name(f"{path.name}.damaged-{number}")).exists()
    )
    with folder_errors(path.parent):
        for suffix in _FILE_SUFFIXES:
            source = path.with_name(path.name + suffix)
            if source.exists():
                source.replace(aside.with_name(aside.name + suffix))
    return aside


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
