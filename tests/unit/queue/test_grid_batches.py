"""Batches that are grids remember their axes and their cells."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from job_helpers import SPEC, specs

from ovi_studio.core.errors import JobError
from ovi_studio.core.grids import Grid
from ovi_studio.queue.store import Store

GRID = Grid("Seed", ("0", "1", "2"), "Größe", ("a", "b"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(tmp_path / "outputs")) as store:
        yield store


def test_a_grid_is_found_again_after_a_restart(store: Store, tmp_path: Path) -> None:
    store.add(specs(2), "no grid")
    ids = store.add(specs(6), "grid", grid=GRID)
    batch = store.get(ids[0]).batch
    with closing(Store.open(tmp_path / "outputs")) as again:
        grid, jobs = again.grid(batch)
        assert grid == GRID
        assert [jobs[cell].id for cell in range(6)] == ids
        assert again.grid_batches() == {batch}


def test_what_is_no_longer_that_clip_is_no_cell(store: Store) -> None:
    ids = store.add(specs(6), grid=GRID)
    batch = store.get(ids[0]).batch
    store.edit(ids[1], replace(SPEC, seed=99))
    store.delete([ids[2]])
    store.duplicate([ids[3]])
    _, jobs = store.grid(batch)
    assert {cell: job.id for cell, job in jobs.items()} == {0: ids[0], 3: ids[3], 4: ids[4], 5: ids[5]}
    # What is taken back is one again, and what is tried again stays one.
    store.restore([ids[2]])
    store.cancel([ids[4]])
    store.retry([ids[4]])
    _, jobs = store.grid(batch)
    assert sorted(jobs) == [0, 2, 3, 4, 5]


def test_other_batches_and_deleted_ones_are_no_grids(store: Store) -> None:
    (plain,) = store.add([SPEC])
    ids = store.add(specs(6), grid=GRID)
    batch = store.get(ids[0]).batch
    for number in (store.get(plain).batch, 4711):
        with pytest.raises(JobError, match="no longer exists"):
            store.grid(number)
    store.delete(ids)
    assert store.grid(batch)[1] == {}
    with pytest.raises(ValueError, match="6 cells"):
        store.add(specs(2), grid=GRID)
