"""Drawing the first frame: the settings of the image model, and the candidates to choose from."""

from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from ovi_studio.checkpoints.background import DownloadPhase, DownloadState
from ovi_studio.checkpoints.image_model import OFFICIAL_LICENCE, OFFICIAL_SIZE
from ovi_studio.core.drawing import DRAWS, FLAT_NAMES, MAX_CANDIDATES, OFFICIAL_MODEL, Drawing
from ovi_studio.core.prompts import MAX_PROMPT_LENGTH
from ovi_studio.queue.drawings import Candidates
from ovi_studio.queue.model import JobState
from ovi_studio.services.studio import Studio
from ovi_studio.web import views
from ovi_studio.web.job_views import bar
from ovi_studio.web.public_text import for_page
from ovi_studio.web.tabs.create import texts

DRAWING_NAMES = (DRAWS, *FLAT_NAMES)


@dataclass(frozen=True)
class DrawingPanel:
    """The components that only the panel's handlers need."""

    about: gr.HTML
    """What the image model is, and whether it is here."""
    download: gr.Button
    count: gr.Radio
    draw: gr.Button
    cancel: gr.Button
    status: gr.HTML
    gallery: gr.Gallery
    seen: gr.State
    """`(id, progress)` of the request whose pictures are shown, or None."""


def build_drawing(studio: Studio) -> tuple[dict[str, gr.components.Component], DrawingPanel]:
    """Build the settings, by their names in a request, and the rest of the panel."""
    settings: dict[str, gr.components.Component] = {}
    with gr.Accordion(texts.DRAW_FRAME, open=False, elem_id="draw-first-frame"):
        settings["image_model"] = gr.Dropdown(
            model_choices(studio),
            value=first_model(studio),
            label=texts.IMAGE_MODEL,
            allow_custom_value=True,
            elem_id="image-model",
        )
        about = gr.HTML(model_html(studio, first_model(studio)), elem_id="image-model-about")
        download = gr.Button(
            texts.DOWNLOAD_IMAGE_MODEL,
            size="sm",
            visible=studio.image_model_offered(first_model(studio)),
            elem_id="image-model-download",
        )
        settings["image_prompt"] = _text(texts.IMAGE_PROMPT, texts.IMAGE_PROMPT_HINT)
        settings["image_negative_prompt"] = _text(texts.IMAGE_NEGATIVE, "")
        with gr.Row():
            # Gradio shows an empty number as 0 (6.31).
            for name, label, default in (
                ("image_steps", texts.IMAGE_STEPS, texts.MODELS_OWN),
                ("image_guidance", texts.IMAGE_GUIDANCE, texts.MODELS_OWN),
                ("image_seed", texts.IMAGE_SEED, texts.CLIPS_OWN),
            ):
                settings[name] = gr.Textbox("", label=label, placeholder=default, max_length=30, min_width=90)
        count = gr.Radio(
            list(range(1, MAX_CANDIDATES + 1)),
            value=MAX_CANDIDATES,
            label=texts.CANDIDATES,
            elem_id="candidate-count",
            elem_classes="segments",
        )
        draw = gr.Button(texts.DRAW, elem_id="draw-candidates")
        cancel = gr.Button(texts.CANCEL_DRAWING, visible=False, elem_id="cancel-candidates")
        status = gr.HTML(elem_id="candidates-status")
        gallery = gr.Gallery(
            label=texts.CANDIDATES_HINT,
            columns=2,
            height="auto",
            allow_preview=False,
            visible=False,
            interactive=False,
            elem_id="candidates",
        )
        settings[DRAWS] = gr.Checkbox(False, label=texts.DRAW_AND_GO_ON, info=texts.DRAW_AND_GO_ON_HINT, elem_id=DRAWS)
    panel = DrawingPanel(about, download, count, draw, cancel, status, gallery, gr.State(None))
    return {name: settings[name] for name in DRAWING_NAMES}, panel


def model_choices(studio: Studio) -> list[tuple[str, str]]:
    """Return the choices of image models: those that are here, and the official one."""
    names = dict.fromkeys([*studio.image_models(), OFFICIAL_MODEL])
    return [(texts.OFFICIAL_IMAGE_MODEL if name == OFFICIAL_MODEL else name, name) for name in names]


def first_model(studio: Studio) -> str:
    """Return the image model of an untouched form."""
    return next(iter(studio.image_models()), OFFICIAL_MODEL)


def model_html(studio: Studio, model: str) -> str:
    """Render what is known of an image model."""
    if studio.image_model_offered(model):
        known = texts.OFFICIAL_FACTS.format(size=OFFICIAL_SIZE / 1e9, licence=OFFICIAL_LICENCE)
        return f"<p>{known if model == OFFICIAL_MODEL else texts.HUB_FACTS.format(name=escape(model))}</p>"
    problem = studio.image_model_problem(model)
    return "" if problem is None else f"<p>{escape(for_page(problem))}</p>"


def download_html(state: DownloadState) -> str:
    """Render how far the download of an image model is."""
    if state.phase is DownloadPhase.FAILED:
        return views.notice_html(state.reason, texts.DOWNLOAD_FAILED)
    if not state.busy:
        return ""
    done, total = (state.progress.done, state.progress.total) if state.progress else (0, 0)
    words = texts.IMAGE_MODEL_DOWNLOADS.format(name=escape(state.variant), done=done / 1e9, total=total / 1e9)
    return f'<p role="status">{words}</p>{bar(done / total if total else None, texts.DOWNLOAD_IMAGE_MODEL)}'


def shown_drawing(studio: Studio, drawing: Drawing | None) -> dict[str, Any]:
    """Return the values of the settings for a drawing that a clip asks for; None: those of an untouched form."""
    if drawing is None:
        return {DRAWS: False, **dict.fromkeys(FLAT_NAMES, ""), "image_model": first_model(studio)}
    values = {name: getattr(drawing, field) for name, field in FLAT_NAMES.items()}
    return {DRAWS: True} | {name: "" if value is None else str(value) for name, value in values.items()}


def status_html(found: Candidates) -> str:
    """Render how far a request is."""
    match found.state:
        case JobState.FAILED:
            return views.notice_html(found.error or "", texts.NOT_DRAWN)
        case JobState.CANCELLED:
            return f'<p role="status">{texts.DRAWING_CANCELLED}</p>'
        case JobState.DONE:
            return ""
        case JobState.RUNNING if found.total:
            number = len(found.pictures) + 1
            words = texts.DRAWING_STEP.format(number=number, count=found.count, step=found.step, total=found.total)
            return f'<p role="status">{words}</p>{bar(found.step / found.total, texts.DRAW_FRAME)}'
        case JobState.RUNNING:
            return f'<p role="status">{texts.LOADING_IMAGE_MODEL}</p>{bar(None, texts.DRAW_FRAME)}'
    return f'<p role="status">{texts.DRAWING_WAITS}</p>'


def _text(label: str, placeholder: str) -> gr.Textbox:
    return gr.Textbox("", label=label, placeholder=placeholder, max_length=MAX_PROMPT_LENGTH)
