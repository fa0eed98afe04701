"""Inserting jobs: the rows of new batches and of copies."""

import json
import secrets
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ovi_studio.core.errors import JobError
from ovi_studio.core.grids import Grid
from ovi_studio.core.spec import ClipSpec
from ovi_studio.queue.dependencies import parent_columns
from ovi_studio.queue.model import ImprovementOrder
from ovi_studio.queue.order import check_priority, last_position
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.rows import spec_columns

MAX_NAME_LENGTH = 200
"""Maximum length of a batch's name."""


def add_batch(
    connection: sqlite3.Connection,
    paths: StudioPaths,
    specs: Sequence[ClipSpec],
    name: str,
    *,
    priority: int = 0,
    grid: Grid | None = None,
    parents: Sequence[str | int | None] = (),
) -> list[str]:
    """Insert clips, whose pictures are stored, as one batch; returns the ids of the jobs. See `Store.add`.

    Raises `JobError` for a priority out of range, or if there is no job to continue.
    """
    check_priority(priority)
    if parents and len(parents) != len(specs):
        raise ValueError(f"{len(parents)} parents for {len(specs)} clips")
    batch = _insert_batch(connection, name or specs[0].prompt, grid)
    ids = [_new_id() for _ in specs]
    rows = []
    for index, (spec, job) in enumerate(zip(specs, ids, strict=True)):
        row = {**spec_columns(spec), "id": job, "batch": batch, "priority": priority}
        rows.append(row | ({} if grid is None else {"cell": index}))
    for index, (row, parent) in enumerate(zip(rows, parents, strict=False)):
        if parent is not None and specs[index].to_draw is not None:
            raise JobError("A clip that continues another begins with its last frame; leave out draw_first_frame.")
        if isinstance(parent, int):
            if not 0 <= parent < index:
                raise ValueError(f"clip {index} continues clip {parent}, which does not come before it")
            row |= {"parent": ids[parent]}
        elif parent is not None:
            row |= parent_columns(connection, parent, paths)
    return insert_jobs(connection, rows)


def add_improvements(
    connection: sqlite3.Connection,
    paths: StudioPaths,
    orders: Sequence[ImprovementOrder],
    name: str,
    *,
    priority: int = 0,
) -> list[str]:
    """Insert improvements of clips as one batch; see `Store.add_improvements`."""
    check_priority(priority)
    batch = _insert_batch(connection, name or f"{orders[0].improvement.words}: {orders[0].spec.prompt}")
    return insert_jobs(
        connection,
        [
            {
                **spec_columns(replace(order.spec, image=None)),
                **({"parent_clip": order.clip} if order.job is None else parent_columns(connection, order.job, paths)),
                "improvement": json.dumps(order.improvement.to_dict(), ensure_ascii=False),
                "pixels": order.pixels,
                "batch": batch,
                "priority": priority,
            }
            for order in orders
        ],
    )


def _insert_batch(connection: sqlite3.Connection, name: str, grid: Grid | None = None) -> int | None:
    axes = None if grid is None else json.dumps(grid.to_json(), ensure_ascii=False)
    short = " ".join(name.split())[:MAX_NAME_LENGTH]
    return connection.execute(
        "INSERT INTO batches (name, created, grid) VALUES (?, ?, ?)", (short, time.time(), axes)
    ).lastrowid


def insert_jobs(connection: sqlite3.Connection, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Insert waiting jobs at the end of the queue; returns their ids, which are new where a row has none."""
    start, now = last_position(connection), time.time()
    full = [
        dict.fromkeys(("cell", "parent", "parent_clip", "improvement", "pixels"))
        | {"id": _new_id()}
        | dict(row)
        | {"position": start + offset, "created": now}
        for offset, row in enumerate(rows, start=1)
    ]
    connection.executemany(
        "INSERT INTO jobs (id, batch, cell, state, priority, position, spec, variant, steps, guided, created, parent, "
        "parent_clip, improvement, pixels) VALUES (:id, :batch, :cell, 'queued', :priority, :position, :spec, "
        ":variant, :steps, :guided, :created, :parent, :parent_clip, :improvement, :pixels)",
        full,
    )
    return [str(row["id"]) for row in full]


def _new_id() -> str:
    return secrets.token_hex(5)
