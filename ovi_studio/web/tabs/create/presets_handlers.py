"""Event handlers for presets in the Create tab: apply, save and delete them, and download their missing files.

Also handles the chosen adapters, which come from presets and from the LoRAs tab. Handlers are private.
"""

from functools import partial
from typing import Any

import gradio as gr

from ovi_studio.core.adapter_stack import parse_stack
from ovi_studio.core.errors import JobError
from ovi_studio.core.requests import Request
from ovi_studio.core.spec import ADAPTER_LISTS
from ovi_studio.services.presets import Preset
from ovi_studio.services.studio import Studio
from ovi_studio.web import views
from ovi_studio.web.events import EACH, LATEST, PRIVATE
from ovi_studio.web.live import LivePart
from ovi_studio.web.tabs.create import texts
from ovi_studio.web.tabs.create import views as form_views
from ovi_studio.web.tabs.create.drawing import DRAWING_NAMES
from ovi_studio.web.tabs.create.options import ratio_options, shown_value, skip_options, widened
from ovi_studio.web.tabs.create.tab import CreateForm, new_origin
from ovi_studio.web.toasts import Toasts

_NOT_SAVED = ("prompt", "cues", "sound", "typed_prompt", "image", "kept", *DRAWING_NAMES)


def connect_presets(
    studio: Studio, form: CreateForm, extra: dict[str, Any], page: gr.Blocks, toasts: Toasts
) -> LivePart:
    """Connect the preset cards, the fields that save a preset, and the chosen adapters; returns the cards."""
    handlers = PresetHandlers(studio, form, toasts)
    cards: gr.HTML = extra["presets"]
    parts = list(form.fields.values())
    cards.choose(handlers.apply, parts, [*parts, form.ratio, form.notice, form.look, form.origin], **LATEST)
    cards.download(handlers.download, None, form.notice, **PRIVATE)
    cards.stop(studio.adapter_downloads.cancel, None, None, **PRIVATE)
    cards.remove(handlers.delete, None, toasts.component, **EACH)
    gr.on(
        [extra["keep_preset"].click, extra["preset_title"].submit],
        handlers.save,
        [extra["preset_title"], form.ratio, *parts],
        [extra["preset_title"], cards, form.notice],
        **PRIVATE,
    )
    stacks = [form.stacks[name] for name in ADAPTER_LISTS]
    gr.on([*(part.change for part in stacks), page.load], handlers.show_chosen, stacks, extra["chosen"], **LATEST)
    extra["chosen"].take_out(handlers.remove_adapter, stacks, stacks, **PRIVATE)
    return LivePart(handlers.refresh, [cards], gr.State(()))


class PresetHandlers:
    """The functions behind the cards."""

    def __init__(self, studio: Studio, form: CreateForm, toasts: Toasts) -> None:
        self._studio = studio
        self._toasts = toasts
        self._parts = form.fields
        self._names = list(form.fields)

    def refresh(self, seen: Any) -> Any:
        """Update the cards after progress of a download or a change of the presets."""
        now = self._studio.adapter_downloads.state().revision, self._studio.presets.revision
        return None if now == seen else (self._cards(), now)

    def apply(self, event: gr.EventData, *values: Any) -> Any:
        """Put a preset's settings into the form and leave the other fields unchanged."""
        unchanged = [gr.skip()] * (len(self._names) + 1)  # and the ratio
        try:
            preset = self._usable_preset(_text(event, "preset"))
            chosen = self._model(preset, values[self._names.index("variant")])
        except JobError as error:
            return *unchanged, views.notice_html(str(error), texts.PRESET_NOT_APPLIED), gr.skip(), gr.skip()
        given = dict(preset.settings) | {"variant": chosen}
        if "steps" in given:
            given.setdefault("timesteps", None)
        updates = {
            name: widened(part, shown_value(name, given[name])) if name in given else gr.skip()
            for name, part in self._parts.items()
        }
        moved = chosen != values[self._names.index("variant")]
        variant = self._studio.variant(chosen)
        if moved or "variant" in preset.settings or "slg_layer" in given:
            updates["slg_layer"] = gr.Slider(**skip_options(self._studio, variant, given.get("slg_layer")))
        size = given.get("size")
        ratio = self._studio.ratio_of(size, chosen) if size else None
        has_picture = values[self._names.index("image")] is not None
        changes_ratio = (moved or "variant" in preset.settings or ratio is not None) and not has_picture
        options = gr.Radio(**ratio_options(self._studio, variant, ratio)) if changes_ratio else gr.skip()
        notice = views.success_html(texts.PRESET_APPLIED.format(title=preset.title))
        return *[updates[name] for name in self._names], options, notice, preset.name, new_origin()

    def download(self, event: gr.EventData) -> str:
        """Start downloading the missing files of a preset."""
        try:
            self._studio.download_adapters(_text(event, "preset"))
        except JobError as error:
            return views.notice_html(str(error), texts.DOWNLOAD_FAILED)
        return ""

    def save(self, title: str, ratio: str, *values: Any) -> Any:
        """Save the form's settings as a preset of the user's own."""
        form = {name: value for name, value in zip(self._names, values, strict=True) if name not in _NOT_SAVED}
        if (form["timesteps"] or "").strip():
            form.pop("steps")
        try:
            spec = self._studio.spec(Request({**form, "prompt": "any"}, ratio))
            preset = self._studio.presets.save(title, spec.to_dict(), variants=(spec.variant,))
        except JobError as error:
            return gr.skip(), gr.skip(), views.notice_html(str(error), texts.PRESET_NOT_SAVED)
        return "", self._cards(), views.success_html(texts.PRESET_SAVED.format(title=preset.title))

    def delete(self, event: gr.EventData, request: gr.Request) -> Any:
        """Delete one of the user's own presets; the cards follow the presets by themselves."""
        name = _text(event, "preset")
        try:
            title = self._studio.presets.get(name).title
            content = self._studio.presets.delete(name)
        except JobError as error:
            return self._toasts.note(str(error), failed=True)
        restore = partial(self._studio.presets.restore, name, content)
        return self._toasts.undoable(request, texts.PRESET_DELETED.format(title=title), restore)

    def show_chosen(self, *lists: str) -> str:
        """Show the form's adapters."""
        try:
            return form_views.chosen_html(*map(parse_stack, lists))
        except JobError as error:
            return views.notice_html(str(error), texts.LORAS_UNUSABLE)

    def remove_adapter(self, event: gr.EventData, *lists: str) -> Any:
        """Remove an adapter from one of the lists."""
        name, removed = _text(event, "list"), _text(event, "name")
        stacks = dict(zip(ADAPTER_LISTS, map(parse_stack, lists), strict=True))
        if name in stacks:
            stacks[name] = tuple(use for use in stacks[name] if use.name != removed)
        return [shown_value(name, stack) for name, stack in stacks.items()]

    def _usable_preset(self, name: str) -> Preset:
        for offer in self._studio.preset_offers()[0]:
            if offer.preset.name == name:
                if not offer.usable:
                    raise JobError(offer.problem)
                return offer.preset
        raise JobError(texts.PRESET_GONE)

    def _model(self, preset: Preset, current: str | None) -> str:
        """Return the preset's own model, else the form's if it fits, else the best one that fits."""
        installed = [variant.name for variant in self._studio.variants()]
        chosen = preset.settings.get("variant") or current
        if preset.variants and chosen not in preset.variants:
            chosen = next((name for name in installed if name in preset.variants), chosen)
        if chosen not in installed:
            raise JobError(texts.MODEL_NOT_HERE.format(model=chosen))
        return str(chosen)

    def _cards(self) -> str:
        found, notices = self._studio.preset_offers()
        return form_views.presets_html(found, notices, self._studio.adapter_downloads.state())


def _text(event: gr.EventData, name: str) -> str:
    value = event._data.get(name) if isinstance(event._data, dict) else None
    return value if isinstance(value, str) else ""
