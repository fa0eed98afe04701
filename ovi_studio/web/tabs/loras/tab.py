"""The LoRAs tab: the files of the adapter folder, and which of them the next clip uses, how strongly.

The chosen ones live in the Create form; this tab shows and changes them. Files appear while it is looked at. Handlers
are private; a file is named by its id, and a strength that cannot be is refused with a sentence.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import gradio as gr

from ovi_studio.adapters.library import AdapterEntry, AdapterLibrary
from ovi_studio.adapters.model_names import model_names
from ovi_studio.adapters.report import Fit, fit
from ovi_studio.core.adapter_stack import AdapterUse, Stack, Strength, parse_stack
from ovi_studio.core.errors import JobError
from ovi_studio.core.prompts import MAX_PROMPT_LENGTH
from ovi_studio.core.variants import Variant, find_variant, published_variants
from ovi_studio.services.presets import Presets
from ovi_studio.web.events import PRIVATE
from ovi_studio.web.tabs.create.tab import shown_value
from ovi_studio.web.tabs.loras import views as loras_views
from ovi_studio.web.views import good_html, notice_html

REFRESH_SECONDS = 2
_SCRIPT = (Path(__file__).parent / "loras.js").read_text(encoding="utf-8")


class Form(Protocol):
    """The part of the Create form that this tab reads and fills."""

    prompt: Any
    model: Any
    stacks: Mapping[str, Any]


class Shelf(Protocol):
    """The part of `Studio` that this tab uses."""

    checkpoint_directory: Path
    adapters: AdapterLibrary
    presets: Presets


def build_loras(studio: Shelf, form: Form) -> None:
    """The content of the tab; what is chosen goes into `form`."""
    handlers = _Handlers(studio)
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


@dataclass(frozen=True)
class _Chosen:
    """What the form has chosen."""

    accelerators: Stack
    adapters: Stack

    @classmethod
    def of(cls, accelerators: str, adapters: str) -> "_Chosen":
        return cls(parse_stack(accelerators), parse_stack(adapters))


class _Handlers:
    """What happens when somebody does something. Methods may raise `JobError`."""

    def __init__(self, studio: Shelf) -> None:
        self._library = studio.adapters
        self._presets = studio.presets
        self._checkpoints = studio.checkpoint_directory
        self._fits: dict[tuple[str, int, float, str], Fit] = {}

    def look(self, search: str, model: str | None, chosen: _Chosen) -> tuple[str, str, tuple[Any, ...]]:
        """The cards, the line above them, and what decides whether they must be drawn again."""
        entries = self._found(search)
        variant = self._variant(model)
        names = self._by_entry(chosen.adapters), self._by_entry(chosen.accelerators)
        # Not the strengths: whoever moves a slider sees it move, and keeps the focus.
        stamp = [(entry.id, entry.size, entry.modified, entry.problem, entry.description) for entry in entries]
        seen = (variant.name, search, stamp, sorted(names[0]), sorted(names[1]))
        if entries:
            fits = {entry.id: self._fit(entry, variant) for entry in entries}
            cards = loras_views.loras_html(entries, fits, *names)
        else:
            cards = loras_views.empty_html(str(self._library.directory), bool(search.strip()))
        return cards, loras_views.summary_html(chosen.accelerators, chosen.adapters), seen

    def take(self, adapter: str, chosen: _Chosen) -> Stack:
        """Use an adapter, with the strengths that its file recommends."""
        entry = self._library.get(adapter)
        if entry.problem:
            raise JobError(entry.problem)
        about = entry.description
        strengths = {
            "video": Strength.parse(about.video_strength),
            "audio": Strength.parse(about.audio_strength),
        }
        others = tuple(use for use in chosen.adapters if not self._is(use, entry))
        return parse_stack((*others, AdapterUse(name=entry.name, **strengths)))

    def leave(self, adapter: str, chosen: _Chosen) -> Stack:
        """Use an adapter no more."""
        entry = self._library.get(adapter)
        return tuple(use for use in chosen.adapters if not self._is(use, entry))

    def strengthen(self, changed: Mapping[str, Any], chosen: _Chosen) -> Stack:
        """Other strengths for adapters that are used; `changed` is id -> {video, audio} as text."""
        stack = chosen.adapters
        for adapter, strengths in changed.items():
            entry = self._library.get(str(adapter))
            given = {
                tower: Strength.parse(text)
                for tower, text in (strengths.items() if isinstance(strengths, dict) else ())
                if tower in ("video", "audio")
            }
            stack = tuple(replace(use, **given) if self._is(use, entry) else use for use in stack)
        return stack

    def word(self, adapter: str, number: Any, prompt: str) -> str:
        """The prompt with a trigger word, unless it stands there already."""
        words = self._library.get(adapter).description.trigger_words
        if not isinstance(number, int) or not 0 <= number < len(words):
            raise JobError("This trigger word is not there any more; look again.")
        word = words[number]
        if word.casefold() in prompt.casefold():
            return prompt
        longer = f"{prompt.rstrip()}, {word}" if prompt.strip() else word
        if len(longer) > MAX_PROMPT_LENGTH:
            raise JobError(f"The prompt would have {len(longer)} characters; the most is {MAX_PROMPT_LENGTH}.")
        return longer

    def keep(self, title: str, chosen: _Chosen) -> str:
        """Save the chosen adapters as a preset, which leaves every other setting alone."""
        if not chosen.adapters:
            raise JobError("No LoRA file is used; choose some first.")
        return self._presets.save(title, {"adapters": chosen.adapters}, badge="LoRAs").title

    def _found(self, search: str) -> Sequence[AdapterEntry]:
        words = search.casefold().split()

        def text(entry: AdapterEntry) -> str:
            about = entry.description
            parts = [entry.name, entry.title, about.base_model, about.description, *about.trigger_words]
            return " ".join(parts).casefold()

        return [entry for entry in self._library.scan() if all(word in text(entry) for word in words)]

    def _fit(self, entry: AdapterEntry, variant: Variant) -> Fit:
        if entry.problem:
            return Fit(None, entry.problem)
        key = (entry.id, entry.size, entry.modified, variant.name)
        if key not in self._fits:
            self._fits[key] = fit(entry, self._library, model_names(variant))
        return self._fits[key]

    def _variant(self, model: str | None) -> Variant:
        try:
            return find_variant(model or "", self._checkpoints)
        except JobError:
            return next(iter(published_variants().values()))

    def _by_entry(self, stack: Stack) -> dict[str, AdapterUse]:
        """The uses by the full name of the file that each means."""
        found = {}
        for use in stack:
            try:
                found[self._library.find(use.name).name] = use
            except JobError:
                continue  # what is not here has no card; the form still shows it
        return found

    def _is(self, use: AdapterUse, entry: AdapterEntry) -> bool:
        return entry.name in self._by_entry((use,))


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


def _connect(parts: _Parts, handlers: _Handlers, form: Form) -> None:
    stacks = [form.stacks["accelerators"], form.stacks["adapters"]]
    asked = [parts.search, form.model, *stacks]
    drawn = [parts.cards, parts.summary, parts.seen]

    def draw(search: str, model: str | None, *lists: str) -> Any:
        return handlers.look(search, model, _Chosen.of(*lists))

    def refresh(seen: tuple[Any, ...], search: str, model: str | None, *lists: str) -> Any:
        cards, summary, now = handlers.look(search, model, _Chosen.of(*lists))
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


def _connect_cards(parts: _Parts, handlers: _Handlers, form: Form) -> None:
    stacks = [form.stacks["accelerators"], form.stacks["adapters"]]
    written = [form.stacks["adapters"], parts.notice]

    def changing(act: Callable[[gr.EventData, _Chosen], Stack]) -> Callable[..., Any]:
        def run(event: gr.EventData, *lists: str) -> Any:
            chosen = _Chosen.of(*lists)
            # Strengths that are still on their way belong to the same click.
            return _refused(lambda: shown_value("adapters", act(event, chosen)), 1)

        return run

    def moved(event: gr.EventData, chosen: _Chosen) -> _Chosen:
        return replace(chosen, adapters=handlers.strengthen(_changed(event), chosen))

    def take(event: gr.EventData, chosen: _Chosen) -> Stack:
        return handlers.take(_id(event), moved(event, chosen))

    def leave(event: gr.EventData, chosen: _Chosen) -> Stack:
        return handlers.leave(_id(event), moved(event, chosen))

    def strengthen(event: gr.EventData, chosen: _Chosen) -> Stack:
        return moved(event, chosen).adapters

    parts.cards.take(changing(take), stacks, written, **PRIVATE)
    parts.cards.leave(changing(leave), stacks, written, **PRIVATE)
    parts.cards.strength(changing(strengthen), stacks, written, trigger_mode="always_last", **PRIVATE)

    def word(event: gr.EventData, prompt: str) -> Any:
        return _refused(lambda: handlers.word(_id(event), event._data.get("number"), prompt or ""), 1)

    parts.cards.word(word, form.prompt, [form.prompt, parts.notice], **PRIVATE)

    def keep(title: str, *lists: str) -> Any:
        try:
            kept = handlers.keep(title, _Chosen.of(*lists))
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
