"""Toasts: short messages in a corner of the page, of which some offer to take back what was just done.

A handler that reports something has `Toasts.component` among its outputs and returns `note(...)` or `undoable(...)` for
it. A script of the page shows one without the server, and undoes it by itself:

    document.dispatchEvent(new CustomEvent("ovi:toast", { detail: { text, undo: () => { ... } } }));

Ctrl+Z outside of text fields presses the newest Undo. What must be refreshed after something was taken back, and is not
refreshed by the pulse, is chained to `Toasts.undone` with `.then(...)`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.services.undo import OFFERED_SECONDS, UndoLog
from ovi_studio.web.events import EACH
from ovi_studio.web.public_text import for_page
from ovi_studio.web.toasts import texts

_SECONDS = 8
"""How long a message without Undo is shown."""


class Toasts:
    """The one component of a page that shows toasts; build it in the page's context, before whatever uses it."""

    def __init__(self, log: UndoLog) -> None:
        self._log = log
        script = (Path(__file__).parent / "toasts.js").read_text(encoding="utf-8")
        self.component = gr.HTML(
            {},
            html_template="",
            js_on_load=script,
            elem_id="toast-source",
            apply_default_css=False,
            words=texts.WORDS,
        )
        self.undone = self.component.undo(self._undo, None, self.component, **EACH)
        """The event after which something was taken back."""

    def undoable(
        self, request: gr.Request, label: str, undo: Callable[[], None], finish: Callable[[], None] | None = None
    ) -> dict[str, Any]:
        """Report an act that `undo` reverses; `label` is a sentence about it. `finish` is as in `UndoLog.offer`."""
        offer = self._log.offer(_session(request), label, undo, finish)
        return {"text": for_page(label), "offer": offer.id, "seconds": OFFERED_SECONDS}

    def note(self, text: str, *, failed: bool = False) -> dict[str, Any]:
        """Report something; a failure is announced at once."""
        return {"text": for_page(text), "seconds": _SECONDS, "failed": failed}

    def _undo(self, event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        offer = event._data.get("offer") if isinstance(event._data, dict) else None
        try:
            self._log.undo(_session(request), str(offer))
        except JobError as error:
            return self.note(str(error), failed=True)
        return self.note(texts.UNDONE)


def _session(request: gr.Request) -> str:
    return request.session_hash or ""
