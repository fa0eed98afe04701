"""Grids: one clip over one or two settings, made as one batch and shown as a table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec

MAX_CELLS = 100
MAX_TEXT = 80
"""Characters of a title or label; longer ones are cut off."""


@dataclass(frozen=True)
class GridPoint:
    """One value on an axis."""

    label: str
    apply: Callable[[ClipSpec], ClipSpec]
    """Returns a clip with this value; raises `JobError`."""


@dataclass(frozen=True)
class GridAxis:
    """A setting and its values, in order. Raises `JobError` for fewer than two, or for one that occurs twice."""

    title: str
    points: tuple[GridPoint, ...]
    changes: frozenset[str]
    """What its values change, by which two axes that would overwrite each other are told."""

    def __post_init__(self) -> None:
        labels = [point.label for point in self.points]
        if len(labels) < 2:
            raise JobError(f"{self.title} has {len(labels) or 'no'} value; give two or more, or choose no such axis.")
        if len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise JobError(f"{self.title} has the value {twice} twice; remove one.")


@dataclass(frozen=True)
class Grid:
    """The axes of a batch, as they are shown; the cells are its clips, row by row."""

    title: str
    """Of the horizontal axis."""
    columns: tuple[str, ...]
    row_title: str = ""
    """Empty if there is one row."""
    rows: tuple[str, ...] = ("",)

    @property
    def cells(self) -> int:
        return len(self.columns) * len(self.rows)

    def to_json(self) -> dict[str, Any]:
        """The inverse of `from_json`."""
        return {
            "title": self.title,
            "columns": list(self.columns),
            "row_title": self.row_title,
            "rows": list(self.rows),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Grid":
        """From what `to_json` returned."""
        columns, rows = tuple(stored["columns"]), tuple(stored["rows"])
        return cls(stored["title"], columns, stored["row_title"], rows)


def expand_grid(base: ClipSpec, across: GridAxis, down: GridAxis | None = None) -> tuple[list[ClipSpec], Grid]:
    """The clips of a grid, row by row, and its axes. Raises `JobError`.

    Args:
        base: the clip whose settings are replaced by those of the values; `across` is applied last.
    """
    rows = down.points if down else (GridPoint("", lambda spec: spec),)
    if (number := len(rows) * len(across.points)) > MAX_CELLS:
        raise JobError(f"That grid has {number} clips; the maximum is {MAX_CELLS}, so use fewer values.")
    if down and (both := across.changes & down.changes):
        names = ", ".join(sorted(name.replace("_", " ") for name in both))
        raise JobError(f"{across.title} and {down.title} both set {names}; choose two that are independent.")
    specs = [column.apply(row.apply(base)) for row in rows for column in across.points]
    labels = tuple(point.label[:MAX_TEXT] for point in across.points)
    if down is None:
        return specs, Grid(across.title[:MAX_TEXT], labels)
    row_labels = tuple(point.label[:MAX_TEXT] for point in down.points)
    return specs, Grid(across.title[:MAX_TEXT], labels, down.title[:MAX_TEXT], row_labels)
