"""Grids on the stage: choosing the axes, queueing one as a batch, and showing it as a table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ovi_studio.core.adapter_stack import parse_stack
from ovi_studio.core.errors import JobError
from ovi_studio.core.requests import Request
from ovi_studio.services.grid_axes import AxisKind, axis_kinds
from ovi_studio.services.grids import ChosenAxis, grid_kinds, plan_grid
from ovi_studio.services.studio import Studio
from ovi_studio.web.events import LATEST, PRIVATE
from ovi_studio.web.tabs.create.stage import grid_views, texts
from ovi_studio.web.toasts import Toasts

_NOTHING = "nothing"
_MAX_DIGITS = 18
"""Of a batch's number; SQLite has no larger ones."""


@dataclass(frozen=True)
class FormReader:
    """How the clip in the Create form is read."""

    inputs: Sequence[Any]
    """The form's components."""
    read: Callable[..., Request]
    """Takes their values; raises `JobError`."""
    stacks: Sequence[gr.Textbox]
    """Those that hold adapters as JSON."""


@dataclass(frozen=True)
class _AxisFields:
    kind: gr.Dropdown
    values: gr.Dropdown


def connect_grid(studio: Studio, reader: FormReader, strip: gr.HTML, table: gr.HTML, toasts: Toasts) -> None:
    """Build the fields that make a grid, and connect them and the table that shows one."""
    handlers = GridHandlers(studio, reader, toasts)
    with gr.Accordion(texts.MAKE_GRID, open=False, elem_id="grid-maker") as maker:
        gr.Markdown(texts.GRID_ABOUT)
        across, down = _axis_fields(texts.ACROSS, "seed"), _axis_fields(texts.DOWN, _NOTHING)
        queue = gr.Button(texts.QUEUE_GRID, elem_id="queue-grid")
    stacks = list(reader.stacks)
    maker.expand(handlers.list_axes, [across.kind, down.kind, *stacks], [across.kind, down.kind], **LATEST)
    for fields in (across, down):
        fields.kind.input(handlers.offer_values, [fields.kind, *stacks], fields.values, **LATEST)
    axes = [across.kind, across.values, down.kind, down.values]
    queue.click(handlers.queue, [*axes, *reader.inputs], toasts.component, **PRIVATE)
    strip.grid(handlers.show, None, table, **LATEST)


def _axis_fields(label: str, chosen: str) -> _AxisFields:
    kinds = axis_kinds((), ())
    choices = [(kind.title, kind.name) for kind in kinds.values()]
    if chosen == _NOTHING:
        choices.insert(0, (texts.NO_AXIS, _NOTHING))
    offered = list(kinds[chosen].values.items()) if chosen in kinds else []
    with gr.Row(elem_classes="axis"):
        kind = gr.Dropdown(choices, value=chosen, label=label, filterable=False, min_width=150, scale=1)
        values = gr.Dropdown(
            offered,
            value=[],
            label=texts.VALUES,
            info=texts.VALUES_HINT,
            multiselect=True,
            allow_custom_value=True,
            min_width=200,
            scale=2,
        )
    return _AxisFields(kind, values)


class GridHandlers:
    """The functions behind the fields and the table."""

    def __init__(self, studio: Studio, reader: FormReader, toasts: Toasts) -> None:
        self._studio = studio
        self._reader = reader
        self._toasts = toasts

    def list_axes(self, across: str, down: str, *stacks: str) -> Any:
        """Offer the axes that the form's clip can have, among them the strengths of its adapters."""
        kinds = self._kinds(stacks)
        choices = [(kind.title, kind.name) for kind in kinds.values()]
        return (
            gr.Dropdown(choices=choices, value=across if across in kinds else "seed"),
            gr.Dropdown(choices=[(texts.NO_AXIS, _NOTHING), *choices], value=down if down in kinds else _NOTHING),
        )

    def offer_values(self, chosen: str, *stacks: str) -> Any:
        """Offer the values of an axis."""
        kind = self._kinds(stacks).get(chosen)
        return gr.Dropdown(choices=list(kind.values.items()) if kind else [], value=[])

    def queue(self, across: str, across_values: list[str], down: str, down_values: list[str], *values: Any) -> Any:
        """Queue the form's clip as a grid."""
        try:
            rows = None if down == _NOTHING else ChosenAxis(down, down_values or [])
            planned = plan_grid(self._studio, self._reader.read(*values), ChosenAxis(across, across_values or []), rows)
            self._studio.queue(planned.expansion.specs, grid=planned.grid)
        except JobError as error:
            return self._toasts.note(f"{texts.NOT_DONE}: {error}", failed=True)
        return self._toasts.note(texts.grid_queued(planned.grid.cells))

    def show(self, event: gr.EventData) -> str:
        """Show the grid of a batch, or nothing."""
        batch = str(event._data.get("batch") if isinstance(event._data, dict) else "")
        if not batch.isdecimal() or len(batch) > _MAX_DIGITS:
            return ""
        try:
            grid, jobs = self._studio.store.grid(int(batch))
        except JobError as error:
            return grid_views.gone_html(str(error))
        name = next((job.batch_name for job in jobs.values()), "")
        return grid_views.grid_html(grid, jobs, name)

    def _kinds(self, stacks: Sequence[str]) -> Mapping[str, AxisKind]:
        return grid_kinds(self._studio, tuple(use for stack in stacks for use in parse_stack(stack)))
