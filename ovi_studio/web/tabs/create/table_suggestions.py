"""A helper's suggestions for the prompts of a table: all in one dialog, where each is used, edited or thrown away."""

from pathlib import Path

import gradio as gr

from ovi_studio.core.prompts import MAX_PROMPT_LENGTH
from ovi_studio.services.studio import Studio
from ovi_studio.web.tabs.create import texts

_TEMPLATE = '<button type="button" data-act="open"></button><p class="problem" role="alert" hidden></p>'


def build_table_suggestions(studio: Studio) -> gr.HTML:
    """Build the button below the table; without a helper it is not there."""
    settings = studio.prompt_helper.settings
    return gr.HTML(
        {},
        html_template=_TEMPLATE,
        js_on_load=Path(__file__).with_name("table_suggestions.js").read_text(encoding="utf-8"),
        elem_id="table-suggestions",
        apply_default_css=False,
        visible=settings.given,
        words=texts.TABLE_SUGGESTIONS | {"place": texts.TABLE_SUGGESTIONS_PLACE.format(place=settings.place)},
        longest=MAX_PROMPT_LENGTH,
    )
