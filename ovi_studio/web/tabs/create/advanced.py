"""The settings that are rarely changed: guidance and sampling, and what concerns many clips at once."""

from typing import Any

import gradio as gr

from ovi_studio.core.prompts import MAX_PROMPT_LENGTH
from ovi_studio.core.solvers import SOLVERS, describe_solvers
from ovi_studio.core.step_caches import STEP_CACHES, describe_step_caches
from ovi_studio.core.variants import Variant
from ovi_studio.services.prompt_tables import SUFFIXES
from ovi_studio.services.studio import Studio
from ovi_studio.web.tabs.create import texts
from ovi_studio.web.tabs.create.options import PRIORITY_CHOICES, skip_options
from ovi_studio.web.uploads import uploads_only


def build_sampling(studio: Studio, best: Variant | None, start: dict[str, Any]) -> dict[str, gr.components.Component]:
    """Build the settings by their name in `ClipSpec`, with their values at the start."""

    def slider(name: str, label: str, low: float, high: float, step: float, info: str | None = None) -> gr.Slider:
        return gr.Slider(low, high, start[name], step=step, label=label, info=info, min_width=150)

    def negative(name: str, label: str) -> gr.Textbox:
        return gr.Textbox(start[name], label=label, max_length=MAX_PROMPT_LENGTH)

    settings: dict[str, gr.components.Component] = {}
    with gr.Row():
        settings["video_guidance"] = slider("video_guidance", texts.VIDEO_GUIDANCE, 0, 15, 0.1)
        settings["audio_guidance"] = slider("audio_guidance", texts.AUDIO_GUIDANCE, 0, 15, 0.1)
    settings["solver"] = gr.Dropdown(
        [(solver.title, solver.name) for solver in SOLVERS.values()],
        value=start["solver"],
        label=texts.SOLVER,
        info=describe_solvers(),
    )
    settings["shift"] = slider("shift", texts.SHIFT, 0.5, 20, 0.5, texts.SHIFT_HINT)
    settings["timesteps"] = gr.Textbox(
        "",
        label=texts.TIMESTEPS,
        info=texts.TIMESTEPS_HINT,
        placeholder="1000,750,500,250",
        max_length=4000,
        max_lines=1,
        elem_id="timesteps",
    )
    settings["slg_layer"] = gr.Slider(label=texts.SKIPPED_BLOCK, step=1, **skip_options(studio, best))
    settings["raw_colours"] = gr.Checkbox(
        start["raw_colours"],
        label=texts.RAW_COLOURS,
        info=texts.RAW_COLOURS_HINT,
        elem_id="raw-colours",
    )
    settings["step_cache"] = gr.Dropdown(
        [(cache.title, cache.name) for cache in STEP_CACHES.values()],
        value=start["step_cache"],
        label=texts.STEP_CACHE,
        info=describe_step_caches(),
    )
    settings["video_negative_prompt"] = negative("video_negative_prompt", texts.VIDEO_NEGATIVE)
    settings["audio_negative_prompt"] = negative("audio_negative_prompt", texts.AUDIO_NEGATIVE)
    return settings


def build_batch(extra: dict[str, Any]) -> tuple[gr.File, gr.Textbox, gr.Radio]:
    """Build the table, the name of the batch and its priority."""
    batch_name = gr.Textbox("", label=texts.BATCH_NAME, max_length=200, max_lines=1, elem_id="batch-name")
    priority = gr.Radio(PRIORITY_CHOICES, value=0, label=texts.PRIORITY, elem_id="priority", elem_classes="segments")
    gr.HTML(texts.TABLE_HINT, elem_id="table-hint")
    table = gr.File(
        label=texts.TABLE,
        file_types=list(SUFFIXES),
        type="filepath",
        height=120,
        elem_id="table",
    )
    uploads_only(table, "table")
    extra["table_makes"] = gr.HTML(elem_id="table-makes")
    return table, batch_name, priority
