"""What the page answers after files were dropped on it."""

from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from ovi_studio.core.errors import JobError
from ovi_studio.services.intake import Outcome
from ovi_studio.services.undo import UndoLog
from ovi_studio.web.drop.drop import build_drop
from ovi_studio.web.toasts import Toasts


def answer_of(outcomes: list[Outcome], log: UndoLog) -> dict[str, Any]:
    """Let a page take files that become these; returns what its toasts are told."""
    intake: Any = SimpleNamespace(take=lambda tickets, **how: outcomes)
    with gr.Blocks() as page:
        form: Any = SimpleNamespace(outputs=[gr.Image(), gr.File()])
        form.first_frame, form.table = form.outputs
        build_drop(intake, form, gr.Tabs(), Toasts(log))
    (take,) = (handler.fn for handler in page.fns.values() if handler.name == "take")
    return take(SimpleNamespace(tickets=["a" * 32], replace=True), SimpleNamespace(session_hash="me"))[-1]


def test_several_replaced_files_are_taken_back_by_one_undo() -> None:
    log, undone = UndoLog(), []

    def too_late() -> None:
        raise JobError("It is too late to undo this.")

    undos = (lambda: undone.append("first"), too_late, lambda: undone.append("third"))
    outcomes = [Outcome(f"{number}.yaml", f"{number} was added.", undo=undo) for number, undo in enumerate(undos)]
    toast = answer_of([*outcomes, Outcome("a.png", "a.png is a picture.")], log)
    assert toast["text"] == "3 files were replaced: 0.yaml, 1.yaml, 2.yaml."
    with pytest.raises(JobError, match=r"^1.yaml: It is too late to undo this\.$"):
        log.undo("me", toast["offer"])
    assert undone == ["third", "first"]


def test_one_replaced_file_is_told_by_its_own_sentence() -> None:
    toast = answer_of([Outcome("a.yaml", "The preset A was added.", undo=lambda: None)], UndoLog())
    assert toast["text"] == "The preset A was added."
