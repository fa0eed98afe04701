"""Grids of the page, the API and MCP: a request for one clip, made over one setting or two. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ovi_studio.core.adapter_stack import Stack
from ovi_studio.core.errors import JobError
from ovi_studio.core.grids import Grid, expand_grid
from ovi_studio.core.requests import Expansion, Request
from ovi_studio.services.grid_axes import AxisKind, axis_kinds, read_axis

if TYPE_CHECKING:
    from ovi_studio.services.studio import Studio


@dataclass(frozen=True)
class ChosenAxis:
    """An axis as it was asked for."""

    kind: str
    """The name of an `AxisKind`."""
    values: Sequence[str]


@dataclass(frozen=True)
class PlannedGrid:
    """The clips of a grid, which are not queued yet."""

    expansion: Expansion
    """Of the cells, row by row; its notes and warnings are those of the one request."""
    grid: Grid


def grid_kinds(studio: "Studio", stack: Stack = ()) -> Mapping[str, AxisKind]:
    """Return every kind of axis that a clip with these adapters can have, by name."""
    found, _ = studio.preset_offers()
    return axis_kinds([offer.preset for offer in found if offer.usable], stack)


def plan_grid(studio: "Studio", request: Request, across: ChosenAxis, down: ChosenAxis | None = None) -> PlannedGrid:
    """Expand a request to a grid; raises `JobError` if it is not one clip, or an axis is not valid."""
    expansion = studio.expand(replace(request, count=1))
    if len(expansion.specs) != 1:
        raise JobError("A grid is made of one clip; remove the braces and wildcards from the prompt.")
    (base,) = expansion.specs
    kinds = grid_kinds(studio, base.stack)
    first, *second = (read_axis(_kind(kinds, axis.kind), axis.values, base) for axis in (across, down) if axis)
    specs, grid = expand_grid(base, first, *second)
    return PlannedGrid(replace(expansion, specs=tuple(specs)), grid)


def _kind(kinds: Mapping[str, AxisKind], name: str) -> AxisKind:
    if name not in kinds:
        raise JobError(f"A grid cannot have the axis {name[:60]!r}; choose one of {', '.join(kinds)}.")
    return kinds[name]
