"""`ConnectionPool`: connections to one SQLite file, as many as are in use at the same time and few more.

A server's threads come and go with every burst of requests; a connection of each would stay open with two or three
files, until the process may open no more.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

KEPT = 4
"""Connections that stay open while nobody uses them."""


class ConnectionPool:
    """Lends connections. Thread-safe.

    Args:
        connect: makes one, which any thread may use.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._idle: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._local = threading.local()
        self._epoch = 0

    @contextmanager
    def lend(self) -> Iterator[sqlite3.Connection]:
        """A connection for this thread alone; within a block of the same thread it is the same one."""
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
        """Close those that nobody uses, and the others once they are given back; the next call opens a new one."""
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
