"""The Create tab: the form that queues clips, with the current job and the latest clip next to it.

Other tabs put settings into the form with `CreateForm.fill`; the event handlers are in `handlers`.
"""

import secrets
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ovi_studio.core.prompt_patterns import escape_prompt
from ovi_studio.core.prompts import AudioTag
from ovi_studio.core.requests import SeedMode
from ovi_studio.core.spec import ADAPTER_LISTS, ClipSpec
from ovi_studio.core.variants import Variant
from ovi_studio.services.studio import Studio
from ovi_studio.web import views
from ovi_studio.web.tabs.create import texts
from ovi_studio.web.tabs.create.advanced import build_batch, build_sampling
from ovi_studio.web.tabs.create.composer import build_desk, build_first_frame, build_prompt
from ovi_studio.web.tabs.create.drawing import build_drawing, shown_drawing
from ovi_studio.web.tabs.create.first_clip import build_first_clip
from ovi_studio.web.tabs.create.frame_examples import build_frame_examples
from ovi_studio.web.tabs.create.kept import build_kept, kept_value
from ovi_studio.web.tabs.create.options import (
    ratio_options,
    shown_value,
    skip_options,
    start_values,
    widened,
)
from ovi_studio.web.tabs.create.presets_row import PRESETS_SCRIPT
from ovi_studio.web.tabs.create.settings_chips import build_chips
from ovi_studio.web.tabs.create.suggestion import build_suggestion
from ovi_studio.web.tabs.create.table_suggestions import build_table_suggestions
from ovi_studio.web.tabs.create.written import write_prompt, written_text
from ovi_studio.web.uploads import is_upload, shown_copy


@dataclass(frozen=True)
class CreateForm:
    """The components of the form; `fields` maps the names of `Request.values` to them."""

    studio: Studio
    origin: gr.HTML
    """`{"id"}`, another one after each replacement of the form; hidden."""
    editing: gr.HTML
    """`{"id", "number"}` of the waiting job that is being edited, or None; hidden."""
    look: gr.HTML
    """The name of the preset that was applied last, or None; hidden."""
    prompt: gr.Textbox
    """The scene, or the whole prompt as text if the cues say so."""
    cues: gr.HTML
    """`{"raw", "cues"}`: whether the prompt is edited as text, and its cues (`core/prompt_composition`)."""
    sound: gr.Textbox
    typed: gr.HTML
    """`{"before", "after"}` of the helper's suggestion that was accepted, or None; hidden."""
    first_frame: gr.Image
    kept: gr.HTML
    """What is kept of a clip, or None (`kept`)."""
    drawing: dict[str, gr.components.Component]
    """How the first frame is drawn, by flat names (`core.drawing`)."""
    model: gr.Radio
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
    queue: gr.Button

    @property
    def written(self) -> list[gr.components.Component]:
        """The components that hold the prompt; `text_of` joins their values."""
        return [self.prompt, self.cues, self.sound]

    def text_of(self, prompt: str | None, cues: Any, sound: str | None, tag: AudioTag) -> str:
        """Return the prompt of the values of `written`, with the tag of a variant."""
        return written_text(prompt, cues, sound, tag)

    @property
    def fields(self) -> dict[str, gr.components.Component]:
        """The components a clip is read from, by their name in `Request.values`; cues and sound are joined to it."""
        return {
            "prompt": self.prompt,
            "cues": self.cues,
            "sound": self.sound,
            "typed_prompt": self.typed,
            "image": self.first_frame,
            "kept": self.kept,
            **self.drawing,
            "variant": self.model,
            "steps": self.steps,
            **self.sampling,
            **self.stacks,
        }

    @property
    def draft(self) -> dict[str, gr.components.Component]:
        """Everything that the browser keeps of the form (`draft.js`), by name."""
        return {
            "origin": self.origin,
            "editing": self.editing,
            "look": self.look,
            **self.fields,
            "ratio": self.ratio,
            "seed_mode": self.seed_mode,
            "seed": self.seed,
            "count": self.count,
            "table": self.table,
            "batch_name": self.batch_name,
            "priority": self.priority,
        }

    @property
    def asked(self) -> dict[str, list[str]]:
        """The names in `draft` of what the server's word on the form depends on, by the event that asks for it."""
        guidance = ["video_guidance", "audio_guidance", "step_cache"]
        prompt = ["prompt", "cues", "sound"]
        return {
            "inspect": ["editing", "table", "count", *prompt, "variant", "steps", *guidance],
            "preview": ["table", "ratio", "count", *self.fields],
        }

    @property
    def outputs(self) -> list[gr.components.Component]:
        """The components that `fill` returns updates for, in the same order."""
        own = [
            self.origin,
            self.editing,
            *self.written,
            self.typed,
            self.first_frame,
            self.kept,
            *self.drawing.values(),
            self.model,
            self.steps,
            self.ratio,
        ]
        own += [self.seed_mode, self.seed, self.count, *self.sampling.values(), *self.stacks.values()]
        return [*own, self.table, self.batch_name, self.notice, self.queue]

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
            return self._fill_prompt(prompt, views.notice_html(texts.NO_MODEL, texts.NO_MODEL_TITLE))
        if variant.name != spec.variant:
            reason = texts.other_model(spec.variant, variant.title)
            notice = views.notice_html(reason, texts.MODEL_REPLACED)
        kept = kept_value(self.studio, spec)
        if spec.source is not None and kept is None:
            reason = texts.SOURCE_ELSEWHERE.format(name=spec.source.name)
            notice += views.notice_html(reason, texts.SOURCE_ELSEWHERE_TITLE)
        job = None if editing is None else {"id": editing, "number": self.studio.store.get(editing).number}
        typed = {"before": spec.typed_prompt, "after": prompt} if spec.typed_prompt else None
        updates = [new_origin(), job, *write_prompt(prompt), typed, self._picture(spec), kept]
        updates += [*shown_drawing(self.studio, spec.to_draw).values(), variant.name]
        updates += [widened(self.steps, spec.steps), self._ratio(spec, variant)]
        # Fixed, so that the same settings make the same clip.
        updates += [SeedMode.FIXED, str(spec.seed), 1, *self._sampling(spec, variant), *self._stacks(spec)]
        return [*updates, None, "", notice, queue_button(1, editing is not None)]

    def _fill_prompt(self, prompt: str | None, notice: str) -> list[Any]:
        updates = dict.fromkeys((id(component) for component in self.outputs), gr.skip())
        if prompt is not None:
            updates |= dict(zip(map(id, self.written), write_prompt(prompt), strict=True)) | {id(self.typed): None}
        updates |= {id(self.origin): new_origin(), id(self.editing): None}
        updates |= {id(self.notice): notice, id(self.queue): queue_button(1, False)}
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


def new_origin() -> dict[str, str]:
    """Return a value for `CreateForm.origin`: the page's script sees by it that the form was replaced."""
    return {"id": secrets.token_hex(8)}


def queue_button(number: int | None, editing: bool) -> Any:
    """Return the queue button, labelled with the number of clips; None if the number is not known."""
    if editing:
        return gr.Button(texts.SAVE_JOB)
    return gr.Button(texts.QUEUE_ONE if number in (None, 1) else texts.QUEUE_MANY.format(number=number))


def build_form(studio: Studio) -> tuple[CreateForm, dict[str, Any]]:
    """Build the left column; returns the form, and the components that only its handlers need."""
    variants = studio.variants()
    best = variants[0] if variants else None
    start = start_values(best, studio.preset_offers()[0])
    extra: dict[str, Any] = {}
    parts: dict[str, Any] = {name: gr.HTML(None, visible="hidden") for name in ("origin", "editing", "look", "typed")}
    desk_place = gr.Column(elem_id="desk-place", min_width=0)
    build_first_clip(studio, extra)
    parts["prompt"], parts["cues"], parts["sound"] = build_prompt(extra)
    extra["suggestion"] = build_suggestion(studio)
    parts["first_frame"] = build_first_frame(extra)
    parts["kept"] = build_kept()
    parts["drawing"], extra["drawing"] = build_drawing(studio)
    extra["frame_examples"] = build_frame_examples(best.name if best else None)
    parts["stacks"] = {name: gr.Textbox("[]", label=name, visible=False) for name in ADAPTER_LISTS}
    extra["chosen"] = gr.HTML(elem_id="chosen", js_on_load=PRESETS_SCRIPT)
    parts |= build_chips(studio, variants, start, extra)
    with gr.Accordion(texts.SAMPLING, open=False, elem_id="sampling"):
        parts["sampling"] = build_sampling(studio, best, start)
    with gr.Accordion(texts.BATCH, open=False, elem_id="batch"):
        parts["table"], parts["batch_name"], parts["priority"] = build_batch(extra)
        extra["table_suggestions"] = build_table_suggestions(studio)
    with gr.Column(elem_id="actions"):
        parts["notice"] = gr.HTML(elem_id="notice")
        extra["makes"] = gr.HTML(elem_id="makes")
        parts["queue"] = gr.Button(texts.QUEUE_ONE, variant="primary", size="lg", elem_id="generate")
    sliders = [part for part in parts["sampling"].values() if isinstance(part, gr.Slider)]
    for number in (parts["steps"], parts["count"], *sliders):
        # `ClipSpec` reports values out of range in a sentence; Gradio's own check aborts the call (6.31).
        number.preprocess = _as_given
    form = CreateForm(studio=studio, **parts)
    with desk_place:
        extra["desk"] = build_desk(list(form.draft), form.asked)
    return form, extra


def _as_given(payload: Any) -> Any:
    return payload
