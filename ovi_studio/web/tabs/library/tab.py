"""The Library tab: all clips as a wall of posters, a viewer, the trash, and buttons that fill the Create form.

Handlers are private, not part of the API.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media.clip_files import FirstFrameMissing
from ovi_studio.web.events import PRIVATE
from ovi_studio.web.tabs import CREATE_TAB
from ovi_studio.web.tabs.library.handlers import ALL, LibraryHandlers, LibraryServices
from ovi_studio.web.uploads import uploads_only
from ovi_studio.web.views import notice_html

REFRESH_SECONDS = 3
_SCRIPT = (Path(__file__).parent / "library.js").read_text(encoding="utf-8")


class LibraryForm(Protocol):
    """The part of the Create form that the Library tab fills."""

    @property
    def outputs(self) -> list[Any]: ...

    def fill(self, spec: ClipSpec | None = None, *, prompt: str | None = None, notice: str = "") -> list[Any]: ...


def build_library(studio: LibraryServices, form: LibraryForm, tabs: gr.Tabs) -> None:
    """Build the tab; using a clip again fills `form` and switches to it in `tabs`."""
    parts = _build_parts()
    handlers = LibraryHandlers(studio, parts.wall)
    _connect_wall(parts, handlers)
    _connect_viewer(parts, handlers)
    _connect_trash(parts, handlers)
    _connect_form(parts, handlers, form, tabs)


@dataclass(frozen=True)
class LibraryComponents:
    """The components of the tab."""

    words: gr.Textbox
    variant: gr.Dropdown
    pictured: gr.Dropdown
    order: gr.Dropdown
    favourites: gr.Checkbox
    place: gr.Radio
    notice: gr.HTML
    wall: gr.HTML
    range: gr.HTML
    previous: gr.Button
    next: gr.Button
    bar: gr.Row
    count: gr.HTML
    delete: gr.Button
    restore: gr.Button
    clear: gr.Button
    empty: gr.Button
    ask: gr.Row
    question: gr.HTML
    confirm: gr.Button
    keep: gr.Button
    side: gr.Column
    player: gr.HTML
    settings: gr.HTML
    use: gr.Button
    continue_clip: gr.Button
    trash_opened: gr.Button
    close: gr.Button
    drop: gr.File
    timer: gr.Timer
    page: gr.State
    selected: gr.State
    opened: gr.State
    seen: gr.State

    @property
    def query(self) -> list[Any]:
        """The components that decide which clips are shown."""
        return [self.words, self.variant, self.pictured, self.order, self.favourites, self.place, self.page]

    @property
    def inputs(self) -> list[Any]:
        return [*self.query, self.selected, self.opened]

    @property
    def shown(self) -> list[Any]:
        return [self.notice, self.wall, self.range, self.previous, self.next, self.variant, self.empty, self.seen]

    @property
    def selection(self) -> list[Any]:
        return [self.selected, self.bar, self.count, self.delete, self.restore]

    @property
    def viewing(self) -> list[Any]:
        return [self.opened, self.side, self.player, self.settings]


def _build_parts() -> LibraryComponents:
    found: dict[str, Any] = {"notice": gr.HTML(elem_id="library-notice", elem_classes="fleeting")}
    with gr.Row(elem_id="library-filters"):
        found |= _build_filters()
    with gr.Row(elem_id="library"):
        with gr.Column(scale=7, min_width=320, elem_id="library-wall"):
            found |= _build_bars()
            found["wall"] = gr.HTML(js_on_load=_SCRIPT, elem_id="wall", apply_default_css=False)
            with gr.Row(elem_id="library-pages"):
                found["previous"] = gr.Button("Previous", visible=False, min_width=100, scale=0)
                found["range"] = gr.HTML(elem_classes="range")
                found["next"] = gr.Button("Next", visible=False, min_width=100, scale=0)
            found["drop"] = gr.File(
                label="Use the settings of a clip from elsewhere (its mp4, or its poster)",
                file_types=[".mp4", ".jpg", ".jpeg"],
                type="filepath",
                height=120,
                elem_id="library-drop",
            )
            uploads_only(found["drop"], "clip")
        with gr.Column(scale=4, min_width=320, visible=False, elem_id="viewer") as found["side"]:
            found |= _build_viewer()
    found["timer"] = gr.Timer(REFRESH_SECONDS, active=False)
    found |= {"page": gr.State(0), "selected": gr.State([]), "opened": gr.State(""), "seen": gr.State(None)}
    return LibraryComponents(**found)


def _build_filters() -> dict[str, Any]:
    def choose(label: str, choices: list[tuple[str, str]]) -> gr.Dropdown:
        return gr.Dropdown(choices, value=choices[0][1], label=label, min_width=130, filterable=False)

    return {
        "words": gr.Textbox(
            label="Search prompts", placeholder="harbour dawn", max_lines=1, max_length=500, scale=2, min_width=180
        ),
        "variant": choose("Model", [("All models", ALL)]),
        "pictured": choose("First frame", [("With or without", ALL), ("With", "with"), ("Without", "without")]),
        "order": choose("Sort", [("Newest first", "newest"), ("Oldest first", "oldest")]),
        "favourites": gr.Checkbox(False, label="Favourites only", min_width=140, elem_id="library-favourites"),
        "place": gr.Radio(
            [("Clips", "clips"), ("Trash", "trash")],
            value="clips",
            label="Show",
            min_width=210,
            elem_id="library-place",
            elem_classes="segments",
        ),
    }


def _build_bars() -> dict[str, Any]:
    found: dict[str, Any] = {}
    with gr.Row(visible=False, elem_classes="bulk") as found["bar"]:
        found["count"] = gr.HTML(elem_classes="grow")
        found["delete"] = gr.Button("Delete selected", size="sm", min_width=130, scale=0)
        found["restore"] = gr.Button("Restore selected", size="sm", min_width=130, scale=0, visible=False)
        found["clear"] = gr.Button("Clear selection", size="sm", min_width=110, scale=0)
    found["empty"] = gr.Button("Empty the trash", size="sm", visible=False, elem_id="empty-trash")
    with gr.Row(visible=False, elem_classes="bulk") as found["ask"]:
        found["question"] = gr.HTML(elem_classes="grow")
        found["confirm"] = gr.Button("Delete permanently", size="sm", variant="stop", min_width=130, scale=0)
        found["keep"] = gr.Button("Keep them", size="sm", min_width=110, scale=0)
    return found


def _build_viewer() -> dict[str, Any]:
    found: dict[str, Any] = {"player": gr.HTML(apply_default_css=False)}
    with gr.Row():
        found["use"] = gr.Button("Use these settings", variant="primary", min_width=150)
        found["continue_clip"] = gr.Button("Continue from the last frame", min_width=210)
    with gr.Row():
        found["trash_opened"] = gr.Button("Delete", size="sm", min_width=90)
        found["close"] = gr.Button("Close", size="sm", min_width=90)
    found["settings"] = gr.HTML(apply_default_css=False)
    return found


def _connect_wall(parts: LibraryComponents, handlers: LibraryHandlers) -> None:
    def show_first(*inputs: Any) -> Any:
        *query, _, _, opened = inputs
        return 0, *handlers.show_selection([], query[5]), *handlers.show(*query, 0, [], opened)

    def turn(step: int) -> Callable[..., Any]:
        def turned(*inputs: Any) -> Any:
            *query, page, _, opened = inputs
            page = max(0, page + step)
            return page, *handlers.show_selection([], query[5]), *handlers.show(*query, page, [], opened)

        return turned

    first = [parts.page, *parts.selection, *parts.shown]
    filters = [parts.words.change, parts.favourites.change, parts.pictured.input, parts.order.input]
    changes = [*filters, parts.variant.input, parts.place.change]
    gr.on(changes, show_first, parts.inputs, first, trigger_mode="always_last", **PRIVATE)
    parts.previous.click(turn(-1), parts.inputs, first, **PRIVATE)
    parts.next.click(turn(1), parts.inputs, first, **PRIVATE)

    def shown(*inputs: Any) -> Any:
        return gr.Timer(active=True), *handlers.show(*inputs)

    parts.wall.shown(shown, parts.inputs, [parts.timer, *parts.shown], **PRIVATE)
    parts.wall.hidden(lambda: gr.Timer(active=False), None, parts.timer, **PRIVATE)
    parts.timer.tick(handlers.tick, [parts.seen, *parts.inputs], parts.shown, **PRIVATE)
    parts.wall.pick(handlers.select, parts.place, parts.selection, **PRIVATE)
    _then_show(
        parts.wall.mark(_guarded_event(handlers.mark, 0, "Not marked"), None, parts.notice, **PRIVATE), parts, handlers
    )


def _connect_viewer(parts: LibraryComponents, handlers: LibraryHandlers) -> None:
    opening = parts.wall.open(
        _guarded_event(handlers.open, 4, title="The clip cannot be shown"),
        None,
        [*parts.viewing, parts.notice],
        **PRIVATE,
    )
    _then_show(opening, parts, handlers)
    # On a narrow screen the viewer is far above the card.
    opening.then(None, None, None, js="() => document.querySelector('#viewer')?.scrollIntoView({block: 'nearest'})")
    closing = parts.close.click(handlers.close, None, parts.viewing, **PRIVATE)
    _then_show(closing, parts, handlers)

    def trash_opened(clip: str, selected: list[str], place: str) -> Any:
        handlers.trash([clip])
        return *handlers.close(), *handlers.show_selection([one for one in selected if one != clip], place)

    inputs, outputs = [parts.opened, parts.selected, parts.place], [*parts.viewing, *parts.selection]
    guarded = _guarded(trash_opened, len(outputs), title="Not deleted")
    _then_show(parts.trash_opened.click(guarded, inputs, [*outputs, parts.notice], **PRIVATE), parts, handlers)


def _connect_trash(parts: LibraryComponents, handlers: LibraryHandlers) -> None:
    def delete(selected: list[str], place: str, opened: str) -> Any:
        handlers.trash(selected)
        closed = handlers.close() if opened in selected else [gr.skip()] * 4
        return *closed, *handlers.show_selection([], place)

    def restore(selected: list[str], place: str) -> Any:
        handlers.restore(selected)
        return handlers.show_selection([], place)

    def empty(place: str) -> Any:
        return handlers.empty_trash(), *handlers.show_selection([], place)

    def act(button: gr.Button, action: Any, inputs: list[Any], outputs: list[Any], title: str) -> None:
        guarded = _guarded(action, len(outputs), title=title)
        _then_show(button.click(guarded, inputs, [*outputs, parts.notice], **PRIVATE), parts, handlers)

    both = [*parts.viewing, *parts.selection]
    act(parts.delete, delete, [parts.selected, parts.place, parts.opened], both, "Not deleted")
    act(parts.restore, restore, [parts.selected, parts.place], parts.selection, "Not restored")
    act(parts.confirm, empty, [parts.place], [parts.ask, *parts.selection], "The trash was not emptied")
    act(parts.clear, lambda place: handlers.show_selection([], place), [parts.place], parts.selection, "")
    asking = _guarded(handlers.confirm_emptying, 2, title="The trash cannot be read")
    parts.empty.click(asking, None, [parts.ask, parts.question, parts.notice], **PRIVATE)
    gr.on([parts.keep.click, parts.place.change], lambda: gr.Row(visible=False), None, parts.ask, **PRIVATE)


def _connect_form(parts: LibraryComponents, handlers: LibraryHandlers, form: LibraryForm, tabs: gr.Tabs) -> None:
    """Connect everything that fills the Create form."""
    outputs = [*form.outputs, tabs]

    def filling(find: Callable[[str], ClipSpec]) -> Callable[..., Any]:
        def fill(chosen: str) -> Any:
            try:
                filled = form.fill(find(chosen))
            except FirstFrameMissing as error:
                filled = form.fill(error.spec, notice=notice_html(str(error), "Filled in without the first frame"))
            return [*filled, gr.Tabs(selected=CREATE_TAB)]

        return _guarded(fill, len(outputs), title="The settings cannot be used")

    parts.use.click(filling(handlers.settings), parts.opened, [*outputs, parts.notice], **PRIVATE)
    parts.continue_clip.click(filling(handlers.continuation), parts.opened, [*outputs, parts.notice], **PRIVATE)
    dropped = parts.drop.upload(filling(handlers.adopt), parts.drop, [*outputs, parts.notice], **PRIVATE)
    dropped.then(lambda: None, None, parts.drop, **PRIVATE)


def _then_show(event: Any, parts: LibraryComponents, handlers: LibraryHandlers) -> None:
    def shown(*inputs: Any) -> Any:
        notice, *rest = handlers.show(*inputs)
        # Keep the notice of the action before.
        return notice or gr.skip(), *rest

    event.then(shown, parts.inputs, parts.shown, **PRIVATE)


def _guarded(action: Callable[..., Any], count: int, title: str) -> Callable[..., Any]:
    """Wrap `action` to return a notice as an additional output, which says why it failed."""

    def guarded(*inputs: Any) -> Any:
        try:
            found = action(*inputs)
        except JobError as error:
            return *[gr.skip()] * count, notice_html(str(error), title)
        return *(found if isinstance(found, (tuple, list)) else [found]), ""

    return guarded


def _guarded_event(action: Callable[[gr.EventData], Any], count: int, title: str) -> Callable[..., Any]:
    """Wrap an action on an event of the wall as `_guarded` does, with the annotation that Gradio goes by."""
    guarded = _guarded(action, count, title)

    def guarded_event(event: gr.EventData) -> Any:
        return guarded(event)

    return guarded_event
