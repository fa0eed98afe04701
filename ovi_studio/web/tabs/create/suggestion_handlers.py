"""Event handlers of the helper's suggestion."""

from pathlib import Path
from typing import Any

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.core.prompt_spelling import in_words
from ovi_studio.services.prompt_helper.suggestion import difference
from ovi_studio.services.studio import Studio
from ovi_studio.web import views
from ovi_studio.web.events import PRIVATE
from ovi_studio.web.tabs.create.tab import CreateForm, new_origin
from ovi_studio.web.tabs.create.written import write_prompt, written_text


def connect_suggestion(studio: Studio, form: CreateForm, panel: gr.HTML) -> None:
    """Connect the panel with the form: an accepted suggestion replaces the prompt, which can be undone."""
    handlers = SuggestionHandlers(studio)
    panel.ask(handlers.ask, [*form.written, form.model, form.first_frame], panel, **PRIVATE)
    panel.accept(handlers.accept, panel, [panel, *form.written, form.typed, form.origin], **PRIVATE)
    panel.discard(lambda: {}, None, panel, **PRIVATE)


class SuggestionHandlers:
    """The functions behind the panel. Its value is `{"problem"}` or `{"before", "after", "changes", "warnings"}`."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def ask(self, prompt: str, cues: Any, sound: str, model: str | None, picture: str | None) -> dict[str, Any]:
        """Ask the helper about the prompt in the form."""
        try:
            variant = self._studio.variant(model or "")
            text = written_text(prompt, cues, sound, views.tag_of(variant))
            found = self._studio.prompt_helper.suggest(text, variant, None if picture is None else Path(picture))
        except JobError as error:
            return {"problem": str(error)}
        # People read no tags.
        changes = [[str(edit), piece] for edit, piece in difference(in_words(found.before), in_words(found.after))]
        return {"before": found.before, "after": found.after, "changes": changes, "warnings": list(found.warnings)}

    def accept(self, offered: Any) -> Any:
        """Write a suggestion into the form, and keep what was typed."""
        given = offered if isinstance(offered, dict) else {}
        both = {name: given.get(name) for name in ("before", "after")}
        if not all(isinstance(text, str) for text in both.values()):
            return {}, *[gr.skip()] * 5
        return {}, *write_prompt(str(both["after"])), both, new_origin()
