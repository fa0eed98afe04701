"""The Templates tab: prompts with slots to fill, shipped ones and the user's own. Handlers are private."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.core.prompt_check import parse_prompt
from ovi_studio.core.prompts import MAX_PROMPT_LENGTH, AudioTag
from ovi_studio.services.templates import CATEGORIES, OWN
from ovi_studio.web.events import LATEST, PRIVATE
from ovi_studio.web.tabs import CREATE_TAB
from ovi_studio.web.tabs.templates import texts
from ovi_studio.web.tabs.templates.handlers import TemplatesForm, TemplatesHandlers, TemplatesServices
from ovi_studio.web.toasts import Toasts
from ovi_studio.web.views import notice_html, success_html

_SCRIPT = (Path(__file__).parent / "templates.js").read_text(encoding="utf-8")


def build_templates(studio: TemplatesServices, form: TemplatesForm, tabs: gr.Tabs, toasts: Toasts) -> None:
    """Build the tab; using a template fills `form` and switches to it in `tabs`."""
    handlers = TemplatesHandlers(studio)
    parts = _build_parts(handlers)
    _connect_choice(parts, handlers, form, tabs)
    _connect_editor(parts, handlers, form)
    _connect_deleting(parts, handlers, toasts)


@dataclass(frozen=True)
class TemplatesComponents:
    notice: gr.HTML
    category: gr.Radio
    cards: gr.HTML
    new: gr.Button
    side: gr.Column
    slots: gr.HTML
    prompt: gr.HTML
    own: gr.Row
    change: gr.Button
    delete: gr.Button
    editor: gr.Column
    heading: gr.HTML
    title: gr.Textbox
    about: gr.Textbox
    text: gr.Textbox
    audio: gr.Textbox
    lines: gr.Textbox
    take: gr.Button
    save: gr.Button
    leave: gr.Button
    chosen: gr.State
    edited: gr.State

    @property
    def choice(self) -> list[Any]:
        return [self.chosen, self.slots, self.prompt, self.own, self.side, self.editor]

    @property
    def entry(self) -> list[Any]:
        return [self.title, self.about, self.text, self.audio, self.lines]


def _build_parts(handlers: TemplatesHandlers) -> TemplatesComponents:
    found: dict[str, Any] = {"notice": gr.HTML(elem_classes="fleeting")}
    with gr.Row(elem_id="templates"):
        with gr.Column(scale=6, min_width=320):
            with gr.Row(elem_classes="heading"):
                choices = [texts.ALL, *CATEGORIES, OWN]
                found["category"] = gr.Radio(
                    choices, value=choices[0], label=texts.CATEGORY, scale=1, elem_classes="segments"
                )
                found["new"] = gr.Button(texts.NEW, size="sm", min_width=130, scale=0)
            found["cards"] = gr.HTML(
                handlers.cards(texts.ALL, "")[0], js_on_load=_SCRIPT, elem_id="template-cards", apply_default_css=False
            )
        with gr.Column(scale=5, min_width=320, visible=False, elem_id="template-side") as found["side"]:
            found["slots"] = gr.HTML(js_on_load=_SCRIPT, elem_id="template-slots", apply_default_css=False)
            found["prompt"] = gr.HTML(apply_default_css=False, elem_id="template-prompt")
            with gr.Row(visible=False) as found["own"]:
                found["change"] = gr.Button(texts.EDIT, size="sm", min_width=90)
                found["delete"] = gr.Button(texts.DELETE, size="sm", min_width=120)
        with gr.Column(scale=5, min_width=320, visible=False, elem_id="template-editor") as found["editor"]:
            found |= _build_editor()
    return TemplatesComponents(**found, chosen=gr.State(""), edited=gr.State(""))


def _build_editor() -> dict[str, Any]:
    found: dict[str, Any] = {"heading": gr.HTML(_heading(texts.NEW))}
    found["title"] = gr.Textbox(label=texts.TITLE, max_length=80, max_lines=1)
    found["about"] = gr.Textbox(label=texts.DESCRIPTION, max_length=300, max_lines=2)
    found["text"] = gr.Textbox(
        label=texts.TEXT,
        info=texts.TEXT_HINT,
        placeholder=texts.TEXT_PLACEHOLDER,
        lines=5,
        max_length=MAX_PROMPT_LENGTH,
    )
    found["audio"] = gr.Textbox(label=texts.SOUND, info=texts.SOUND_HINT, lines=2, max_length=MAX_PROMPT_LENGTH)
    found["lines"] = gr.Textbox(
        label=texts.SLOTS,
        info=texts.SLOTS_HINT,
        placeholder=texts.SLOTS_PLACEHOLDER,
        lines=3,
        max_length=MAX_PROMPT_LENGTH,
    )
    found["take"] = gr.Button(texts.COPY, size="sm")
    with gr.Row():
        found["save"] = gr.Button(texts.SAVE, variant="primary", min_width=120)
        found["leave"] = gr.Button(texts.CANCEL, min_width=90)
    return found


def _connect_choice(
    parts: TemplatesComponents, handlers: TemplatesHandlers, form: TemplatesForm, tabs: gr.Tabs
) -> None:
    cards = [parts.cards, parts.notice]
    for happens in (parts.category.input, parts.cards.shown):
        happens(handlers.cards, [parts.category, parts.chosen], cards, **LATEST)

    def choose(event: gr.EventData, model: str | None, category: str) -> Any:
        chosen = getattr(event, "id", None)
        chosen = chosen if isinstance(chosen, str) else ""
        return _guarded(lambda: [*handlers.choose(chosen, model), *handlers.cards(category, chosen)], 7)

    choosing = parts.cards.choose(
        choose, [form.model, parts.category], [*parts.choice, parts.cards, parts.notice], **LATEST
    )
    _scroll_to("#template-side", choosing)

    def fill(event: gr.EventData, model: str | None) -> Any:
        return _guarded(lambda: [handlers.fill(event, model), ""], 1)

    def use(event: gr.EventData, model: str | None) -> Any:
        def used() -> list[Any]:
            return [*handlers.use(event, model, form), gr.Tabs(selected=CREATE_TAB), ""]

        return _guarded(used, len(form.outputs) + 1)

    parts.slots.fill(fill, form.model, [parts.prompt, parts.notice], **LATEST)
    parts.slots.use(use, form.model, [*form.outputs, tabs, parts.notice], **PRIVATE)


def _connect_editor(parts: TemplatesComponents, handlers: TemplatesHandlers, form: TemplatesForm) -> None:
    place = [parts.side, parts.editor, parts.heading, parts.edited]
    shown = gr.Column(visible=False), gr.Column(visible=True)

    def new() -> Any:
        return *shown, _heading(texts.NEW), "", *[""] * 5

    def change(chosen: str) -> Any:
        return _guarded(lambda: [*shown, _heading(texts.EDIT_TITLE), chosen, *handlers.entry(chosen), ""], 9)

    opened = parts.new.click(new, None, [*place, *parts.entry], **PRIVATE)
    changed = parts.change.click(change, parts.chosen, [*place, *parts.entry, parts.notice], **PRIVATE)
    _scroll_to("#template-editor", opened, changed)
    parts.leave.click(
        lambda chosen: (gr.Column(visible=bool(chosen)), gr.Column(visible=False)),
        parts.chosen,
        [parts.side, parts.editor],
        **PRIVATE,
    )

    def take(prompt: str, cues: Any, sound: str) -> tuple[str, str]:
        parsed = parse_prompt(form.text_of(prompt, cues, sound, AudioTag.AUDIO))
        return parsed.scene, parsed.audio

    parts.take.click(take, form.written, [parts.text, parts.audio], **PRIVATE)
    _connect_keeping(parts, handlers, form)


def _connect_keeping(parts: TemplatesComponents, handlers: TemplatesHandlers, form: TemplatesForm) -> None:
    """Connect saving."""

    def save(edited: str, model: str | None, *entry: str) -> Any:
        def kept() -> list[Any]:
            template = handlers.save(edited, *entry)
            cards, damaged = handlers.cards(OWN, template.id)
            parsed = damaged or success_html(texts.SAVED)
            return [*handlers.choose(template.id, model), OWN, cards, parsed]

        return _guarded(kept, 8)

    outputs = [*parts.choice, parts.category, parts.cards, parts.notice]
    parts.save.click(save, [parts.edited, form.model, *parts.entry], outputs, **PRIVATE)


def _connect_deleting(parts: TemplatesComponents, handlers: TemplatesHandlers, toasts: Toasts) -> None:
    def delete(request: gr.Request, chosen: str, category: str) -> Any:
        try:
            title, restore = handlers.delete(chosen)
        except JobError as error:
            return [*[gr.skip()] * 8, toasts.note(str(error), failed=True)]
        hidden = gr.Row(visible=False), gr.Column(visible=False)
        toast = toasts.undoable(request, texts.deleted(title), restore)
        return ["", "", "", *hidden, gr.skip(), *handlers.cards(category, ""), toast]

    parts.delete.click(
        delete,
        [parts.chosen, parts.category],
        [*parts.choice, parts.cards, parts.notice, toasts.component],
        **PRIVATE,
    )
    toasts.undone.then(handlers.cards, [parts.category, parts.chosen], [parts.cards, parts.notice], **LATEST)


def _scroll_to(place: str, *events: Any) -> None:
    """Show what an event has opened, which on a narrow screen is far above."""
    for event in events:
        event.then(
            None,
            None,
            None,
            js="() => { if (matchMedia('(max-width: 900px)').matches) "
            f"document.querySelector('{place}')?.scrollIntoView({{ block: 'start' }}); }}",
        )


def _heading(text: str) -> str:
    return f"<h2>{text}</h2>"


def _guarded(action: Callable[[], list[Any]], count: int) -> list[Any]:
    """Return the outputs of `action`, the last of which is a notice; on `JobError`, skip all others and explain why."""
    try:
        return action()
    except JobError as error:
        return [*[gr.skip()] * count, notice_html(str(error), texts.NOT_DONE)]
