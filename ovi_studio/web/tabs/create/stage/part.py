"""The bar that chooses a part of the clip on the stage, to be made again; `part.js` marks it on the waveform."""

from html import escape
from pathlib import Path

import gradio as gr

from ovi_studio.web.tabs.create.stage import texts

_SCRIPT = Path(__file__).parent / "part.js"


def build_part() -> gr.HTML:
    """Build the bar; its event `part` has `{id, from, to, only}`: a job, seconds as typed, and a half or nothing."""
    return gr.HTML(
        f'<form class="part" aria-label="{texts.PART}" hidden>{part_fields_html()}'
        f'<button type="submit" class="primary">{texts.PART_FILL}</button>'
        f'<button type="button" class="close">{texts.PART_CLOSE}</button><p>{texts.PART_ABOUT}</p></form>',
        js_on_load=_SCRIPT.read_text(encoding="utf-8"),
        elem_id="part",
        apply_default_css=False,
    )


def part_fields_html() -> str:
    """Render the fields `from`, `to` and `only` of a span of time that is made again."""
    number = 'type="number" min="0" step="any" inputmode="decimal"'
    halves = "".join(f'<option value="{name}">{escape(words)}</option>' for name, words in texts.PART_HALVES.items())
    return (
        f'<label>{texts.PART_FROM}<input {number} name="from" placeholder="0"></label>'
        f'<label>{texts.PART_TO}<input {number} name="to" placeholder="{texts.PART_END}"></label>'
        f'<label>{texts.PART_HALF}<select name="only">{halves}</select></label>'
    )
