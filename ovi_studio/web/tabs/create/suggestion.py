"""A helper's suggestion below the prompt: the button and the difference."""

from pathlib import Path

import gradio as gr

from ovi_studio.services.studio import Studio
from ovi_studio.web.tabs.create import texts

_TEMPLATE = """
<div class="ask"><button type="button" data-act="ask"></button><span></span></div>
<p class="problem" role="alert" hidden></p>
<section class="offer" aria-live="polite" hidden>
<h3></h3><p class="difference"></p><ul></ul>
<div class="acts"><button type="button" data-act="accept" class="main"></button>
<button type="button" data-act="discard"></button></div>
</section>
"""


def build_suggestion(studio: Studio) -> gr.HTML:
    """Build the panel; without a helper it is not there."""
    settings = studio.prompt_helper.settings
    words = {
        "ask": texts.SUGGEST,
        "asking": texts.SUGGEST_ASKING,
        "place": texts.SUGGEST_PLACE.format(place=settings.place),
        "offer": texts.SUGGEST_OFFER,
        "accept": texts.SUGGEST_ACCEPT,
        "discard": texts.SUGGEST_DISCARD,
    }
    return gr.HTML(
        {},
        html_template=_TEMPLATE,
        js_on_load=Path(__file__).with_name("suggestion.js").read_text(encoding="utf-8"),
        elem_id="suggestion",
        apply_default_css=False,
        visible=settings.given,
        words=words,
    )
