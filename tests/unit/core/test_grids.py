"""Grids: one clip over one or two settings."""

import json

import pytest

from ovi_studio.core.errors import JobError
from ovi_studio.core.grids import MAX_CELLS, Grid, GridAxis, GridPoint, expand_grid
from ovi_studio.core.spec import ClipSpec

BASE = ClipSpec(prompt="a ball", variant="demo", seed=7)


def axis(name: str, *values: object) -> GridAxis:
    def point(value: object) -> GridPoint:
        return GridPoint(str(value), lambda spec: spec.with_settings({name: value}))

    return GridAxis(name, tuple(map(point, values)), frozenset({name}))


def test_the_clips_come_row_by_row_and_differ_in_nothing_else() -> None:
    specs, grid = expand_grid(BASE, axis("seed", 1, 2, 3), axis("steps", 10, 20))
    assert [(spec.steps, spec.seed) for spec in specs] == [(10, 1), (10, 2), (10, 3), (20, 1), (20, 2), (20, 3)]
    assert {spec.with_settings({"steps": 50, "seed": 7}) for spec in specs} == {BASE}
    assert (grid.columns, grid.rows, grid.cells) == (("1", "2", "3"), ("10", "20"), 6)


def test_one_axis_gives_one_row() -> None:
    specs, grid = expand_grid(BASE, axis("seed", 1, 2))
    assert [spec.seed for spec in specs] == [1, 2]
    assert (grid.cells, grid.row_title) == (2, "")


def test_axes_survive_storage() -> None:
    for down in (None, axis("steps", 10, 20)):
        _, grid = expand_grid(BASE, axis("seed", 1, 2), down)
        assert Grid.from_json(json.loads(json.dumps(grid.to_json()))) == grid


def test_an_axis_needs_different_values_and_two_axes_must_not_overwrite_each_other() -> None:
    with pytest.raises(JobError, match="has 1 value"):
        axis("steps", 10)
    with pytest.raises(JobError, match="has no value"):
        axis("steps")
    with pytest.raises(JobError, match="the value 10 twice"):
        axis("steps", 10, 20, 10)
    with pytest.raises(JobError, match="both set steps"):
        expand_grid(BASE, axis("steps", 1, 2), axis("steps", 3, 4))
    with pytest.raises(JobError, match=f"the maximum is {MAX_CELLS}"):
        expand_grid(BASE, axis("seed", *range(60)), axis("steps", 10, 20))
    with pytest.raises(JobError, match="steps must be between"):
        expand_grid(BASE, axis("steps", 10, 100_000))
