"""The Create tab: the form that queues clips, with the current job and the latest clip next to it.

Other tabs put settings into the form with `CreateForm.fill`; the event handlers are in `handlers`.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ovi_studio.core.adapter_stack import stack_to_json
from ovi_studio.core.prompt_check import join_prompt, parse_prompt
from ovi_studio.core.prompt_patterns import escape_prompt
from ovi_studio.core.prompts import MAX_PROMPT_LENGTH, AudioTag
from ovi_studio.core.requests import SeedMode
from ovi_studio.core.solvers import SOLVERS, describe_solvers
from ovi_studio.core.spec import ADAPTER_LISTS, ClipSpec, format_timesteps
from ovi_studio.core.step_caches import STEP_CACHES, describe_step_caches
from ovi_studio.core.variants import Variant
from ovi_studio.services.prompt_tables import SUFFIXES
from ovi_studio.services.studio import Studio
from ovi_studio.web import views
from ovi_studio.web.tabs.create.presets_row import PRESETS_SCRIPT, build_presets
from ovi_studio.web.uploads import is_upload, shown_copy, uploads_only

DEFAULTS = {field.name: field.default for field in dataclasses.fields(ClipSpec)}
SEED_CHOICES = [("Random", SeedMode.RANDOM), ("Fixed", SeedMode.FIXED), ("Next", SeedMode.NEXT)]
PRIORITY_CHOICES = [("Before others", 1), ("Normal", 0), ("After others", -1)]
_REPAIR_SCRIPT = """
element.addEventListener("click", (event) => {
  if (event.target.closest("[data-repair]")) trigger("repair");
});
"""


@dataclass(frozen=True)
class CreateForm:
    """The components of the form; `fields` maps the names of `Request.values` to them."""

    studio: Studio
    prompt: gr.Textbox
    sound: gr.Textbox
    first_frame: gr.Image
    model: gr.Dropdown
    steps: gr.Slider
    ratio: gr.Radio
    seed_mode: gr.Radio
    seed: gr.Textbox
    count: gr.Number
    sampling: dict[str, gr.components.Component]
    stacks: dict[str, gr.Textbox]
    """Adapters as JSON, by the name of their field in `ClipSpec`; hidden."""
    table: gr.File
    batch_name: gr.Textbox
    priority: gr.Radio
    notice: gr.HTML
    editing: gr.State
    """The id of the waiting job that is being edited, or None."""
    queue: gr.Button
    leave: gr.Button

    @property
    def fields(self) -> dict[str, gr.components.Component]:
        """The components a clip is read from, by their name in `Request.values`; the sound is joined to the prompt."""
        return {
            "prompt": self.prompt,
            "sound": self.sound,
            "image": self.first_frame,
            "variant": self.model,
            "steps": self.steps,
            **self.sampling,
            **self.stacks,
        }

    @property
    def outputs(self) -> list[gr.components.Component]:
        """The components that `fill` returns updates for, in the same order."""
        own = [self.prompt, self.sound, self.first_frame, self.model, self.steps, self.ratio, self.seed_mode, self.seed]
        own += [self.count, *self.sampling.values(), *self.stacks.values(), self.table, self.batch_name, self.notice]
        return [*own, self.editing, self.queue, self.leave]

    def fill(
        self, spec: ClipSpec | None = None, *, prompt: str | None = None, editing: str | None = None, notice: str = ""
    ) -> list[Any]:
        """Return updates for `outputs`: a clip's settings, or only a prompt. With `editing` the form edits that job.

        A model that is no longer installed is replaced by the best one, and the form says so.
        """
        if spec is None:
            return self._fill_prompt(prompt, notice)
        if prompt is None:
            prompt = escape_prompt(spec.prompt)  # the field holds a pattern, but a clip the literal text
        variant = self._variant(spec.variant)
        if variant is None:
            return self._fill_prompt(prompt, views.notice_html("Download one first.", "No model is installed"))
        if variant.name != spec.variant:
            notice = views.notice_html(f"{spec.variant} is not installed; using {variant.title}.", "Model replaced")
        scene, sound = split_prompt(prompt)
        updates = [scene, sound, self._picture(spec), variant.name, widened(self.steps, spec.steps)]
        updates += [self._ratio(spec, variant)]
        # Fixed, so that the same settings make the same clip.
        updates += [
            SeedMode.FIXED,
            str(spec.seed),
            1,
            *self._sampling(spec, variant),
            *self._stacks(spec),
            None,
            "",
            notice,
        ]
        return [*updates, editing, queue_button(1, editing is not None), gr.Button(visible=editing is not None)]

    def _fill_prompt(self, prompt: str | None, notice: str) -> list[Any]:
        updates = dict.fromkeys((id(component) for component in self.outputs), gr.skip())
        if prompt is not None:
            updates[id(self.prompt)], updates[id(self.sound)] = split_prompt(prompt)
        updates |= {id(self.notice): notice, id(self.editing): None}
        updates |= {id(self.queue): queue_button(1, False), id(self.leave): gr.Button(visible=False)}
        return [updates[id(component)] for component in self.outputs]

    def _variant(self, name: str) -> Variant | None:
        variants = self.studio.variants()
        return next((variant for variant in variants if variant.name == name), variants[0] if variants else None)

    def _picture(self, spec: ClipSpec) -> str | None:
        if spec.image is None or not spec.image.is_file():
            return None
        if is_upload(self.first_frame, spec.image):
            return str(spec.image)
        return shown_copy(self.first_frame, spec.image)

    def _ratio(self, spec: ClipSpec, variant: Variant) -> Any:
        name = self.studio.ratio_of(spec.size, variant.name)
        return gr.Radio(**ratio_options(self.studio, variant, name))

    def _sampling(self, spec: ClipSpec, variant: Variant) -> list[Any]:
        values = {name: widened(part, shown_value(name, getattr(spec, name))) for name, part in self.sampling.items()}
        # A clip without a first frame says nothing about how to read the next one.
        values["raw_colours"] = spec.raw_colours and spec.image is not None
        values["slg_layer"] = gr.Slider(**skip_options(self.studio, variant, spec.slg_layer))
        return [values[name] for name in self.sampling]

    def _stacks(self, spec: ClipSpec) -> list[str]:
        return [shown_value(name, getattr(spec, name)) for name in self.stacks]


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


def split_prompt(prompt: str) -> tuple[str, str]:
    """Split into (prompt, sound) for the two fields; not split if joining them would not restore the prompt."""
    parts = parse_prompt(prompt)
    same = any(join_prompt(parts.scene, parts.audio, tag) == prompt.strip() for tag in AudioTag)
    return (parts.scene, parts.audio) if parts.audio and same else (prompt, "")


def queue_button(number: int | None, editing: bool) -> Any:
    """Return the queue button, labelled with the number of clips; None if the number is not known."""
    if editing:
        return gr.Button("Save changes")
    return gr.Button("Queue clip" if number in (None, 1) else f"Queue {number} clips")


def build_form(studio: Studio) -> tuple[CreateForm, dict[str, Any]]:
    """Build the left column; returns the form, and the components that only its handlers need."""
    variants = studio.variants()
    best = variants[0] if variants else None
    extra: dict[str, Any] = {"only_demo": gr.HTML(views.demo_html(studio.download_command()), elem_id="only-demo")}
    build_presets(studio, extra)
    prompt, sound = _build_prompt(best, extra)
    with gr.Row(elem_id="source", equal_height=True):
        first_frame = _build_first_frame()
        with gr.Column(min_width=240, scale=3):
            model = gr.Dropdown(model_choices(variants), label="Model", value=best and best.name, elem_id="model")
            steps = gr.Slider(1, 100, DEFAULTS["steps"], step=1, label="Steps")
    extra["picture_notes"] = gr.HTML(elem_id="picture-notes")
    stacks = {name: gr.Textbox("[]", label=name, visible=False) for name in ADAPTER_LISTS}
    extra["chosen"] = gr.HTML(elem_id="chosen", js_on_load=PRESETS_SCRIPT)
    ratio = gr.Radio(label="Aspect ratio", elem_id="ratio", **ratio_options(studio, best))
    with gr.Row(elem_id="seeds"):
        seed_mode = gr.Radio(
            SEED_CHOICES, value=SeedMode.RANDOM, label="Seed", elem_id="seed-mode", elem_classes="segments", scale=3
        )
        seed = gr.Textbox("", label="Number", placeholder="drawn", max_length=19, max_lines=1, min_width=120, scale=2)
        count = gr.Number(
            1, label="Seeds for each prompt", precision=0, minimum=1, maximum=1000, min_width=120, scale=2
        )
    with gr.Accordion("Guidance and sampling", open=False, elem_id="sampling"):
        sampling = _build_sampling(studio, best)
    with gr.Accordion("Many clips at once: table, batch name, priority", open=False, elem_id="batch"):
        table, batch_name, priority = _build_batch(extra)
    with gr.Column(elem_id="actions"):
        notice = gr.HTML(elem_id="notice")
        extra["makes"] = gr.HTML(elem_id="makes")
        with gr.Row():
            queue = gr.Button("Queue clip", variant="primary", size="lg", elem_id="generate", scale=3)
            leave = gr.Button("Stop editing", size="lg", elem_id="leave", visible=False, min_width=140)
    for number in (steps, count, *(part for part in sampling.values() if isinstance(part, gr.Slider))):
        # `ClipSpec` reports values out of range in a sentence; Gradio's own check aborts the call (6.31).
        number.preprocess = _as_given
    editing = gr.State(None)
    form = CreateForm(
        studio=studio,
        prompt=prompt,
        sound=sound,
        first_frame=first_frame,
        model=model,
        steps=steps,
        ratio=ratio,
        seed_mode=seed_mode,
        seed=seed,
        count=count,
        sampling=sampling,
        stacks=stacks,
        table=table,
        batch_name=batch_name,
        priority=priority,
        notice=notice,
        editing=editing,
        queue=queue,
        leave=leave,
    )
    return form, extra


def _as_given(payload: Any) -> Any:
    return payload


def _build_prompt(best: Variant | None, extra: dict[str, Any]) -> tuple[gr.Textbox, gr.Textbox]:
    prompt = gr.Textbox(
        "",
        label="Prompt",
        info=views.prompt_hint(best),
        placeholder=views.prompt_example(best),
        lines=5,
        max_lines=14,
        max_length=MAX_PROMPT_LENGTH,
        elem_id="prompt",
    )
    with gr.Row(elem_id="speech", equal_height=True):
        extra["who"] = gr.Textbox(
            "",
            label="Who speaks",
            placeholder="The man says",
            max_length=200,
            max_lines=1,
            min_width=150,
        )
        extra["said"] = gr.Textbox(
            "",
            label="What they say",
            placeholder="The sea was louder last night.",
            max_length=1000,
            max_lines=1,
            scale=2,
        )
        extra["add_speech"] = gr.Button("Add speech", size="md", min_width=124, scale=0, elem_id="add-speech")
    sound = gr.Textbox(
        "",
        label="Sound",
        placeholder="Gulls, slow waves against wood, a low calm voice.",
        max_length=MAX_PROMPT_LENGTH,
        max_lines=4,
        elem_id="sound",
    )
    extra["findings"] = gr.HTML(elem_id="findings", js_on_load=_REPAIR_SCRIPT)
    return prompt, sound


def _build_first_frame() -> gr.Image:
    picture = gr.Image(
        label="First frame (optional)",
        type="filepath",
        sources=["upload", "clipboard"],
        buttons=[],
        height=200,
        min_width=200,
        scale=2,
        elem_id="first-frame",
        placeholder="Drop or paste a picture",
    )
    # Otherwise Gradio opens the file itself and reports a broken one with a pop-up instead of our message.
    uploads_only(picture, "first frame")
    return picture


def _build_sampling(studio: Studio, best: Variant | None) -> dict[str, gr.components.Component]:
    """Build the settings that are rarely changed, by their name in `ClipSpec`."""

    def slider(name: str, label: str, low: float, high: float, step: float, info: str | None = None) -> gr.Slider:
        return gr.Slider(low, high, DEFAULTS[name], step=step, label=label, info=info, min_width=200)

    def negative(name: str, label: str) -> gr.Textbox:
        return gr.Textbox(DEFAULTS[name], label=label, max_length=MAX_PROMPT_LENGTH)

    settings: dict[str, gr.components.Component] = {}
    with gr.Row():
        settings["video_guidance"] = slider("video_guidance", "Video guidance", 0, 15, 0.1)
        settings["audio_guidance"] = slider("audio_guidance", "Audio guidance", 0, 15, 0.1)
    settings["solver"] = gr.Dropdown(
        [(solver.title, solver.name) for solver in SOLVERS.values()],
        value=DEFAULTS["solver"],
        label="Solver",
        info=describe_solvers(),
    )
    settings["shift"] = slider("shift", "Shift", 0.5, 20, 0.5, "Larger: more steps near noise")
    settings["timesteps"] = gr.Textbox(
        "",
        label="Explicit timesteps (optional)",
        info="Instead of steps and shift, from noise (1000) to clean (0)",
        placeholder="1000,750,500,250",
        max_length=4000,
        max_lines=1,
        elem_id="timesteps",
    )
    settings["slg_layer"] = gr.Slider(label="Skip-layer block", step=1, **skip_options(studio, best))
    settings["raw_colours"] = gr.Checkbox(
        DEFAULTS["raw_colours"],
        label="Raw colours of the first frame",
        info="Ignore its colour profile and transparency, as the official code does",
        elem_id="raw-colours",
    )
    settings["step_cache"] = gr.Dropdown(
        [(cache.title, cache.name) for cache in STEP_CACHES.values()],
        value=DEFAULTS["step_cache"],
        label="Step cache",
        info=describe_step_caches(),
    )
    settings["video_negative_prompt"] = negative("video_negative_prompt", "Negative prompt for the picture")
    settings["audio_negative_prompt"] = negative("audio_negative_prompt", "Negative prompt for the sound")
    return settings


def _build_batch(extra: dict[str, Any]) -> tuple[gr.File, gr.Textbox, gr.Radio]:
    batch_name = gr.Textbox("", label="Name of the batch (optional)", max_length=200, max_lines=1, elem_id="batch-name")
    priority = gr.Radio(PRIORITY_CHOICES, value=0, label="Priority", elem_id="priority", elem_classes="segments")
    table = gr.File(
        label="Prompts from a file, queued instead of the prompt above: CSV or TSV with a column text_prompt, or "
        "a text file with one prompt per line",
        file_types=list(SUFFIXES),
        type="filepath",
        height=120,
        elem_id="table",
    )
    uploads_only(table, "table")
    extra["table_makes"] = gr.HTML(elem_id="table-makes")
    return table, batch_name, priority


def model_choices(variants: list[Variant]) -> list[tuple[str, str]]:
    """Return the models' choices for a dropdown."""
    return [(variant.title, variant.name) for variant in variants]


def skip_options(studio: Studio, variant: Variant | None, layer: int | None = None) -> dict[str, Any]:
    """Return the options of the skipped block's slider, whose range and default depend on the model."""
    own = variant.slg_layer if variant else 0
    return {
        "minimum": 0,
        "maximum": studio.blocks(variant.name) - 1 if variant else 1,
        "value": max(0, own if layer is None else layer),
        "info": "Skipped in the negative pass; 0 skips none",
    }


def ratio_options(
    studio: Studio, variant: Variant | None, chosen: str | None = None, picture_size: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Return the options of the aspect ratios, whose sizes depend on the model or the first frame."""
    sizes = studio.sizes(variant.name) if variant else {}
    hint = views.ratio_hint(picture_size)
    return {
        "choices": [(views.ratio_label(name, size), name) for name, size in sizes.items()],
        "value": chosen if chosen in sizes else variant and studio.default_ratio(variant.name),
        "info": f"{hint} The clip lasts {variant.seconds:.1f} s." if variant else hint,
        "interactive": picture_size is None,
    }
