"""Event handlers of the dialog with a helper's suggestions for a table."""

import tempfile
from pathlib import Path
from typing import Any

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.core.prompt_spelling import in_words
from ovi_studio.core.prompts import MAX_PROMPT_LENGTH
from ovi_studio.services.prompt_helper.suggestion import difference
from ovi_studio.services.prompt_tables import PROMPT, PromptTable, read_table, with_prompts
from ovi_studio.services.studio import Studio
from ovi_studio.web.events import EACH, PRIVATE
from ovi_studio.web.public_text import for_page
from ovi_studio.web.tabs.create import texts
from ovi_studio.web.tabs.create.tab import CreateForm, new_origin
from ovi_studio.web.uploads import shown_copy

MAX_PROMPTS = 200
"""Of a table that is looked through in a dialog; `suggest` on the command line takes more."""


def connect_table_suggestions(studio: Studio, form: CreateForm, panel: gr.HTML) -> None:
    """Connect the dialog with the form: a table with accepted prompts replaces the one there, which can be undone."""
    handlers = TableSuggestionHandlers(studio, form.table)
    panel.opened(handlers.read, form.table, panel, **PRIVATE)
    panel.asked(handlers.suggest, form.model, panel, **EACH)
    panel.apply(handlers.apply, form.table, [panel, form.table, form.origin], **PRIVATE)
    form.table.change(None, form.table, panel, js="(table) => ({ table: Boolean(table) })")


class TableSuggestionHandlers:
    """The functions behind the dialog.

    The panel's value is `{"table"}`, whether there is one; its `{"rows"}`; an `{"answer"}` for one of them;
    `{"applied"}`; or `{"problem"}`.
    """

    def __init__(self, studio: Studio, table: gr.File) -> None:
        self._studio = studio
        self._table = table

    def read(self, table: str | None) -> dict[str, Any]:
        """List the prompts of the table in the form; rows without one are left as they are."""
        try:
            rows = [row for row in _read(table).rows if row.cells.get(PROMPT, "").strip() and not row.problem]
        except JobError as error:
            return {"problem": for_page(str(error))}
        prompts = [(row.line, row.cells[PROMPT]) for row in rows]
        return {"rows": [{"line": line, "before": text, "shown": in_words(text)} for line, text in prompts]}

    def suggest(self, event: gr.EventData, model: str | None) -> dict[str, Any]:
        """Ask the helper about one prompt."""
        given = _data(event)
        line, before = given.get("line"), str(given.get("before") or "")
        try:
            found = self._studio.prompt_helper.suggest(before, self._studio.variant(model or ""))
        except JobError as error:
            return {"answer": {"line": line, "problem": for_page(str(error))}}
        # People read no tags.
        changes = [[str(edit), piece] for edit, piece in difference(in_words(found.before), in_words(found.after))]
        return {
            "answer": {"line": line, "after": found.after, "changes": changes, "warnings": list(found.warnings)},
        }

    def apply(self, event: gr.EventData, table: str | None) -> Any:
        """Put accepted prompts, by their lines, into a copy of the table, which takes its place in the form."""
        try:
            prompts = _prompts(_data(event).get("prompts"))
            found = _read(table)
        except JobError as error:
            return {"problem": for_page(str(error))}, gr.skip(), gr.skip()
        with tempfile.TemporaryDirectory(prefix="ovi-studio-") as folder:
            path = Path(folder) / f"{found.path.stem}.csv"
            path.write_bytes(with_prompts(found, prompts))
            return {"applied": len(prompts)}, shown_copy(self._table, path), new_origin()


def _read(table: str | None) -> PromptTable:
    if not table:
        raise JobError(texts.LOST_TABLE)
    return read_table(table, MAX_PROMPTS)


def _prompts(given: Any) -> dict[int, str]:
    """Line -> prompt, as the page sends it."""
    entries = given if isinstance(given, dict) else {}
    prompts = {int(line): text for line, text in entries.items() if str(line).isdecimal() and isinstance(text, str)}
    for line, text in prompts.items():
        if not text.strip() or len(text) > MAX_PROMPT_LENGTH:
            raise JobError(texts.wrong_length(line, MAX_PROMPT_LENGTH, len(text)))
    if not prompts:
        raise JobError(texts.NO_SUGGESTION_USED)
    return prompts


def _data(event: gr.EventData) -> dict[str, Any]:
    return event._data if isinstance(event._data, dict) else {}
