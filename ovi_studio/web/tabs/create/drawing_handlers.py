"""Event handlers of the panel that draws the first frame."""

from dataclasses import replace
from typing import Any

import gradio as gr

from ovi_studio.checkpoints.background import DownloadPhase
from ovi_studio.core.drawing import DRAWS
from ovi_studio.core.errors import JobError
from ovi_studio.queue.drawings import Candidates
from ovi_studio.queue.model import ENDED
from ovi_studio.services.studio import Studio
from ovi_studio.web import views
from ovi_studio.web.events import LATEST, PRIVATE
from ovi_studio.web.live import LivePart
from ovi_studio.web.tabs.create import texts
from ovi_studio.web.tabs.create.drawing import DrawingPanel, download_html, model_html, status_html
from ovi_studio.web.tabs.create.stage.grid_handlers import FormReader
from ovi_studio.web.tabs.create.tab import CreateForm
from ovi_studio.web.uploads import shown_copy


def connect_drawing(studio: Studio, form: CreateForm, panel: DrawingPanel, reader: FormReader) -> list[LivePart]:
    """Connect the panel; returns the parts that show the pictures as they are drawn, and the download."""
    handlers = DrawingHandlers(studio, form, panel, reader)
    shown = [panel.status, panel.gallery, panel.draw, panel.cancel]
    model = form.drawing["image_model"]
    model.change(handlers.describe, model, [panel.about, panel.download], **LATEST)
    panel.download.click(handlers.download, model, panel.about, **PRIVATE)
    panel.draw.click(handlers.draw, [panel.count, *reader.inputs], [*shown, panel.seen], **PRIVATE)
    panel.cancel.click(handlers.cancel, panel.seen, None, **PRIVATE)
    panel.gallery.select(handlers.choose, panel.seen, [form.first_frame, form.drawing[DRAWS]], **PRIVATE)
    about = [panel.about, panel.download]
    return [LivePart(handlers.refresh, shown, panel.seen), LivePart(handlers.refresh_download, about, gr.State(0))]


class DrawingHandlers:
    """The functions behind the panel."""

    def __init__(self, studio: Studio, form: CreateForm, panel: DrawingPanel, reader: FormReader) -> None:
        self._studio, self._form, self._panel, self._reader = studio, form, panel, reader

    def describe(self, model: str | None) -> Any:
        """Say what a model is, and offer its download if it is not here."""
        name = model or ""
        return model_html(self._studio, name), gr.Button(visible=self._studio.image_model_offered(name))

    def download(self, model: str | None) -> str:
        """Start to download the image model."""
        try:
            self._studio.download_image_model(model or "")
        except JobError as error:
            return views.notice_html(str(error), texts.DOWNLOAD_FAILED)
        return download_html(self._studio.image_downloads.state())

    def refresh_download(self, seen: int) -> Any:
        """Update the progress of the download."""
        state = self._studio.image_downloads.state()
        if state.revision == seen:
            return None
        offered = not state.busy and state.phase is not DownloadPhase.DONE
        return download_html(state), gr.Button(visible=offered), state.revision

    def draw(self, count: int, *values: Any) -> Any:
        """Ask for pictures of the clip in the form."""
        try:
            request = self._reader.read(*values, draws=True)
            spec = self._studio.expand(replace(request, count=1)).specs[0]
            asked = self._studio.ask_for_candidates(spec, int(count or 1))
        except JobError as error:
            return views.notice_html(str(error), texts.NOT_DRAWN), *[gr.skip()] * 4
        return self._shown(self._studio.candidates(asked))

    def cancel(self, seen: Any) -> None:
        """Draw no more of these pictures."""
        if seen:
            self._studio.cancel_candidates(seen[0])

    def choose(self, seen: Any, event: gr.SelectData) -> Any:
        """Make a picture the first frame; then there is none to be drawn."""
        found = self._studio.candidates(seen[0]) if seen else None
        number = event.index if isinstance(event.index, int) else -1
        if found is None or not 0 <= number < len(found.pictures):
            raise JobError(texts.NO_CANDIDATE)
        return shown_copy(self._form.first_frame, found.pictures[number]), False

    def refresh(self, seen: Any) -> Any:
        """Update the pictures that somebody waits for."""
        if not seen or seen[1][0] in ENDED:
            return None
        try:
            found = self._studio.candidates(seen[0])
        except JobError as error:
            return views.notice_html(str(error), texts.NOT_DRAWN), *[gr.skip()] * 3, None
        return None if seen[1] == _progress(found) else self._shown(found)

    def _shown(self, found: Candidates) -> list[Any]:
        pictures = [shown_copy(self._panel.gallery, path) for path in found.pictures if path.is_file()]
        ended = found.state in ENDED
        gallery = gr.Gallery(value=pictures, visible=bool(pictures))
        buttons = [gr.Button(visible=ended), gr.Button(visible=not ended)]
        return [status_html(found), gallery, *buttons, (found.id, _progress(found))]


def _progress(found: Candidates) -> tuple[Any, ...]:
    return found.state, found.step, found.total, len(found.pictures)
