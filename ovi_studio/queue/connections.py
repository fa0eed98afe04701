"""`ConnectionPool`: connections to an SQLite file, limited to those in use and a few idle ones.

A server creates threads with every burst of requests; one connection per thread would keep two or three files open
each, until the process reaches its limit of open files.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

KEPT = 4
"""Maximum number of idle connections."""


class ConnectionPool:
    """Lends connections. Thread-safe.

    Args:
        connect: opens a connection, which must be usable from any thread.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._idle: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._local = threading.local()
        self._epoch = 0

    @contextmanager
    def lend(self) -> Iterator[sqlite3.Connection]:
        """A connection for exclusive use by this thread; nested blocks of a thread share it."""
        held = getattr(self._local, "held", None)
        if held is not None:
            yield held
            return
        with self._guard:
            epoch = self._epoch
            connection = self._idle.pop() if self._idle else None
        connection = connection or self._connect()
        self._local.held = connection
        try:
            yield connection
        finally:
            self._local.held = None
            self._take_back(connection, epoch)

    def close(self) -> None:
        """Close idle connections now and the others when they are returned; the next `lend` opens a new one."""
        with self._guard:
            idle, self._idle = self._idle, []
            self._epoch += 1
        for connection in idle:
            connection.close()

    def _take_back(self, connection: sqlite3.Connection, epoch: int) -> None:
        with self._guard:
            if epoch == self._epoch and len(self._idle) < KEPT:
                self._idle.append(connection)
                return
        connection.close()
