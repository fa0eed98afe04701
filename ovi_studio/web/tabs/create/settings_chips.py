"""How the clip is made: chips that name each setting, and their popovers with the components.

The script `chips.js` fills the chips from the form's values, and opens the popovers.
"""

import json
from html import escape
from typing import Any

import gradio as gr

from ovi_studio.core.requests import SeedMode
from ovi_studio.core.variants import Variant
from ovi_studio.services.studio import Studio
from ovi_studio.web.tabs.create import texts
from ovi_studio.web.tabs.create.options import SEED_CHOICES, model_choices, model_facts, ratio_options
from ovi_studio.web.tabs.create.presets_row import build_presets

_CHIPS = "".join(
    f'<button type="button" class="chip" data-chip="{name}" aria-haspopup="dialog" aria-expanded="false">'
    f"<span>{label}</span><b></b></button>"
    for name, label in texts.CHIPS.items()
)
_LENGTHS = f'<div class="lengths" role="group" aria-label="{texts.LENGTH}"></div><p class="only">{texts.ONE_LENGTH}</p>'


def build_chips(
    studio: Studio, variants: list[Variant], start: dict[str, Any], extra: dict[str, Any]
) -> dict[str, Any]:
    """Build the chips and the popovers; returns the components by their name in `CreateForm`."""
    best = variants[0] if variants else None
    gr.HTML(
        f'<div class="chips" role="group" aria-label="{texts.CHIPS_GROUP}">{_CHIPS}</div>',
        elem_id="chips",
        js_on_load=None,
        apply_default_css=False,
    )
    extra["model_facts"] = gr.HTML(facts_html(variants), elem_id="model-facts", js_on_load=None)
    parts: dict[str, Any] = {}
    with _popover("model"):
        parts["model"] = gr.Radio(
            model_choices(variants), label=texts.MODEL, value=best and best.name, elem_id="model", elem_classes="list"
        )
    with _popover("look"):
        build_presets(studio, extra)
    with _popover("ratio"):
        parts["ratio"] = gr.Radio(label=texts.RATIO, elem_id="ratio", **ratio_options(studio, best))
    with _popover("length"):
        gr.HTML(_LENGTHS, js_on_load=None, apply_default_css=False)
    with _popover("steps"):
        parts["steps"] = gr.Slider(1, 100, start["steps"], step=1, label=texts.STEPS)
    with _popover("seed"):
        parts["seed_mode"] = gr.Radio(
            SEED_CHOICES, value=SeedMode.RANDOM, label=texts.SEED, elem_id="seed-mode", elem_classes="segments"
        )
        parts["seed"] = gr.Textbox(
            "", label=texts.SEED_NUMBER, placeholder=texts.SEED_PLACEHOLDER, max_length=19, max_lines=1
        )
    with _popover("count"):
        parts["count"] = gr.Number(1, label=texts.COUNT, precision=0, minimum=1, maximum=1000)
    for name in ("model", "ratio"):
        # A draft of another day may name what is no longer a choice; `core/requests` says so in a sentence.
        parts[name].preprocess = _text
    return parts


def facts_html(variants: list[Variant]) -> str:
    """Render what the page's script knows about the models."""
    return f'<span class="facts" data-models="{escape(json.dumps(model_facts(variants)))}" hidden></span>'


def _popover(name: str) -> gr.Column:
    return gr.Column(elem_id=f"pop-{name}", elem_classes="pop", min_width=0)


def _text(payload: Any) -> str | None:
    return payload if isinstance(payload, str) else None
