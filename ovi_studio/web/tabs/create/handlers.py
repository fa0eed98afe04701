"""Event handlers of the Create tab.

Handlers call `Studio` and update components with the results. All of them are private: the API is in `api`. Paths from
a client reach a handler only as references to uploads (`uploads`).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.core.prompt_check import join_prompt, parse_prompt, rows_to_text
from ovi_studio.core.prompt_repair import repaired_pattern
from ovi_studio.core.prompts import AudioTag
from ovi_studio.core.requests import Expansion, Request, SeedMode
from ovi_studio.core.spec import ClipSpec, parse_timesteps
from ovi_studio.services.studio import Studio
from ovi_studio.web import views
from ovi_studio.web.events import PRIVATE
from ovi_studio.web.live import LivePart
from ovi_studio.web.tabs.create import views as form_views
from ovi_studio.web.tabs.create.presets_handlers import connect_presets
from ovi_studio.web.tabs.create.stage.grid_handlers import FormReader
from ovi_studio.web.tabs.create.stage.tab import build_stage
from ovi_studio.web.tabs.create.tab import (
    CreateForm,
    build_form,
    model_choices,
    queue_button,
    ratio_options,
    skip_options,
    split_prompt,
)
from ovi_studio.web.toasts import Toasts


def build_create(studio: Studio, page: gr.Blocks, toasts: Toasts) -> tuple[CreateForm, list[LivePart]]:
    """Build the tab; returns the form, which other tabs fill, and the live parts: the stage and the presets."""
    with gr.Row(elem_id="workspace"):
        with gr.Column(elem_id="composer", min_width=320):
            form, extra = build_form(studio)
        handlers = CreateHandlers(studio, form)
        with gr.Column(elem_id="stage", min_width=320):
            stage = build_stage(studio, form, handlers.reader(), toasts)
    presets = connect_presets(studio, form, extra, page, toasts)
    _connect_queue(form, extra, handlers)
    _connect_fields(form, extra, handlers, page)
    return form, [stage, presets]


def _connect_queue(form: CreateForm, extra: dict[str, Any], handlers: "CreateHandlers") -> None:
    inputs = [form.editing, form.ratio, form.seed_mode, form.seed, form.count, form.table, form.batch_name]
    inputs += [form.priority]
    after = [form.notice, form.seed, form.table, form.editing, form.queue, form.leave]
    form.queue.click(handlers.queue, [*inputs, *form.fields.values()], after, **PRIVATE)
    form.leave.click(handlers.stop_editing, None, [form.notice, form.editing, form.queue, form.leave], **PRIVATE)
    inspected = [form.editing, form.table, form.count, form.prompt, form.sound, form.model, form.steps]
    inspected += [form.sampling[name] for name in ("video_guidance", "audio_guidance", "step_cache")]
    gr.on(
        [component.change for component in inspected],
        handlers.inspect,
        inspected,
        [extra["findings"], extra["makes"], form.queue],
        trigger_mode="always_last",
        **PRIVATE,
    )
    gr.on(
        [form.table.change, form.count.change],
        handlers.preview_table,
        [form.table, form.ratio, form.count, *form.fields.values()],
        extra["table_makes"],
        trigger_mode="always_last",
        **PRIVATE,
    )


def _connect_fields(form: CreateForm, extra: dict[str, Any], handlers: "CreateHandlers", page: gr.Blocks) -> None:
    speech = [extra["who"], extra["said"]]
    gr.on(
        [extra["add_speech"].click, extra["said"].submit],
        handlers.add_speech,
        [form.prompt, *speech],
        [form.prompt, *speech],
        **PRIVATE,
    )
    written = [form.prompt, form.sound]
    extra["findings"].repair(handlers.repair, [*written, form.model], written, **PRIVATE)
    page.load(handlers.list_models, form.model, [form.model, extra["only_demo"]], **PRIVATE)
    form.sampling["timesteps"].change(handlers.count_timesteps, form.sampling["timesteps"], form.steps, **PRIVATE)
    form.model.input(handlers.choose_model, form.model, [form.prompt, form.sampling["slg_layer"]], **PRIVATE)
    gr.on(
        [form.model.input, form.first_frame.change, form.sampling["raw_colours"].input],
        handlers.choose_size,
        [form.model, form.ratio, form.first_frame, form.sampling["raw_colours"]],
        [form.ratio, form.notice, extra["picture_notes"]],
        **PRIVATE,
    )
    # Typing a seed selects it.
    form.seed.input(None, form.seed_mode, form.seed_mode, js="(mode) => mode === 'random' ? 'fixed' : mode")


class CreateHandlers:
    """The functions behind the components of the tab."""

    def __init__(self, studio: Studio, form: CreateForm) -> None:
        self._studio = studio
        self._form = form
        self._parts = form.fields
        self._names = list(form.fields)

    def reader(self) -> FormReader:
        """How others read the clip in the form."""
        form = self._form
        inputs = [form.ratio, form.seed_mode, form.seed, *form.fields.values()]

        def read(ratio: str, mode: str, seed: str, *values: Any) -> Request:
            return self._request(values, ratio, mode, seed, 1)

        return FormReader(inputs, read, list(form.stacks.values()))

    def queue(
        self,
        editing: str | None,
        ratio: str,
        mode: str,
        seed: str,
        count: float | None,
        table: str | None,
        name: str,
        priority: int,
        *values: Any,
    ) -> Any:
        """Queue the clips of the form, or save the job that is being edited; show why if that fails."""
        try:
            request = self._request(values, ratio, mode, seed, count)
            if editing is not None:
                self._studio.store.edit(editing, self._one_clip(request, seed))
                updates = views.success_html("The job was changed."), seed, None, None
                return *updates, queue_button(1, False), gr.Button(visible=False)
            clips = self._clips(request, table)
            ids = self._studio.queue(clips.specs, name, priority=int(priority or 0))
        except JobError as error:
            title = "Not changed" if editing else "Not queued"
            return views.notice_html(str(error), title), *[gr.skip()] * 5
        following = _next_seed(mode, seed, count, [spec.seed for spec in clips.specs])
        return (
            form_views.queued_html(len(ids), name, clips.notes),
            following,
            None,
            None,
            gr.skip(),
            gr.Button(visible=False),
        )

    def _one_clip(self, request: Request, seed: str) -> ClipSpec:
        """Return the form's single clip, for the job that is being edited."""
        if not (seed or "").strip():
            raise JobError("The seed is empty; enter one for the clip.")
        values = {**request.values, "seed": seed}
        specs = self._studio.expand(replace(request, values=values, seed_mode=SeedMode.FIXED, count=1)).specs
        if len(specs) > 1:
            raise JobError("A job is one clip; remove the braces and wildcards, or stop editing and queue it.")
        return specs[0]

    def _clips(self, request: Request, table: str | None) -> Expansion:
        """Expand the form to its clips, or the uploaded table if there is one."""
        if table is None:
            return self._studio.expand(request)
        clips = self._studio.expand_table(Path(table), request)
        if not clips.specs:
            first = next(iter(clips.bad_rows), None)
            reason = f" (line {first.line}: {first.reason})" if first else ""
            raise JobError(f"No row of the table makes a clip{reason}; correct it.")
        return clips

    def stop_editing(self) -> Any:
        """Stop editing a job and leave it unchanged."""
        return "", None, queue_button(1, False), gr.Button(visible=False)

    def inspect(
        self,
        editing: str | None,
        table: str | None,
        count: float | None,
        prompt: str,
        sound: str,
        model: str | None,
        steps: float,
        video_guidance: float,
        audio_guidance: float,
        step_cache: str,
    ) -> Any:
        """Show findings about the prompt, and which clips it makes."""
        variant = self._studio.variant(model) if model else None
        full = _join(prompt, sound, self._tag(model))
        values = {"prompt": full, "variant": model, "steps": steps}
        values |= {"video_guidance": video_guidance, "audio_guidance": audio_guidance, "step_cache": step_cache}
        seeds = max(1, int(count or 1)) if editing is None else 1
        prompts, problem = self._prompts(full)
        findings = form_views.findings_html(full, prompts, variant)
        if table is not None:
            return findings, "", queue_button(None, editing is not None)
        if not full.strip() or model is None:
            return findings, "", queue_button(1, editing is not None)
        try:
            if problem is not None:
                raise problem
            seconds = self._studio.estimate(self._studio.spec(Request({**values, "prompt": prompts[0]})))
        except JobError as error:
            return findings, views.notice_html(str(error), "This cannot be queued yet"), gr.skip()
        makes = form_views.makes_html(prompts, seeds, seconds)
        return findings, makes, queue_button(len(prompts) * seeds, editing is not None)

    def preview_table(self, table: str | None, ratio: str, count: float | None, *values: Any) -> str:
        """Show what an uploaded table makes, before it is queued."""
        if table is None:
            return ""
        try:
            request = self._request(values, ratio, SeedMode.RANDOM, "", count)
            return form_views.table_html(self._studio.expand_table(Path(table), request))
        except JobError as error:
            return views.notice_html(str(error), "This table cannot be used")

    def add_speech(self, prompt: str, who: str, said: str) -> Any:
        """Append a line of speech to the prompt, before the audio description if there is one."""
        row = rows_to_text([(who, said)])
        if not row:
            return gr.skip()
        parts = parse_prompt(prompt)
        if parts.audio:
            tag = next((tag for tag in AudioTag if tag.value in prompt), AudioTag.AUDIO)
            return join_prompt(f"{parts.scene} {row}", parts.audio, tag), "", ""
        return f"{prompt.rstrip()} {row}".strip(), "", ""

    def repair(self, prompt: str, sound: str, model: str | None) -> Any:
        """Write the prompt into the form with its tags in the right form."""
        tag = self._tag(model)
        form = repaired_pattern(_join(prompt, sound, tag), tag)
        return split_prompt(form) if sound.strip() else (form, gr.skip())

    def choose_model(self, name: str) -> Any:
        """Update the prompt's format and the number of blocks, which depend on the model."""
        variant = self._studio.variant(name)
        options = {"info": views.prompt_hint(variant), "placeholder": views.prompt_example(variant)}
        return gr.Textbox(**options), gr.Slider(**skip_options(self._studio, variant))

    def choose_size(self, name: str, ratio: str, picture: str | None, raw_colours: bool = False) -> Any:
        """Update the sizes, which depend on the model, or on the first frame if there is one; show notes about it."""
        size, notes = None, ""
        if picture is not None:
            try:
                found = self._studio.picture_facts(Path(picture), name, raw_colours=raw_colours)
            except JobError as error:
                return gr.skip(), views.notice_html(str(error), "This picture cannot be used as the first frame"), ""
            size, notes = found.size, form_views.picture_notes_html(found.notes)
        return gr.Radio(**ratio_options(self._studio, self._studio.variant(name), ratio, size)), gr.skip(), notes

    def list_models(self, chosen: str | None) -> Any:
        """List the complete models; a download may have finished since the page was built."""
        variants = self._studio.variants()
        names = [variant.name for variant in variants]
        # A valid choice is not sent back, since the user may have changed it in the meantime.
        choice = {} if chosen in names else {"value": next(iter(names), None)}
        return gr.Dropdown(choices=model_choices(variants), **choice), views.demo_html(self._studio.download_command())

    def count_timesteps(self, text: str) -> Any:
        """Explicit timesteps set the number of steps; without them the slider is active."""
        try:
            timesteps = parse_timesteps(text)
        except JobError:
            return gr.skip()  # queueing reports what is wrong with them
        if timesteps is None:
            return gr.Slider(interactive=True)
        return gr.Slider(value=len(timesteps), interactive=False)

    def _request(self, values: Sequence[Any], ratio: str, mode: str, seed: str, count: float | None) -> Request:
        form = dict(zip(self._names, values, strict=True))
        form["prompt"] = _join(form["prompt"] or "", form.pop("sound") or "", self._tag(form["variant"]))
        if (form["timesteps"] or "").strip():
            form.pop("steps")  # the timesteps decide their number
        # An empty seed is drawn at random, whatever the mode.
        drawn = mode == SeedMode.RANDOM or not (seed or "").strip()
        return Request({**form, "seed": seed}, ratio, SeedMode.RANDOM if drawn else SeedMode(mode), int(count or 1))

    def _prompts(self, pattern: str) -> tuple[list[str], JobError | None]:
        """Expand a pattern; an invalid one is returned as it is, with the error."""
        try:
            return self._studio.prompts(Request({"prompt": pattern})), None
        except JobError as error:
            return [pattern], error

    def _tag(self, model: str | None) -> Any:
        return views.tag_of(self._studio.variant(model) if model else None)


def _join(prompt: str, sound: str, tag: Any) -> str:
    """Join prompt and sound; with an empty sound field the prompt is left exactly as it is."""
    return join_prompt(prompt, sound, tag) if sound.strip() else prompt


def _next_seed(mode: str, seed: str, count: float | None, used: Sequence[int]) -> str:
    if mode == SeedMode.NEXT and (seed or "").strip():
        return str(int(seed) + int(count or 1))
    # Show a drawn seed, so that it can be used again.
    return str(used[0]) if used else seed
