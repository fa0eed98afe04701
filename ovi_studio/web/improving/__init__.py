"""The dialog that queues larger and smoother copies of clips, of one or of many, from any tab.

A script opens it for clips of the library or for the clips of jobs, by their ids:

    document.dispatchEvent(new CustomEvent("ovi:improve", { detail: { clips: [...] } }));  // or `jobs`
"""

from pathlib import Path
from typing import Any

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.core.improvement import Improvement
from ovi_studio.services.improvements import MAX_CLIPS, Improvements
from ovi_studio.web.events import PRIVATE
from ovi_studio.web.improving import texts
from ovi_studio.web.public_text import for_page
from ovi_studio.web.toasts import Toasts


def build_improving(improvements: Improvements, toasts: Toasts) -> None:
    """Build the dialog."""
    handlers = ImprovingHandlers(improvements, toasts)
    words = {name: text for name, text in vars(texts).items() if name.isupper() and name != "FRAME_RATES"}
    place = gr.HTML(
        {},
        html_template="",
        js_on_load=(Path(__file__).parent / "improving.js").read_text(encoding="utf-8"),
        elem_id="improving-source",
        apply_default_css=False,
        words=words,
    )
    place.opened(handlers.offer, None, place, **PRIVATE)
    place.queue(handlers.queue, None, [place, toasts.component], **PRIVATE)


class ImprovingHandlers:
    """The functions behind the dialog.

    Its value is `{"upscalers", "hint"}`, `{"problem"}`, or `{"left", "problem"}` after copies were queued: the ids of
    those that could not be, and the reasons.
    """

    def __init__(self, improvements: Improvements, toasts: Toasts) -> None:
        self._improvements = improvements
        self._toasts = toasts

    def offer(self) -> dict[str, Any]:
        """List the upscalers that can be used now, or say what is missing."""
        if not self._improvements.can_upscale:
            return {"upscalers": [], "hint": texts.NO_PACKAGE}
        names = self._improvements.upscalers()
        return {"upscalers": names, "hint": "" if names else texts.NO_UPSCALERS}

    def queue(self, event: gr.EventData) -> Any:
        """Queue the copies; what cannot be done is said in the dialog."""
        given = event._data if isinstance(event._data, dict) else {}
        wanted = {"upscaler": given.get("upscaler") or None, "fps": given.get("fps") or None}
        try:
            if clips := _ids(given.get("clips")):
                queued = self._improvements.improve_clips(clips, wanted)
            else:
                queued = self._improvements.improve_jobs(_ids(given.get("jobs")), wanted)
            what = Improvement.from_dict(wanted).words
        except JobError as error:
            return {"problem": for_page(str(error))}, gr.skip()
        refused = [for_page(reason) for reason in queued.refused.values()]
        value = {"left": list(queued.refused), "problem": texts.refused(refused)}
        return value, self._toasts.note(texts.queued(len(queued.jobs), what))


def _ids(given: Any) -> list[str]:
    # One more than fit, which is then refused.
    return [one for one in given if isinstance(one, str)][: MAX_CLIPS + 1] if isinstance(given, list) else []
