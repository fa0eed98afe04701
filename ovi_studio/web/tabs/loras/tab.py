"""The LoRAs tab: the files of the adapter folder, which of them the next clip uses, and their strengths.

The Create form holds the choice; this tab shows and changes it. New files appear while the tab is shown. Handlers are
private; files are named by id, and an invalid strength is refused with a message.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import gradio as gr

from ovi_studio.core.adapter_stack import Stack
from ovi_studio.core.errors import JobError
from ovi_studio.web.events import LATEST, PRIVATE
from ovi_studio.web.tabs.create.tab import shown_value
from ovi_studio.web.tabs.loras import texts
from ovi_studio.web.tabs.loras.handlers import ChosenAdapters, LorasHandlers, LorasServices
from ovi_studio.web.views import notice_html, success_html

REFRESH_SECONDS = 2
_SCRIPT = (Path(__file__).parent / "loras.js").read_text(encoding="utf-8")


class LorasForm(Protocol):
    """The part of the Create form that the LoRAs tab reads and fills."""

    @property
    def prompt(self) -> Any: ...

    @property
    def model(self) -> Any: ...

    @property
    def stacks(self) -> Mapping[str, Any]: ...


def build_loras(studio: LorasServices, form: LorasForm) -> None:
    """Build the tab; the chosen adapters go into `form`."""
    handlers = LorasHandlers(studio)
    parts = _build_parts()
    _connect(parts, handlers, form)


@dataclass(frozen=True)
class LorasComponents:
    search: gr.Textbox
    notice: gr.HTML
    summary: gr.HTML
    cards: gr.HTML
    title: gr.Textbox
    keep: gr.Button
    timer: gr.Timer
    seen: gr.State


def _build_parts() -> LorasComponents:
    found: dict[str, Any] = {}
    with gr.Column(elem_id="loras"):
        with gr.Row(elem_classes="heading"):
            found["search"] = gr.Textbox(
                "", label=texts.SEARCH, placeholder=texts.SEARCH_PLACEHOLDER, max_length=200, max_lines=1, scale=1
            )
            found["title"] = gr.Textbox(
                "", label=texts.SAVE_LABEL, placeholder=texts.SAVE_PLACEHOLDER, max_length=60, max_lines=1, scale=1
            )
            found["keep"] = gr.Button(texts.SAVE, size="md", min_width=120, scale=0, elem_id="keep-stack")
        found["notice"] = gr.HTML(elem_classes="fleeting")
        found["summary"] = gr.HTML(apply_default_css=False)
        found["cards"] = gr.HTML(js_on_load=_SCRIPT, elem_id="lora-cards", apply_default_css=False)
    return LorasComponents(**found, timer=gr.Timer(REFRESH_SECONDS, active=False), seen=gr.State(()))


def _connect(parts: LorasComponents, handlers: LorasHandlers, form: LorasForm) -> None:
    stacks = [form.stacks["accelerators"], form.stacks["adapters"]]
    asked = [parts.search, form.model, *stacks]
    drawn = [parts.cards, parts.summary, parts.seen]

    def draw(search: str, model: str | None, *lists: str) -> Any:
        return handlers.show(search, model, ChosenAdapters.of(*lists))

    def refresh(seen: tuple[Any, ...], search: str, model: str | None, *lists: str) -> Any:
        cards, summary, now = handlers.show(search, model, ChosenAdapters.of(*lists))
        return (gr.skip(), gr.skip(), gr.skip()) if now == seen else (cards, summary, now)

    def show(*given: Any) -> Any:
        return gr.Timer(active=True), *draw(*given)

    parts.cards.shown(show, asked, [parts.timer, *drawn], **LATEST)
    parts.cards.hidden(lambda: gr.Timer(active=False), None, parts.timer, **LATEST)
    gr.on(
        [parts.timer.tick, parts.search.change, *(stack.change for stack in stacks), form.model.change],
        refresh,
        [parts.seen, *asked],
        drawn,
        **LATEST,
    )
    _connect_cards(parts, handlers, form)


def _connect_cards(parts: LorasComponents, handlers: LorasHandlers, form: LorasForm) -> None:
    stacks = [form.stacks["accelerators"], form.stacks["adapters"]]
    written = [form.stacks["adapters"], parts.notice]

    def changing(act: Callable[[gr.EventData, ChosenAdapters], Stack]) -> Callable[..., Any]:
        def run(event: gr.EventData, *lists: str) -> Any:
            chosen = ChosenAdapters.of(*lists)
            # Strengths that were changed just before the click come with the same event.
            return _guarded(lambda: shown_value("adapters", act(event, chosen)), 1)

        return run

    def with_strengths(event: gr.EventData, chosen: ChosenAdapters) -> ChosenAdapters:
        return replace(chosen, adapters=handlers.set_strengths(_changed(event), chosen))

    def add(event: gr.EventData, chosen: ChosenAdapters) -> Stack:
        return handlers.add(_id(event), with_strengths(event, chosen))

    def remove(event: gr.EventData, chosen: ChosenAdapters) -> Stack:
        return handlers.remove(_id(event), with_strengths(event, chosen))

    def set_strengths(event: gr.EventData, chosen: ChosenAdapters) -> Stack:
        return with_strengths(event, chosen).adapters

    parts.cards.take(changing(add), stacks, written, **PRIVATE)
    parts.cards.leave(changing(remove), stacks, written, **PRIVATE)
    parts.cards.strength(changing(set_strengths), stacks, written, **LATEST)

    def word(event: gr.EventData, prompt: str) -> Any:
        return _guarded(lambda: handlers.add_trigger_word(_id(event), event._data.get("number"), prompt or ""), 1)

    parts.cards.word(word, form.prompt, [form.prompt, parts.notice], **PRIVATE)

    def keep(title: str, *lists: str) -> Any:
        try:
            kept = handlers.save_preset(title, ChosenAdapters.of(*lists))
        except JobError as error:
            return gr.skip(), notice_html(str(error), texts.NOT_SAVED)
        return "", success_html(texts.preset_saved(kept))

    for happens in (parts.keep.click, parts.title.submit):
        happens(keep, [parts.title, *stacks], [parts.title, parts.notice], **PRIVATE)


def _guarded(action: Callable[[], Any], count: int) -> list[Any]:
    """Return the result of `action` without a notice; on `JobError`, skip the outputs and return a notice."""
    try:
        return [action(), ""]
    except JobError as error:
        return [*[gr.skip()] * count, notice_html(str(error), texts.NOT_DONE)]


def _id(event: gr.EventData) -> str:
    value = event._data.get("id") if isinstance(event._data, dict) else None
    return value if isinstance(value, str) else ""


def _changed(event: gr.EventData) -> Mapping[str, Any]:
    value = event._data.get("changed") if isinstance(event._data, dict) else None
    return value if isinstance(value, dict) else {}
