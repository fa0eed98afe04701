"""Deleted jobs, kept for a short time as they were, so that a deletion can be taken back.

They are out of the queue at once: no other query knows them. Their batches and their first frames stay as long as they
do. The next deletion after `KEPT_SECONDS` removes them for good.
"""

import json
import sqlite3
import time
from collections.abc import Collection
from typing import Any

from ovi_studio.queue.dependencies import refresh_parent_clips

KEPT_SECONDS = 600.0


def delete(connection: sqlite3.Connection, where: str, values: dict[str, Any]) -> int:
    """Move the jobs that match a condition out of the queue; returns how many."""
    now = time.time()
    # A clock that was set back must not keep them for ever.
    connection.execute("DELETE FROM deleted_jobs WHERE ABS(deleted - ?) > ?", (now, KEPT_SECONDS))
    names = ", ".join(_columns(connection))
    rows = connection.execute(f"DELETE FROM jobs WHERE {where} RETURNING {names}", values).fetchall()
    connection.executemany(
        "INSERT OR REPLACE INTO deleted_jobs VALUES (?, ?, ?, ?, ?)",
        [(row["id"], row["batch"], _picture(row), json.dumps(dict(row)), now) for row in rows],
    )
    connection.execute(
        "DELETE FROM batches WHERE id NOT IN (SELECT batch FROM jobs) AND id NOT IN (SELECT batch FROM deleted_jobs)"
    )
    return len(rows)


def restore(connection: sqlite3.Connection, ids: Collection[str]) -> int:
    """Put deleted jobs back where they were; returns how many there still were."""
    wanted = json.dumps(list(ids))
    rows = connection.execute(
        "DELETE FROM deleted_jobs WHERE id IN (SELECT value FROM json_each(?)) RETURNING row", (wanted,)
    ).fetchall()
    for row in rows:
        values = json.loads(row["row"])
        names = ", ".join(values)
        places = ", ".join(f":{name}" for name in values)
        connection.execute(f"INSERT INTO jobs ({names}) VALUES ({places})", values)
    refresh_parent_clips(connection)
    return len(rows)


def _columns(connection: sqlite3.Connection) -> list[str]:
    """The columns that are stored; those that SQLite computes cannot be put back."""
    return [row["name"] for row in connection.execute("PRAGMA table_info(jobs)")]


def _picture(row: sqlite3.Row) -> str | None:
    return json.loads(row["spec"])["image"]
