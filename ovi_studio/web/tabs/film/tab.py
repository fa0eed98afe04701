"""The Film tab: the shots of a film as cards, with their takes, in the order of the film.

Everything comes from the store and is asked for only while the tab is open. Handlers are private.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ovi_studio.film.fountain import MAX_CHARACTERS
from ovi_studio.services.studio import Studio
from ovi_studio.web.events import EACH, LATEST, PRIVATE
from ovi_studio.web.film_api import FilmCalls
from ovi_studio.web.tabs.film import texts
from ovi_studio.web.tabs.film.handlers import FilmHandlers
from ovi_studio.web.toasts import Toasts

REFRESH_SECONDS = 1
_TEMPLATE = f"""
<ol class="shots" aria-label="{texts.SHOTS}"></ol><p class="none" hidden></p>
<dialog aria-label="{texts.FILM}"><video controls playsinline></video><p role="status"></p>
<button type="button" data-action="end" aria-label="{texts.CLOSE}">✕</button></dialog>
"""


@dataclass(frozen=True)
class FilmComponents:
    """The components of the tab."""

    film: gr.Dropdown
    summary: gr.HTML
    board: gr.HTML
    play: gr.Button
    join: gr.Button
    file: gr.File
    text: gr.Textbox
    queue: gr.Button
    timer: gr.Timer
    seen: gr.State

    @property
    def shown(self) -> list[Any]:
        """The components that a refresh updates."""
        return [self.film, self.summary, self.board, self.play, self.join, self.seen]


def build_film(studio: Studio, toasts: Toasts) -> None:
    """Build the tab."""
    tab = _build()
    calls = FilmCalls(studio)
    calls.file = tab.file
    handlers = FilmHandlers(studio, toasts, calls)
    view = [tab.seen, tab.film]

    def show(seen: tuple[int, int], film: int | None) -> Any:
        updates = handlers.refresh((-1, 0), film)
        return gr.Timer(active=True), *updates

    tab.board.shown(show, view, [tab.timer, *tab.shown], **LATEST)
    tab.board.hidden(lambda: gr.Timer(active=False), None, tab.timer, **LATEST)
    tab.timer.tick(handlers.refresh, view, tab.shown, **PRIVATE)
    tab.film.input(handlers.choose_film, tab.film, tab.shown, **LATEST)
    tab.board.act(handlers.act, tab.film, [*tab.shown, toasts.component], **EACH)
    tab.queue.click(handlers.queue, [tab.text, tab.film], [*tab.shown, toasts.component, tab.text], **PRIVATE)
    tab.join.click(handlers.join, tab.film, [tab.file, toasts.component], **PRIVATE)
    tab.play.click(None, None, None, js="() => document.dispatchEvent(new CustomEvent('ovi:film'))", **PRIVATE)


def _build() -> FilmComponents:
    with gr.Row(elem_id="film-top"):
        film = gr.Dropdown([], value=None, label=texts.CHOOSE, elem_id="film-choice", interactive=False, min_width=240)
        summary = gr.HTML(elem_id="film-summary", apply_default_css=False)
        play = gr.Button(texts.PLAY, elem_id="film-play", size="md", min_width=100, scale=0, interactive=False)
        join = gr.Button(texts.JOIN, elem_id="film-join", size="md", min_width=130, scale=0, interactive=False)
    file = gr.File(label=texts.FILM, visible=False, interactive=False)
    script = (Path(__file__).parent / "film.js").read_text(encoding="utf-8")
    board = gr.HTML(
        {},
        html_template=_TEMPLATE,
        js_on_load=script,
        elem_id="storyboard",
        apply_default_css=False,
        words={"played": texts.PLAYED, "notUploaded": texts.UPLOAD_FAILED},
    )
    with gr.Accordion(texts.NEW, open=False, elem_id="film-new"):
        text = gr.Textbox(
            label=texts.SCREENPLAY,
            info=texts.SCREENPLAY_INFO,
            placeholder=texts.SCREENPLAY_EXAMPLE,
            lines=8,
            max_lines=20,
            max_length=MAX_CHARACTERS,
        )
        queue = gr.Button(texts.QUEUE, variant="primary", elem_id="film-queue", min_width=160)
    timer = gr.Timer(REFRESH_SECONDS, active=False)
    return FilmComponents(film, summary, board, play, join, file, text, queue, timer, gr.State((-1, 0)))
