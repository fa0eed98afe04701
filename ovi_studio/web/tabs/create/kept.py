"""What the form keeps of a clip of the library, while the rest is made again (`core/spans`).

The form names the clip by its file in the library, never by a path. A source that lies elsewhere cannot be in the form.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.core.spans import format_spans
from ovi_studio.core.spec import SOURCE_FIELDS, ClipSpec
from ovi_studio.services.studio import Studio
from ovi_studio.web.tabs.create import texts
from ovi_studio.web.tabs.create.stage.part import part_fields_html

_SCRIPT = Path(__file__).parent / "kept.js"
_TEMPLATE = f"""
<div class="kept" role="group" aria-label="{texts.KEPT}" hidden>
<p><b></b><button type="button" aria-label="{texts.FORGET_KEPT}" title="{texts.FORGET_KEPT}">×</button></p>
<div class="span">{part_fields_html()}</div><p class="more" role="status" hidden></p></div>
"""


def build_kept() -> gr.HTML:
    """Build the component; its value is None, or the clip's name as `clip` and the other fields of a source."""
    return gr.HTML(
        None,
        html_template=_TEMPLATE,
        js_on_load=_SCRIPT.read_text(encoding="utf-8"),
        elem_id="kept",
        apply_default_css=False,
        words=texts.KEPT_WORDS,
    )


def kept_value(studio: Studio, spec: ClipSpec) -> dict[str, Any] | None:
    """Return the component's value for a clip; None if it has no source, or one that is not in the library."""
    if spec.source is None or spec.source.resolve().parent != studio.paths.outputs.resolve():
        return None
    try:
        studio.library.find(spec.source.name)
    except JobError:
        return None
    return {
        "clip": spec.source.name,
        "source_sha256": spec.source_sha256,
        "keep_picture": format_spans(spec.keep_picture),
        "keep_sound": format_spans(spec.keep_sound),
        "strength": spec.strength,
        "resamples": spec.resamples,
    }


def kept_settings(studio: Studio, value: Any) -> dict[str, Any]:
    """Return the fields of a clip for the component's value; raises `JobError` if the clip is not in the library."""
    if not isinstance(value, Mapping):
        return {}
    try:
        source = studio.library.path(studio.library.find(str(value.get("clip"))))
    except JobError as error:
        raise JobError(texts.KEPT_GONE) from error
    return {name: value.get(name) for name in SOURCE_FIELDS} | {"source": str(source)}
