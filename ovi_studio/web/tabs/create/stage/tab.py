"""The components of the stage, and what connects them."""

from pathlib import Path

import gradio as gr

from ovi_studio.services.studio import Studio
from ovi_studio.web.events import EACH, LATEST, PRIVATE
from ovi_studio.web.live import LivePart
from ovi_studio.web.tabs.create.stage import texts
from ovi_studio.web.tabs.create.stage.grid_handlers import FormReader, connect_grid
from ovi_studio.web.tabs.create.stage.handlers import StageForm, StageHandlers
from ovi_studio.web.tabs.create.stage.part import build_part
from ovi_studio.web.toasts import Toasts

_HERE = Path(__file__).parent
_PLAYER = "<ovi-player markable></ovi-player>"
_COMPARISON = "<ovi-compare></ovi-compare>"
_HANDLE = (
    f'<button type="button" class="handle" aria-expanded="false" aria-controls="stage"><i></i>'
    f"<span>{texts.SHEET}</span></button>"
)


def build_stage(studio: Studio, form: StageForm, reader: FormReader, toasts: Toasts) -> LivePart:
    """Build the stage in the current column; returns its live part."""
    sheet = (_HERE / "sheet.js").read_text(encoding="utf-8")
    gr.HTML(_HANDLE, js_on_load=sheet, elem_id="sheet-handle", apply_default_css=False, words=texts.SHEET_WORDS)
    with gr.Column(elem_id="screen"):
        gr.HTML(_PLAYER, js_on_load=None, elem_id="clip", apply_default_css=False)
        gr.HTML(_COMPARISON, js_on_load=None, elem_id="comparison", apply_default_css=False)
        grid = gr.HTML(js_on_load=_ANNOUNCE, elem_id="grid", apply_default_css=False)
        status = gr.HTML(js_on_load=_ANNOUNCE, elem_id="status", apply_default_css=False)
    acts = gr.HTML(js_on_load=None, elem_id="result-bar", apply_default_css=False)
    part = build_part()
    script = (_HERE / "stage.js").read_text(encoding="utf-8")
    strip = gr.HTML(js_on_load=script, elem_id="filmstrip", apply_default_css=False, words=texts.STAGE_WORDS)
    recipe = gr.HTML(js_on_load=None, elem_id="recipe", apply_default_css=False)
    handlers = StageHandlers(studio, form, toasts)
    _connect(strip, handlers, acts, recipe, form, toasts)
    part.part(handlers.make_part, None, [*form.outputs, toasts.component], **PRIVATE)
    connect_grid(studio, reader, strip, grid, toasts)
    return LivePart(handlers.refresh, [status, strip], gr.State(()))


_ANNOUNCE = "watch('value', () => document.dispatchEvent(new CustomEvent('ovi:stage')));"
"""The script of the filmstrip arranges what is live, too."""


def _connect(
    strip: gr.HTML, handlers: StageHandlers, acts: gr.HTML, recipe: gr.HTML, form: StageForm, toasts: Toasts
) -> None:
    strip.choose(handlers.choose, None, [acts, recipe], **LATEST)
    strip.vary(handlers.vary, None, toasts.component, **EACH)
    strip.new_sound(handlers.new_sound, None, toasts.component, **EACH)
    strip.new_picture(handlers.new_picture, None, toasts.component, **EACH)
    strip.use(handlers.use, None, [*form.outputs, toasts.component], **PRIVATE)
    strip.extend(handlers.extend, None, [*form.outputs, toasts.component], **PRIVATE)
    strip.frame(handlers.take_frame, None, [form.first_frame, toasts.component], **PRIVATE)
    strip.favourite(handlers.mark, None, [acts, toasts.component], **EACH)
    strip.remove(handlers.remove, None, toasts.component, **EACH)
    strip.cancel(handlers.cancel, None, toasts.component, **EACH)
