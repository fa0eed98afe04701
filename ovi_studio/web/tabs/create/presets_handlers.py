"""What happens with presets in the Create tab: applying, keeping and deleting them, and fetching what they lack.

Beside them the adapters that are chosen, which presets and the LoRAs tab put there. Handlers are private.
"""

from typing import Any

import gradio as gr

from ovi_studio.core.adapter_stack import parse_stack
from ovi_studio.core.errors import JobError
from ovi_studio.core.requests import Request
from ovi_studio.core.spec import ADAPTER_LISTS
from ovi_studio.services.presets import Preset
from ovi_studio.services.studio import Studio
from ovi_studio.web import views
from ovi_studio.web.events import PRIVATE
from ovi_studio.web.live import LivePart
from ovi_studio.web.tabs.create import views as form_views
from ovi_studio.web.tabs.create.tab import CreateForm, ratio_options, shown_value, skip_options, widened

_NOT_KEPT = ("prompt", "sound", "image")


def connect_presets(studio: Studio, form: CreateForm, extra: dict[str, Any], page: gr.Blocks) -> LivePart:
    """Events of the cards, of the fields that keep a preset, and of the chosen adapters; returns the cards."""
    handlers = PresetHandlers(studio, form)
    cards: gr.HTML = extra["presets"]
    parts = list(form.fields.values())
    cards.choose(handlers.apply, parts, [*parts, form.ratio, form.notice], **PRIVATE)
    cards.download(handlers.download, None, form.notice, **PRIVATE)
    cards.stop(studio.adapter_downloads.cancel, None, None, **PRIVATE)
    cards.remove(handlers.delete, None, [cards, form.notice], **PRIVATE)
    gr.on(
        [extra["keep_preset"].click, extra["preset_title"].submit],
        handlers.keep,
        [extra["preset_title"], form.ratio, *parts],
        [extra["preset_title"], cards, form.notice],
        **PRIVATE,
    )
    stacks = [form.stacks[name] for name in ADAPTER_LISTS]
    gr.on([*(part.change for part in stacks), page.load], handlers.show_chosen, stacks, extra["chosen"], **PRIVATE)
    extra["chosen"].take_out(handlers.take_out, stacks, stacks, **PRIVATE)
    return LivePart(handlers.refresh, [cards], gr.State(()))


class PresetHandlers:
    """The functions behind the cards."""

    def __init__(self, studio: Studio, form: CreateForm) -> None:
        self._studio = studio
        self._parts = form.fields
        self._names = list(form.fields)

    def refresh(self, seen: Any) -> Any:
        """The cards, whenever a download has got further or a preset was kept anywhere."""
        now = self._studio.adapter_downloads.state().revision, self._studio.presets.revision
        return None if now == seen else (self._cards(), now)

    def apply(self, event: gr.EventData, *values: Any) -> Any:
        """Put a preset's settings into the form and leave the rest."""
        unchanged = [gr.skip()] * (len(self._names) + 1)
        try:
            preset = self._usable(_text(event, "preset"))
            chosen = self._model(preset, values[self._names.index("variant")])
        except JobError as error:
            return *unchanged, views.notice_html(str(error), "The preset was not applied")
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
        notice = views.good_html(f"{preset.title}: settings applied.")
        return *[updates[name] for name in self._names], options, notice

    def download(self, event: gr.EventData) -> str:
        """Begin to fetch what a preset lacks."""
        try:
            self._studio.download_adapters(_text(event, "preset"))
        except JobError as error:
            return views.notice_html(str(error), "Not downloaded")
        return ""

    def keep(self, title: str, ratio: str, *values: Any) -> Any:
        """Save what the form says as a preset of one's own."""
        form = {name: value for name, value in zip(self._names, values, strict=True) if name not in _NOT_KEPT}
        if (form["timesteps"] or "").strip():
            form.pop("steps")
        try:
            spec = self._studio.spec(Request({**form, "prompt": "any"}, ratio))
            preset = self._studio.presets.save(title, spec.to_dict(), variants=(spec.variant,))
        except JobError as error:
            return gr.skip(), gr.skip(), views.notice_html(str(error), "The preset was not kept")
        return "", self._cards(), views.good_html(f"{preset.title} is among the presets.")

    def delete(self, event: gr.EventData) -> Any:
        """Delete an own preset."""
        try:
            self._studio.presets.delete(_text(event, "preset"))
        except JobError as error:
            return gr.skip(), views.notice_html(str(error), "The preset was not deleted")
        return self._cards(), views.good_html("The preset is deleted.")

    def show_chosen(self, *lists: str) -> str:
        """The adapters that the form has now."""
        try:
            return form_views.chosen_html(*map(parse_stack, lists))
        except JobError as error:
            return views.notice_html(str(error), "These LoRA files cannot be used")

    def take_out(self, event: gr.EventData, *lists: str) -> Any:
        """One adapter less in one of the lists."""
        name, wanted = _text(event, "list"), _text(event, "name")
        stacks = dict(zip(ADAPTER_LISTS, map(parse_stack, lists), strict=True))
        if name in stacks:
            stacks[name] = tuple(use for use in stacks[name] if use.name != wanted)
        return [shown_value(name, stack) for name, stack in stacks.items()]

    def _usable(self, name: str) -> Preset:
        for offer in self._studio.preset_offers()[0]:
            if offer.preset.name == name:
                if not offer.usable:
                    raise JobError(offer.problem)
                return offer.preset
        raise JobError("There is no such preset any more; look again.")

    def _model(self, preset: Preset, current: str | None) -> str:
        """The preset's own model, else the form's if it fits, else the best one that does."""
        here = [variant.name for variant in self._studio.variants()]
        wanted = preset.settings.get("variant") or current
        if preset.variants and wanted not in preset.variants:
            wanted = next((name for name in here if name in preset.variants), wanted)
        if wanted not in here:
            raise JobError(f"The model {wanted} is not here; download it first, the System tab shows how.")
        return str(wanted)

    def _cards(self) -> str:
        found, notices = self._studio.preset_offers()
        return form_views.presets_html(found, notices, self._studio.adapter_downloads.state())


def _text(event: gr.EventData, name: str) -> str:
    value = event._data.get(name) if isinstance(event._data, dict) else None
    return value if isinstance(value, str) else ""
