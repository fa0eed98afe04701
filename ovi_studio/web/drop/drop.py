"""The component behind dropped files: it takes them by their tickets, fills the form, and reports on each file."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.services.intake import LIMITS, Intake, Outcome
from ovi_studio.web.drop import texts
from ovi_studio.web.events import EACH
from ovi_studio.web.public_text import for_page
from ovi_studio.web.tabs import CREATE_TAB
from ovi_studio.web.toasts import Toasts

_MAX_FILES = 100


class DropForm(Protocol):
    """The part of the Create form that dropped files fill."""

    @property
    def first_frame(self) -> Any: ...

    @property
    def table(self) -> Any: ...

    @property
    def outputs(self) -> list[Any]: ...

    def fill(self, spec: ClipSpec | None = None, *, prompt: str | None = None, notice: str = "") -> list[Any]: ...


def build_drop(intake: Intake, form: DropForm, tabs: gr.Tabs, toasts: Toasts) -> None:
    """Build the component; files that belong into the form fill `form` and switch to it in `tabs`."""
    script = (Path(__file__).parent / "drop.js").read_text(encoding="utf-8")
    place = gr.HTML(
        {},
        html_template="",
        js_on_load=script,
        elem_id="drop-source",
        apply_default_css=False,
        accept=",".join(LIMITS),
        words=texts.WORDS,
    )

    def take(event: gr.EventData, request: gr.Request) -> list[Any]:
        outcomes = intake.take(_tickets(event), in_library=_flag(event, "library"), replace=_flag(event, "replace"))
        # What can be taken back is told where that is offered.
        replaced = [outcome for outcome in outcomes if outcome.undo]
        offer = toasts.undoable(request, _sentence(replaced), _undo_all(replaced)) if replaced else gr.skip()
        rest = [outcome for outcome in outcomes if not outcome.undo]
        return [*_filled(form, outcomes), _report(rest), offer]

    def leave(event: gr.EventData) -> None:
        for ticket in _tickets(event):
            intake.discard(ticket)

    place.taken(take, None, [*form.outputs, tabs, place, toasts.component], **EACH)
    place.left(leave, None, None, **EACH)


def _filled(form: DropForm, outcomes: Sequence[Outcome]) -> list[Any]:
    """Return updates for the form and the tabs."""
    outputs = form.outputs
    spec = next((outcome.spec for outcome in outcomes if outcome.spec), None)
    updates = [gr.skip()] * len(outputs) if spec is None else form.fill(spec)
    filled = spec is not None
    for outcome in outcomes:
        for component, path in ((form.first_frame, outcome.picture), (form.table, outcome.table)):
            if path is not None:
                updates[[id(output) for output in outputs].index(id(component))] = str(path)
                filled = True
    return [*updates, gr.Tabs(selected=CREATE_TAB) if filled else gr.skip()]


def _report(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    files = [
        {"name": outcome.name, "sentence": for_page(outcome.sentence), "kind": outcome.kind, "ticket": outcome.ticket}
        for outcome in outcomes
    ]
    return {"files": files}


def _sentence(outcomes: Sequence[Outcome]) -> str:
    """What is said of files that replaced others."""
    return outcomes[0].sentence if len(outcomes) == 1 else texts.replaced([outcome.name for outcome in outcomes])


def _undo_all(outcomes: Sequence[Outcome]) -> Callable[[], None]:
    """Return what takes all of these back; one that cannot be keeps no other from it."""

    def undo() -> None:
        errors = []
        for outcome in reversed(outcomes):
            try:
                if outcome.undo:
                    outcome.undo()
            except JobError as error:
                errors.append(f"{outcome.name}: {error}")
        if errors:
            raise JobError(" ".join(errors))

    return undo


def _tickets(event: gr.EventData) -> list[str]:
    given = getattr(event, "tickets", None)
    return [ticket for ticket in given if isinstance(ticket, str)][:_MAX_FILES] if isinstance(given, list) else []


def _flag(event: gr.EventData, name: str) -> bool:
    return getattr(event, name, None) is True
