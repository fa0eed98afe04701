"""The settings in the System tab: what the engine is started with. Saved for everybody, and over restarts."""

from typing import Any, Protocol

import gradio as gr

from ovi_studio.capacity.tiers import AUTO, TIERS
from ovi_studio.core.errors import JobError
from ovi_studio.core.weight_formats import Weights
from ovi_studio.engine.supervisor import Supervisor
from ovi_studio.models.attention_kernels import KERNELS
from ovi_studio.queue.store import Store
from ovi_studio.runtime.runner import MakerOptions
from ovi_studio.runtime.settings import EngineSettings, attentions, keep_settings, read_settings
from ovi_studio.web.views import notice_html

_COMPILATION = {None: AUTO, True: "on", False: "off"}
_GIVEN = "Fixed by the command line."
_PRIVATE: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


class Shelf(Protocol):
    """The part of `Studio` that this panel uses."""

    store: Store
    supervisor: Supervisor
    options: MakerOptions


def build_settings(studio: Shelf, shown: Any) -> None:
    """The panel; `shown` is the event listener of the tab's coming into view."""
    given = studio.options
    with gr.Column(elem_id="settings"):
        attention = gr.Dropdown(
            [(KERNELS[name].title, name) for name in attentions()],
            label="Attention",
            info=_GIVEN if given.attention != "native" else "Others appear here once their package is installed.",
            interactive=given.attention == "native",
            filterable=False,
            elem_id="setting-attention",
        )
        with gr.Row():
            weights = gr.Dropdown(
                [("by the memory tier", AUTO), *((str(name), str(name)) for name in Weights)],
                label="Weights",
                info=_GIVEN if given.weights != AUTO else "int8 takes half the memory; fp8 needs such a file.",
                interactive=given.weights == AUTO,
                filterable=False,
                elem_id="setting-weights",
            )
            memory = gr.Dropdown(
                [
                    ("by the free memory", AUTO),
                    *((f"{tier.name} GB", tier.name) for tier in TIERS[:-1]),
                    ("all", "max"),
                ],
                label="GPU memory",
                info=_GIVEN if given.memory != AUTO else "What does not fit is streamed from host memory.",
                interactive=given.memory == AUTO,
                filterable=False,
                elem_id="setting-memory",
            )
        compilation = gr.Dropdown(
            [("where it works", AUTO), ("always", "on"), ("never", "off")],
            label="Compile the transformer",
            info=_GIVEN
            if given.compiled is not None
            else "The first clip of each size takes longer, the others less; needs a GPU with Triton.",
            interactive=given.compiled is None,
            filterable=False,
            elem_id="setting-compilation",
        )
        tf32 = gr.Checkbox(
            label="TF32 for the sound's models",
            info=_GIVEN if given.tf32 else "Quicker and less exact, on RTX 30 and newer.",
            interactive=not given.tf32,
        )
        offloaded = gr.Checkbox(
            label="Keep models in host memory while they are not used",
            info=_GIVEN if given.offloaded else "Needs less of the GPU's memory and a little more time.",
            interactive=not given.offloaded,
        )
        previews = gr.Checkbox(label="Live preview", info="A small picture of a clip every few steps.")
        save = gr.Button("Save and restart the engine", elem_id="save-settings", size="md")
        notice = gr.HTML(elem_classes="fleeting")
    fields = [attention, compilation, tf32, offloaded, previews, weights, memory]

    def look() -> Any:
        kept = read_settings(studio.store.database)
        options = kept.added_to(given)
        return (
            options.attention,
            _COMPILATION[options.compiled],
            options.tf32,
            options.offloaded,
            kept.previews,
            options.weights,
            options.memory,
        )

    def keep(
        attention: str, compilation: str, tf32: bool, offloaded: bool, previews: bool, weights: str, memory: str
    ) -> str:
        wishes = {name: wish for wish, name in _COMPILATION.items()}
        try:
            settings = EngineSettings(attention, wishes.get(compilation), tf32, offloaded, previews, weights, memory)
            keep_settings(studio.store.database, settings)
        except JobError as error:
            return notice_html(str(error), "Not saved")
        studio.supervisor.restart()
        return (
            '<div class="notice good" role="status"><p>Saved. The engine starts anew after its current step; a job '
            "that runs begins again.</p></div>"
        )

    shown(look, None, fields, **_PRIVATE)
    save.click(keep, fields, notice, **_PRIVATE)
