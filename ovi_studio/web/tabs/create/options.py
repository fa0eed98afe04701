"""Options of the form's components, which depend on the model, the first frame or a clip's settings."""

import dataclasses
import json
from typing import Any

import gradio as gr

from ovi_studio.core.adapter_stack import stack_to_json
from ovi_studio.core.requests import SeedMode
from ovi_studio.core.sizes import distinct_sizes
from ovi_studio.core.spec import ADAPTER_LISTS, ClipSpec, format_timesteps
from ovi_studio.core.variants import Variant
from ovi_studio.services.preset_offers import PresetOffer
from ovi_studio.services.studio import Studio
from ovi_studio.web import views
from ovi_studio.web.tabs.create import texts

DEFAULTS = {field.name: field.default for field in dataclasses.fields(ClipSpec)}
SEED_CHOICES = [
    (texts.SEED_RANDOM, SeedMode.RANDOM),
    (texts.SEED_FIXED, SeedMode.FIXED),
    (texts.SEED_NEXT, SeedMode.NEXT),
]
PRIORITY_CHOICES = [(texts.BEFORE_OTHERS, 1), (texts.NORMAL, 0), (texts.AFTER_OTHERS, -1)]


def start_values(best: Variant | None, found: list[PresetOffer]) -> dict[str, Any]:
    """Return the values of an untouched form: those of `ClipSpec`, or of the preset that is made for the model alone.

    The embedded model is too small for the settings of the published ones, so it has presets of its own.
    """
    if best is None or best.root is None:
        return DEFAULTS
    own = next((offer.preset for offer in found if offer.usable and offer.preset.variants == (best.name,)), None)
    return DEFAULTS | (dict(own.settings) if own else {})


def shown_value(name: str, value: Any) -> Any:
    """Convert a field of `ClipSpec` to the value of its component."""
    if name in ADAPTER_LISTS:
        return json.dumps(stack_to_json(value), ensure_ascii=False)
    return format_timesteps(value) if name == "timesteps" else value


def widened(component: gr.components.Component, value: Any) -> Any:
    """Return an update to `value`, widening a slider's range if needed: a clip may use the whole range of a spec."""
    if not isinstance(component, gr.Slider) or value is None:
        return value
    return gr.Slider(value=value, minimum=min(component.minimum, value), maximum=max(component.maximum, value))


def model_choices(variants: list[Variant]) -> list[tuple[str, str]]:
    """Return the models' choices."""
    return [(variant.title, variant.name) for variant in variants]


def model_facts(variants: list[Variant]) -> list[dict[str, Any]]:
    """Return what the page's script says about each model."""
    return [
        {"name": variant.name, "title": variant.title, "seconds": round(variant.seconds, 1), "area": variant.pixel_area}
        for variant in variants
    ]


def skip_options(studio: Studio, variant: Variant | None, layer: int | None = None) -> dict[str, Any]:
    """Return the options of the skipped block's slider, whose range and default depend on the model."""
    own = variant.slg_layer if variant else 0
    return {
        "minimum": 0,
        "maximum": studio.blocks(variant.name) - 1 if variant else 1,
        "value": max(0, own if layer is None else layer),
        "info": texts.SKIPPED_BLOCK_HINT,
    }


def ratio_options(
    studio: Studio, variant: Variant | None, chosen: str | None = None, picture_size: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Return the options of the aspect ratios, whose sizes depend on the model or the first frame."""
    sizes = studio.sizes(variant.name) if variant else {}
    offered = distinct_sizes(sizes)
    wanted = sizes.get(chosen or "") or (variant and sizes[studio.default_ratio(variant.name)])
    return {
        "choices": [(views.ratio_label(name, size), name) for name, size in offered.items()],
        "value": next((name for name, size in offered.items() if size == wanted), None),
        "info": views.ratio_hint(picture_size),
        "interactive": picture_size is None,
    }
