"""Event handlers of the Create tab.

Handlers call `Studio` and update components with the results. All of them are private: the API is in `api`. Paths from
a client reach a handler only as references to uploads (`uploads`).
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from ovi_studio.core.drawing import DRAWS, without_drawing
from ovi_studio.core.errors import JobError
from ovi_studio.core.prompt_repair import repaired_pattern
from ovi_studio.core.requests import Expansion, Request, SeedMode
from ovi_studio.core.spec import ClipSpec, parse_timesteps
from ovi_studio.core.variants import Variant
from ovi_studio.services.studio import Studio
from ovi_studio.web import views
from ovi_studio.web.events import LATEST, PRIVATE
from ovi_studio.web.live import LivePart
from ovi_studio.web.tabs.create import texts
from ovi_studio.web.tabs.create import views as form_views
from ovi_studio.web.tabs.create.drawing_handlers import connect_drawing
from ovi_studio.web.tabs.create.first_clip import first_clip_of
from ovi_studio.web.tabs.create.frame_examples import example_of, frame_examples_html
from ovi_studio.web.tabs.create.kept import kept_settings
from ovi_studio.web.tabs.create.options import model_choices, ratio_options, skip_options
from ovi_studio.web.tabs.create.presets_handlers import connect_presets
from ovi_studio.web.tabs.create.settings_chips import facts_html
from ovi_studio.web.tabs.create.stage.grid_handlers import FormReader
from ovi_studio.web.tabs.create.stage.tab import build_stage
from ovi_studio.web.tabs.create.suggestion_handlers import connect_suggestion
from ovi_studio.web.tabs.create.tab import CreateForm, build_form, new_origin, queue_button
from ovi_studio.web.tabs.create.table_suggestion_handlers import connect_table_suggestions
from ovi_studio.web.tabs.create.written import splits, typed_text, write_prompt, written_text
from ovi_studio.web.toasts import Toasts
from ovi_studio.web.uploads import shown_copy


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
    connect_suggestion(studio, form, extra["suggestion"])
    connect_table_suggestions(studio, form, extra["table_suggestions"])
    connect_draft(form, extra, handlers)
    drawing = connect_drawing(studio, form, extra["drawing"], handlers.reader())
    first_clip = LivePart(handlers.refresh_offer, [extra["first_clip"]], gr.State(()))
    return form, [stage, presets, first_clip, *drawing]


def _connect_queue(form: CreateForm, extra: dict[str, Any], handlers: "CreateHandlers") -> None:
    batch = [form.editing, form.ratio, form.seed_mode, form.seed, form.count, form.table, form.batch_name]
    inputs = [*batch, form.priority, *form.fields.values()]
    after = [form.notice, form.seed, form.table, form.editing, form.queue]
    files = {"image": inputs.index(form.first_frame), "table": inputs.index(form.table)}
    parts = {name: inputs.index(part) for name, part in zip(("prompt", "cues", "sound"), form.written, strict=True)}
    pressed = f"composer.pressed(values, {json.dumps(parts)})"
    script = f"(...values) => ({pressed}, composer.withFiles(values, {json.dumps(files)}))"
    queued = form.queue.click(handlers.queue, inputs, after, js=script, **PRIVATE)
    queued.then(None, form.editing, None, js="(editing) => composer.answered(editing)")
    # `draft.js` notices changes: Gradio's own events come with every key, and also when nothing has changed (6.31).
    answers = {
        "inspect": (handlers.inspect, [extra["findings"], extra["makes"], form.queue]),
        "preview": (handlers.preview_table, [extra["table_makes"]]),
    }
    for event, (handler, shown) in answers.items():
        asked = [form.draft[name] for name in form.asked[event]]
        script = f"(...values) => composer.asks('{event}', values)"
        getattr(extra["desk"], event)(handler, asked, shown, js=script, **LATEST)
    outputs = [*form.written, form.origin, form.notice, form.queue]
    extra["first_clip"].example(handlers.make_example, inputs, outputs, **PRIVATE)
    extra["first_clip"].fetch(handlers.download, None, form.notice, **PRIVATE)


def _connect_fields(form: CreateForm, extra: dict[str, Any], handlers: "CreateHandlers", page: gr.Blocks) -> None:
    whole = [*form.written, form.model]
    extra["findings"].repair(handlers.repair, whole, form.written, **PRIVATE)
    extra["findings"].split(handlers.toggle_raw, whole, [*form.written, form.notice], **PRIVATE)
    extra["desk"].raw(handlers.toggle_raw, whole, [*form.written, form.notice], **PRIVATE)
    page.load(handlers.list_models, form.model, [form.model, extra["model_facts"]], **LATEST)
    form.sampling["timesteps"].change(handlers.count_timesteps, form.sampling["timesteps"], form.steps, **LATEST)
    form.model.input(handlers.choose_model, form.model, form.sampling["slg_layer"], **LATEST)
    form.model.change(frame_examples_html, form.model, extra["frame_examples"], **LATEST)
    chosen = [form.first_frame, *form.written, form.origin]
    extra["frame_examples"].choose(handlers.choose_frame, None, chosen, **LATEST)
    gr.on(
        [form.model.input, form.first_frame.change, form.sampling["raw_colours"].input],
        handlers.choose_size,
        [form.model, form.ratio, form.first_frame, form.sampling["raw_colours"]],
        [form.ratio, form.notice, extra["picture_notes"]],
        **LATEST,
    )


def connect_draft(form: CreateForm, extra: dict[str, Any], handlers: "CreateHandlers") -> None:
    """Connect what the browser does by itself: it keeps the form, and puts a kept one back (`draft.js`)."""
    parts = list(form.draft.values())
    keep = "(...values) => void window.composer?.keep(values)"
    gr.on([part.change for part in parts], None, parts, None, js=keep, trigger_mode="multiple")
    extra["desk"].read(None, parts, None, js=keep, trigger_mode="multiple")
    put = extra["desk"].put(None, None, parts, js="() => composer.taken()", trigger_mode="multiple")
    arrived = "(...values) => void composer.arrived(values)"
    put.then(None, parts, None, js=arrived, trigger_mode="multiple")
    # The sizes and the range of blocks belong to the model of that form.
    shaped = [form.model, form.ratio, form.first_frame, form.sampling["raw_colours"], form.sampling["slg_layer"]]
    outputs = [form.model, extra["model_facts"], form.ratio, extra["picture_notes"], form.sampling["slg_layer"]]
    for happens in (put.then, extra["desk"].again):
        happens(handlers.reshape, shaped, [*outputs, form.notice], **LATEST)


class CreateHandlers:
    """The functions behind the components of the tab."""

    def __init__(self, studio: Studio, form: CreateForm) -> None:
        self._studio = studio
        self._form = form
        self._names = list(form.fields)

    def reader(self) -> FormReader:
        """How others read the clip in the form."""
        form = self._form
        inputs = [form.ratio, form.seed_mode, form.seed, *form.fields.values()]

        def read(ratio: str, mode: str, seed: str, *values: Any, draws: bool = False) -> Request:
            return self._request(values, ratio, mode, seed, 1, draws=draws)

        return FormReader(inputs, read, list(form.stacks.values()))

    def queue(
        self,
        editing: Any,
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
        job = _job_id(editing)
        try:
            request = self._request(values, ratio, mode, seed, count)
            if job is not None:
                self._studio.store.edit(job, self._one_clip(request, seed))
                return "", seed, None, None, queue_button(1, False)
            clips = self._clips(request, table)
            ids = self._studio.queue(clips.specs, name, priority=int(priority or 0))
        except JobError as error:
            return views.notice_html(str(error), texts.NOT_SAVED if job else texts.NOT_QUEUED), *[gr.skip()] * 4
        following = _next_seed(mode, seed, count, [spec.seed for spec in clips.specs])
        return form_views.queued_html(len(ids), name, clips.notes), following, None, None, gr.skip()

    def make_example(self, event: gr.EventData, *inputs: Any) -> Any:
        """Write one of the examples into the form and queue it with the form's settings."""
        number = event._data.get("number") if isinstance(event._data, dict) else None
        if not isinstance(number, int) or not 0 <= number < len(texts.EXAMPLES):
            raise JobError(texts.NO_EXAMPLE)
        _, scene, sound = texts.EXAMPLES[number]
        parts = [scene, {"raw": False, "cues": []}, sound]
        _, ratio, _, _, _, _, _, priority, *values = inputs
        written = dict(zip(self._names, values, strict=True)) | dict(
            zip(("prompt", "cues", "sound"), parts, strict=True)
        )
        queued = self.queue(None, ratio, SeedMode.RANDOM, "", 1, None, "", priority, *written.values())
        return *parts, new_origin(), queued[0], queue_button(1, False)

    def choose_frame(self, event: gr.EventData) -> Any:
        """Put one of the example pictures and its prompt into the form."""
        example = example_of(event)
        return shown_copy(self._form.first_frame, example.path), *write_prompt(example.prompt), new_origin()

    def download(self, event: gr.EventData) -> str:
        """Start downloading a model; returns a notice if that fails."""
        model = event._data.get("model") if isinstance(event._data, dict) else None
        try:
            self._studio.model_downloads.start(model if isinstance(model, str) else "")
        except JobError as error:
            return views.notice_html(str(error), texts.DOWNLOAD_FAILED)
        return ""

    def refresh_offer(self, seen: Any) -> Any:
        """Update the panel with the examples and the download."""
        now = self._studio.model_downloads.state().revision, self._studio.has_clips()
        return None if now == seen else (first_clip_of(self._studio), now)

    def _one_clip(self, request: Request, seed: str) -> ClipSpec:
        """Return the form's single clip, for the job that is being edited."""
        if not (seed or "").strip():
            raise JobError(texts.SEED_EMPTY)
        values = {**request.values, "seed": seed}
        specs = self._studio.expand(replace(request, values=values, seed_mode=SeedMode.FIXED, count=1)).specs
        if len(specs) > 1:
            raise JobError(texts.ONE_CLIP_ONLY)
        return specs[0]

    def _clips(self, request: Request, table: str | None) -> Expansion:
        """Expand the form to its clips, or the uploaded table if there is one."""
        if table is None:
            return self._studio.expand(request)
        clips = self._studio.expand_table(Path(table), request)
        if not clips.specs:
            first = next(iter(clips.bad_rows), None)
            reason = texts.NO_ROW_REASON.format(line=first.line, reason=first.reason) if first else ""
            raise JobError(texts.NO_ROW.format(reason=reason))
        return clips

    def inspect(
        self,
        editing: Any,
        table: str | None,
        count: float | None,
        prompt: str,
        cues: Any,
        sound: str,
        model: str | None,
        steps: float,
        video_guidance: float,
        audio_guidance: float,
        step_cache: str,
    ) -> Any:
        """Show findings about the prompt, and which clips it makes."""
        job = _job_id(editing)
        variant = self._find(model)
        full = written_text(prompt, cues, sound, views.tag_of(variant))
        values = {"prompt": full, "variant": model, "steps": steps}
        values |= {"video_guidance": video_guidance, "audio_guidance": audio_guidance, "step_cache": step_cache}
        seeds = max(1, int(count or 1)) if job is None else 1
        prompts, problem = self._prompts(full)
        findings = form_views.findings_html(full, prompts, variant, splits=splits(prompt, cues))
        if table is not None:
            return findings, "", queue_button(None, job is not None)
        if not full.strip() or variant is None:
            return findings, "", queue_button(1, job is not None)
        try:
            if problem is not None:
                raise problem
            spec = self._studio.spec(Request({**values, "prompt": prompts[0]}))
            clips = len(prompts) * seeds
            seconds, whole = (self._studio.estimate(spec, count) for count in (1, clips))
        except JobError as error:
            return findings, views.notice_html(str(error), texts.NOT_YET), gr.skip()
        makes = form_views.makes_html(prompts, seeds, seconds, whole)
        return findings, makes, queue_button(clips, job is not None)

    def preview_table(self, table: str | None, ratio: str, count: float | None, *values: Any) -> str:
        """Show what an uploaded table makes, before it is queued."""
        if table is None:
            return ""
        try:
            request = self._request(values, ratio, SeedMode.RANDOM, "", count)
            return form_views.table_html(self._studio.expand_table(Path(table), request))
        except JobError as error:
            return views.notice_html(str(error), texts.TABLE_UNUSABLE)

    def repair(self, prompt: str, cues: Any, sound: str, model: str | None) -> Any:
        """Write the prompt into the form with its tags in the right form."""
        tag = views.tag_of(self._find(model))
        return write_prompt(repaired_pattern(written_text(prompt, cues, sound, tag), tag))

    def toggle_raw(self, prompt: str, cues: Any, sound: str, model: str | None) -> Any:
        """Show the prompt as the model reads it, or take it apart again; say why if that would change it."""
        text = written_text(prompt, cues, sound, views.tag_of(self._find(model)))
        raw = isinstance(cues, dict) and bool(cues.get("raw"))
        if not raw and not splits(prompt, cues):
            parts = {"prompt": prompt, "cues": cues, "sound": sound, "text": text}
            return text, {"raw": True, "cues": [], "kept": parts}, "", ""
        kept = cues.get("kept") if raw else None
        if isinstance(kept, dict) and kept.get("text") == text:
            return kept.get("prompt"), kept.get("cues"), kept.get("sound"), ""  # exactly the parts that it came from
        scene, found, audio = write_prompt(text)
        notice = views.notice_html(texts.NOT_SPLIT, texts.NOT_SPLIT_TITLE) if found["raw"] else ""
        return scene, found, audio, notice

    def choose_model(self, name: str) -> Any:
        """Update the number of blocks, which depends on the model."""
        return gr.Slider(**skip_options(self._studio, self._studio.variant(name)))

    def reshape(self, model: str | None, ratio: str, picture: str | None, raw_colours: bool, layer: float) -> Any:
        """Fit a form that was put back to the models that are here now."""
        shown, facts = self.list_models(model)
        variant = self._find(model) or next(iter(self._studio.variants()), None)
        if variant is None:
            return shown, facts, *[gr.skip()] * 4
        sizes, notice, notes = self.choose_size(variant.name, ratio, picture, raw_colours)
        skipped = gr.Slider(**skip_options(self._studio, variant, int(layer or 0)))
        return shown, facts, sizes, notes, skipped, notice

    def choose_size(self, name: str, ratio: str, picture: str | None, raw_colours: bool = False) -> Any:
        """Update the sizes, which depend on the model, or on the first frame if there is one; show notes about it."""
        size, notes = None, ""
        if picture is not None:
            try:
                found = self._studio.picture_facts(Path(picture), name, raw_colours=raw_colours)
            except JobError as error:
                return gr.skip(), views.notice_html(str(error), texts.PICTURE_UNUSABLE), ""
            size, notes = found.size, form_views.picture_notes_html(found.notes)
        return gr.Radio(**ratio_options(self._studio, self._studio.variant(name), ratio, size)), gr.skip(), notes

    def list_models(self, chosen: str | None) -> Any:
        """List the complete models; a download may have finished since the page was built."""
        variants = self._studio.variants()
        names = [variant.name for variant in variants]
        # A valid choice is not sent back, since the user may have changed it in the meantime.
        choice = {} if chosen in names else {"value": next(iter(names), None)}
        return gr.Radio(choices=model_choices(variants), **choice), facts_html(variants)

    def count_timesteps(self, text: str) -> Any:
        """Explicit timesteps set the number of steps; without them the slider is active."""
        try:
            timesteps = parse_timesteps(text)
        except JobError:
            return gr.skip()  # queueing reports what is wrong with them
        if timesteps is None:
            return gr.Slider(interactive=True)
        return gr.Slider(value=len(timesteps), interactive=False)

    def _request(
        self, values: Sequence[Any], ratio: str, mode: str, seed: str, count: float | None, *, draws: bool = False
    ) -> Request:
        form = dict(zip(self._names, values, strict=True))
        kept = form.pop("kept")
        if draws:  # whatever the form has already
            form |= {DRAWS: True, "image": None}
        else:
            form |= kept_settings(self._studio, kept)
            form = form if form[DRAWS] else without_drawing(form)
        tag = views.tag_of(self._find(form["variant"]))
        form["prompt"] = written_text(form["prompt"], form.pop("cues"), form.pop("sound"), tag)
        form["typed_prompt"] = typed_text(form.pop("typed_prompt"), form["prompt"])
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

    def _find(self, model: str | None) -> Variant | None:
        try:
            return self._studio.variant(model) if model else None
        except JobError:
            return None  # queueing says that it is not installed


def _job_id(editing: Any) -> str | None:
    job = editing.get("id") if isinstance(editing, dict) else None
    return job if isinstance(job, str) else None


def _next_seed(mode: str, seed: str, count: float | None, used: Sequence[int]) -> str:
    if mode == SeedMode.NEXT and (seed or "").strip():
        return str(int(seed) + int(count or 1))
    # Show a drawn seed, so that it can be used again.
    return str(used[0]) if used else seed
