"""The LoRAs tab: the files of the adapter folder, and which of them the next clip uses, how strongly.

The chosen ones live in the Create form; this tab shows and changes them. Files appear while it is looked at. Handlers
are private; a file is named by its id, and a strength that cannot be is refused with a sentence.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import gradio as gr

from ovi_studio.core.adapter_stack import Stack
from ovi_studio.core.errors import JobError
from ovi_studio.web.events import PRIVATE
from ovi_studio.web.tabs.create.tab import shown_value
from ovi_studio.web.tabs.loras.handlers import Chosen, LorasHandlers, Shelf
from ovi_studio.web.views import good_html, notice_html

REFRESH_SECONDS = 2
_SCRIPT = (Path(__file__).parent / "loras.js").read_text(encoding="utf-8")


class Form(Protocol):
    """The part of the Create form that this tab reads and fills."""

    prompt: Any
    model: Any
    stacks: Mapping[str, Any]


def build_loras(studio: Shelf, form: Form) -> None:
    """The content of the tab; what is chosen goes into `form`."""
    handlers = LorasHandlers(studio)
    parts = _build_parts()
    _connect(parts, handlers, form)


@dataclass(frozen=True)
class _Parts:
    search: gr.Textbox
    notice: gr.HTML
    summary: gr.HTML
    cards: gr.HTML
    title: gr.Textbox
    keep: gr.Button
    timer: gr.Timer
    seen: gr.State


def _build_parts() -> _Parts:
    found: dict[str, Any] = {}
    with gr.Column(elem_id="loras"):
        with gr.Row(elem_classes="heading"):
            found["search"] = gr.Textbox(
                "", label="Search", placeholder="Name, base model or trigger word", max_length=200, max_lines=1, scale=1
            )
            found["title"] = gr.Textbox(
                "", label="Keep what is used as a preset", placeholder="Title", max_length=60, max_lines=1, scale=1
            )
            found["keep"] = gr.Button("Keep", size="md", min_width=90, scale=0, elem_id="keep-stack")
        found["notice"] = gr.HTML(elem_classes="fleeting")
        found["summary"] = gr.HTML(apply_default_css=False)
        found["cards"] = gr.HTML(js_on_load=_SCRIPT, elem_id="lora-cards", apply_default_css=False)
    return _Parts(**found, timer=gr.Timer(REFRESH_SECONDS, active=False), seen=gr.State(()))


def _connect(parts: _Parts, handlers: LorasHandlers, form: Form) -> None:
    stacks = [form.stacks["accelerators"], form.stacks["adapters"]]
    asked = [parts.search, form.model, *stacks]
    drawn = [parts.cards, parts.summary, parts.seen]

    def draw(search: str, model: str | None, *lists: str) -> Any:
        return handlers.look(search, model, Chosen.of(*lists))

    def refresh(seen: tuple[Any, ...], search: str, model: str | None, *lists: str) -> Any:
        cards, summary, now = handlers.look(search, model, Chosen.of(*lists))
        return (gr.skip(), gr.skip(), gr.skip()) if now == seen else (cards, summary, now)

    def show(*given: Any) -> Any:
        return gr.Timer(active=True), *draw(*given)

    parts.cards.shown(show, asked, [parts.timer, *drawn], **PRIVATE)
    parts.cards.hidden(lambda: gr.Timer(active=False), None, parts.timer, **PRIVATE)
    gr.on(
        [parts.timer.tick, parts.search.change, *(stack.change for stack in stacks), form.model.change],
        refresh,
        [parts.seen, *asked],
        drawn,
        trigger_mode="always_last",
        **PRIVATE,
    )
    _connect_cards(parts, handlers, form)


def _connect_cards(parts: _Parts, handlers: LorasHandlers, form: Form) -> None:
    stacks = [form.stacks["accelerators"], form.stacks["adapters"]]
    written = [form.stacks["adapters"], parts.notice]

    def changing(act: Callable[[gr.EventData, Chosen], Stack]) -> Callable[..., Any]:
        def run(event: gr.EventData, *lists: str) -> Any:
            chosen = Chosen.of(*lists)
            # Strengths that are still on their way belong to the same click.
            return _refused(lambda: shown_value("adapters", act(event, chosen)), 1)

        return run

    def moved(event: gr.EventData, chosen: Chosen) -> Chosen:
        return replace(chosen, adapters=handlers.strengthen(_changed(event), chosen))

    def take(event: gr.EventData, chosen: Chosen) -> Stack:
        return handlers.take(_id(event), moved(event, chosen))

    def leave(event: gr.EventData, chosen: Chosen) -> Stack:
        return handlers.leave(_id(event), moved(event, chosen))

    def strengthen(event: gr.EventData, chosen: Chosen) -> Stack:
        return moved(event, chosen).adapters

    parts.cards.take(changing(take), stacks, written, **PRIVATE)
    parts.cards.leave(changing(leave), stacks, written, **PRIVATE)
    parts.cards.strength(changing(strengthen), stacks, written, trigger_mode="always_last", **PRIVATE)

    def word(event: gr.EventData, prompt: str) -> Any:
        return _refused(lambda: handlers.word(_id(event), event._data.get("number"), prompt or ""), 1)

    parts.cards.word(word, form.prompt, [form.prompt, parts.notice], **PRIVATE)

    def keep(title: str, *lists: str) -> Any:
        try:
            kept = handlers.keep(title, Chosen.of(*lists))
        except JobError as error:
            return gr.skip(), notice_html(str(error), "The preset was not kept")
        return "", good_html(f"{kept} is among the presets.")

    for happens in (parts.keep.click, parts.title.submit):
        happens(keep, [parts.title, *stacks], [parts.title, parts.notice], **PRIVATE)


def _refused(action: Callable[[], Any], count: int) -> list[Any]:
    """What `action` answers, and no notice; if it is refused, only the notice and why."""
    try:
        return [action(), ""]
    except JobError as error:
        return [*[gr.skip()] * count, notice_html(str(error), "This cannot be done")]


def _id(event: gr.EventData) -> str:
    value = event._data.get("id") if isinstance(event._data, dict) else None
    return value if isinstance(value, str) else ""


def _changed(event: gr.EventData) -> Mapping[str, Any]:
    value = event._data.get("changed") if isinstance(event._data, dict) else None
    return value if isinstance(value, dict) else {}
