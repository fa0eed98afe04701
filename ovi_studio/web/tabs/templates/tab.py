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
from ovi_studio.web.tabs.templates.handlers import ALL, TemplatesForm, TemplatesHandlers, TemplatesServices
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
                found["category"] = gr.Radio(
                    [ALL, *CATEGORIES, OWN], value=ALL, label="Category", scale=1, elem_classes="segments"
                )
                found["new"] = gr.Button("New template", size="sm", min_width=130, scale=0)
            found["cards"] = gr.HTML(
                handlers.cards(ALL, "")[0], js_on_load=_SCRIPT, elem_id="template-cards", apply_default_css=False
            )
        with gr.Column(scale=5, min_width=320, visible=False, elem_id="template-side") as found["side"]:
            found["slots"] = gr.HTML(js_on_load=_SCRIPT, elem_id="template-slots", apply_default_css=False)
            found["prompt"] = gr.HTML(apply_default_css=False, elem_id="template-prompt")
            with gr.Row(visible=False) as found["own"]:
                found["change"] = gr.Button("Edit", size="sm", min_width=90)
                found["delete"] = gr.Button("Delete template", size="sm", min_width=120)
        with gr.Column(scale=5, min_width=320, visible=False, elem_id="template-editor") as found["editor"]:
            found |= _build_editor()
    return TemplatesComponents(**found, chosen=gr.State(""), edited=gr.State(""))


def _build_editor() -> dict[str, Any]:
    found: dict[str, Any] = {"heading": gr.HTML("<h2>New template</h2>")}
    found["title"] = gr.Textbox(label="Title", max_length=80, max_lines=1)
    found["about"] = gr.Textbox(label="Description", max_length=300, max_lines=2)
    found["text"] = gr.Textbox(
        label="Prompt with slots",
        info="A slot is a name in braces, such as {animal}. Put speech in <S>…<E>.",
        placeholder="A {animal} looks up and says, <S>{line}<E>",
        lines=5,
        max_length=MAX_PROMPT_LENGTH,
    )
    found["audio"] = gr.Textbox(
        label="Sound", info="What is heard; may contain slots.", lines=2, max_length=MAX_PROMPT_LENGTH
    )
    found["lines"] = gr.Textbox(
        label="Slot values",
        info="One line for each slot: its name, the default, then suggestions.",
        placeholder="animal: red fox | grey wolf | lynx",
        lines=3,
        max_length=MAX_PROMPT_LENGTH,
    )
    found["take"] = gr.Button("Copy the prompt from Create", size="sm")
    with gr.Row():
        found["save"] = gr.Button("Save", variant="primary", min_width=120)
        found["leave"] = gr.Button("Cancel", min_width=90)
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
    # On a narrow screen the slots are far below the card.
    choosing.then(
        None,
        None,
        None,
        js="() => { if (matchMedia('(max-width: 900px)').matches) "
        "document.querySelector('#template-side')?.scrollIntoView({ block: 'start' }); }",
    )

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
        return *shown, "<h2>New template</h2>", "", *[""] * 5

    def change(chosen: str) -> Any:
        return _guarded(lambda: [*shown, "<h2>Edit template</h2>", chosen, *handlers.entry(chosen), ""], 9)

    parts.new.click(new, None, [*place, *parts.entry], **PRIVATE)
    parts.change.click(change, parts.chosen, [*place, *parts.entry, parts.notice], **PRIVATE)
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
            parsed = damaged or success_html("The template was saved among your own.")
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
        toast = toasts.undoable(request, f"The template {title} was deleted.", restore)
        return ["", "", "", *hidden, gr.skip(), *handlers.cards(category, ""), toast]

    parts.delete.click(
        delete,
        [parts.chosen, parts.category],
        [*parts.choice, parts.cards, parts.notice, toasts.component],
        **PRIVATE,
    )
    toasts.undone.then(handlers.cards, [parts.category, parts.chosen], [parts.cards, parts.notice], **LATEST)


def _guarded(action: Callable[[], list[Any]], count: int) -> list[Any]:
    """Return the outputs of `action`, the last of which is a notice; on `JobError`, skip all others and explain why."""
    try:
        return action()
    except JobError as error:
        return [*[gr.skip()] * count, notice_html(str(error), "This cannot be done")]
