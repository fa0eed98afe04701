"""The presets above the form, and the fields that save the form's settings as a preset."""

from typing import Any

import gradio as gr

from ovi_studio.services.studio import Studio
from ovi_studio.web.tabs.create import texts
from ovi_studio.web.tabs.create import views as form_views

PRESETS_SCRIPT = """
const acts = { preset: "choose", download: "download", delete: "remove", stop: "stop" };
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  for (const [name, act] of Object.entries(acts)) {
    if (name in button.dataset) trigger(act, { preset: button.dataset[name] });
  }
  if (button.dataset.remove) trigger("take_out", { list: button.dataset.remove, name: button.dataset.name });
});
"""
"""Script of the cards and of the chosen adapters: sends to the server which one was clicked."""


def build_presets(studio: Studio, extra: dict[str, Any]) -> None:
    """Build the cards and the fields that save a preset; components for the handlers are added to `extra`."""
    found, notices = studio.preset_offers()
    extra["presets"] = gr.HTML(form_views.presets_html(found, notices), elem_id="presets", js_on_load=PRESETS_SCRIPT)
    with gr.Accordion(texts.SAVE_PRESET, open=False, elem_id="keep-preset"), gr.Row(equal_height=True):
        extra["preset_title"] = gr.Textbox(
            "",
            label=texts.PRESET_TITLE,
            placeholder=texts.PRESET_PLACEHOLDER,
            info=texts.PRESET_HINT,
            max_length=60,
            max_lines=1,
            scale=3,
        )
        extra["keep_preset"] = gr.Button(
            texts.SAVE_PRESET_BUTTON, size="md", min_width=120, scale=0, elem_id="keep-preset-button"
        )
