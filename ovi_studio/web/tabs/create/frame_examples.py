"""What kind of first frame the embedded model continues, with two that come with it; empty for other models."""

from functools import cache
from html import escape

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import EMBEDDED_BUNDLE, read_bundle
from ovi_studio.demo.first_frames import EXAMPLES, FIRST_FRAME_ADVICE, ExamplePicture
from ovi_studio.web.tabs.create import texts

_SCRIPT = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-frame]");
  if (button) trigger("choose", { number: Number(button.dataset.frame) });
});
"""


def build_frame_examples(model: str | None) -> gr.HTML:
    """Build the line below the first frame; its event `choose` names an example."""
    return gr.HTML(frame_examples_html(model), elem_id="frame-examples", js_on_load=_SCRIPT, apply_default_css=False)


def frame_examples_html(model: str | None) -> str:
    """Render the advice and the examples for a model by its name."""
    if model != _embedded_name():
        return ""
    buttons = "".join(
        f'<button type="button" class="plain" data-frame="{number}">{escape(example.title)}</button>'
        for number, example in enumerate(EXAMPLES)
    )
    return (
        f'<details class="frame-examples"><summary>{texts.WHICH_PICTURES}</summary><p>{escape(FIRST_FRAME_ADVICE)}</p>'
        f"<p>{texts.TRY_ONE} {buttons}</p></details>"
    )


def example_of(event: gr.EventData) -> ExamplePicture:
    """Return the example that was chosen; raises `JobError` if there is no such one."""
    number = event._data.get("number") if isinstance(event._data, dict) else None
    if not isinstance(number, int) or not 0 <= number < len(EXAMPLES):
        raise JobError(texts.NO_EXAMPLE)
    return EXAMPLES[number]


@cache
def _embedded_name() -> str:
    return read_bundle(EMBEDDED_BUNDLE).name
