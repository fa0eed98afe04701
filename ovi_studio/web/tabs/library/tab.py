"""The Library tab: all clips as a wall of posters, a lightbox, searches, the trash, and what fills the Create form.

Handlers are private, not part of the API.
"""

from collections.abc import Callable
from typing import Any, Protocol

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media.clip_files import FirstFrameMissing
from ovi_studio.web.events import EACH, LATEST, PRIVATE
from ovi_studio.web.tabs import CREATE_TAB
from ovi_studio.web.tabs.library import texts
from ovi_studio.web.tabs.library.components import LibraryComponents, build_parts
from ovi_studio.web.tabs.library.handlers import Done, Emptied, LibraryHandlers, LibraryServices, id_of
from ovi_studio.web.toasts import Toasts
from ovi_studio.web.views import notice_html

_DOWNLOAD = "() => document.dispatchEvent(new CustomEvent('ovi:download-selected'))"
_COMPARE = "() => document.dispatchEvent(new CustomEvent('ovi:compare-selected'))"
_IMPROVE = "() => document.dispatchEvent(new CustomEvent('ovi:improve-selected'))"
_CLEAR = "() => document.dispatchEvent(new CustomEvent('ovi:clear-selection'))"
_ADD_FILES = "() => document.dispatchEvent(new CustomEvent('ovi:add-files'))"


class LibraryForm(Protocol):
    """The part of the Create form that the Library tab fills."""

    @property
    def outputs(self) -> list[Any]: ...

    def fill(self, spec: ClipSpec | None = None, *, prompt: str | None = None, notice: str = "") -> list[Any]: ...


def build_library(studio: LibraryServices, form: LibraryForm, tabs: gr.Tabs, toasts: Toasts) -> None:
    """Build the tab; using a clip again fills `form` and switches to it in `tabs`."""
    parts = build_parts()
    handlers = LibraryHandlers(studio, parts.wall)
    _connect_wall(parts, handlers)
    _connect_search(parts, handlers, toasts)
    _connect_selection(parts, handlers, toasts)
    _connect_lightbox(parts, handlers, toasts)
    _connect_trash(parts, handlers, toasts)
    _connect_form(parts, handlers, form, tabs)
    _then_show(toasts.undone, parts, handlers)


def _connect_wall(parts: LibraryComponents, handlers: LibraryHandlers) -> None:
    def show_first(*inputs: Any) -> Any:
        *query, _, _ = inputs
        return 0, *handlers.show_selection([], query[5]), *handlers.show(*query, 0, [])

    def turn(step: int) -> Callable[..., Any]:
        def turned(*inputs: Any) -> Any:
            *query, page, _ = inputs
            page = max(0, page + step)
            return page, *handlers.show_selection([], query[5]), *handlers.show(*query, page, [])

        return turned

    first = [parts.page, *parts.selection, *parts.shown]
    filters = [parts.words.change, parts.favourites.change, parts.pictured.input, parts.order.input]
    changes = [*filters, parts.variant.input, parts.place.change]
    gr.on(changes, show_first, parts.inputs, first, **LATEST)
    for happens, by in (
        (parts.previous.click, -1),
        (parts.wall.back, -1),
        (parts.next.click, 1),
        (parts.wall.forth, 1),
    ):
        happens(turn(by), parts.inputs, first, **PRIVATE)

    def shown(*inputs: Any) -> Any:
        return gr.Timer(active=True), *handlers.show(*inputs)

    parts.wall.shown(shown, parts.inputs, [parts.timer, *parts.shown], **LATEST)
    parts.wall.hidden(lambda: gr.Timer(active=False), None, parts.timer, **LATEST)
    parts.timer.tick(handlers.tick, [parts.seen, *parts.inputs], parts.shown, **PRIVATE)
    parts.wall.pick(handlers.select, parts.place, parts.selection, **EACH)
    _then_show(
        parts.wall.mark(_guarded_event(handlers.mark, 0, texts.NOT_MARKED), None, parts.notice, **EACH),
        parts,
        handlers,
    )


def _connect_search(parts: LibraryComponents, handlers: LibraryHandlers, toasts: Toasts) -> None:
    def save(name: str, words: str) -> Any:
        handlers.save_search(name, words)
        return "", gr.Row(visible=False)

    naming = [parts.naming, parts.name]
    parts.words.change(lambda words: gr.Button(visible=bool(words)), parts.words, parts.name_search, **LATEST)
    parts.name_search.click(lambda: (gr.Row(visible=True), ""), None, naming, **PRIVATE).then(
        None, None, None, js="() => document.querySelector('#collection-name :is(input, textarea)')?.focus()"
    )
    parts.cancel.click(lambda: gr.Row(visible=False), None, parts.naming, **PRIVATE)
    saving = gr.on(
        [parts.save.click, parts.name.submit],
        _guarded(save, 2, texts.NOT_SAVED),
        [parts.name, parts.words],
        [parts.name, parts.naming, parts.notice],
        **PRIVATE,
    )
    _then_show(saving, parts, handlers)
    parts.shelf.search(handlers.chosen_search, None, parts.words, **PRIVATE)
    _connect_undoable(parts.shelf.forget, handlers.forget_search, parts, handlers, toasts)


def _connect_selection(parts: LibraryComponents, handlers: LibraryHandlers, toasts: Toasts) -> None:
    parts.download.click(None, None, None, js=_DOWNLOAD)
    parts.compare.click(None, None, None, js=_COMPARE)
    parts.improve.click(None, None, None, js=_IMPROVE)
    parts.clear.click(None, None, None, js=_CLEAR)
    parts.add_files.click(None, None, None, js=_ADD_FILES)

    def tag(add: bool) -> Callable[..., Any]:
        return _guarded(lambda ids, text: handlers.tag(ids, text, add=add), 1, texts.NOT_TAGGED)

    tagging = [parts.selected, parts.tags]
    adding = gr.on([parts.add_tags.click, parts.tags.submit], tag(True), tagging, [parts.tags, parts.notice], **PRIVATE)
    removing = parts.remove_tags.click(tag(False), tagging, [parts.tags, parts.notice], **PRIVATE)
    marking = _guarded(handlers.mark_all, 0, texts.NOT_MARKED)
    for event in (adding, removing, parts.mark.click(marking, parts.selected, parts.notice, **PRIVATE)):
        _then_show(event, parts, handlers)

    def delete(selected: list[str], place: str, request: gr.Request) -> Any:
        try:
            done = handlers.trash(selected)
        except JobError as error:
            return *[gr.skip()] * 6, notice_html(str(error), texts.NOT_DELETED)
        return *handlers.show_selection([], place), _reported(done, toasts, request), ""

    outputs = [*parts.selection, toasts.component, parts.notice]
    _then_show(parts.delete.click(delete, [parts.selected, parts.place], outputs, **PRIVATE), parts, handlers)


def _connect_lightbox(parts: LibraryComponents, handlers: LibraryHandlers, toasts: Toasts) -> None:
    for event, action, title in (
        (parts.lightbox.mark, handlers.mark, texts.NOT_MARKED),
        (parts.lightbox.tag, handlers.tag_one, texts.NOT_TAGGED),
    ):
        _then_show(event(_guarded_event(action, 0, title), None, parts.notice, **EACH), parts, handlers)
    for event in (parts.lightbox.trash, parts.wall.trash):
        _connect_undoable(event, handlers.trash_event, parts, handlers, toasts)


def _connect_undoable(
    happens: Any,
    action: Callable[[gr.EventData], Done | None],
    parts: LibraryComponents,
    handlers: LibraryHandlers,
    toasts: Toasts,
) -> None:
    """Connect an act that can be taken back, and show the library after it."""

    def act(event: gr.EventData, request: gr.Request) -> Any:
        try:
            return _reported(action(event), toasts, request), ""
        except JobError as error:
            return gr.skip(), notice_html(str(error), texts.NOT_DELETED)

    _then_show(happens(act, None, [toasts.component, parts.notice], **EACH), parts, handlers)


def _reported(done: Done | Emptied | None, toasts: Toasts, request: gr.Request) -> Any:
    return gr.skip() if done is None else toasts.undoable(request, *done)


def _connect_trash(parts: LibraryComponents, handlers: LibraryHandlers, toasts: Toasts) -> None:
    def restore(selected: list[str], place: str) -> Any:
        return toasts.note(handlers.restore(selected)), *handlers.show_selection([], place)

    def empty(place: str, request: gr.Request) -> Any:
        hidden = gr.Row(visible=False)
        try:
            done = handlers.empty_trash()
        except JobError as error:
            return hidden, *[gr.skip()] * 6, notice_html(str(error), texts.NOT_EMPTIED)
        return hidden, _reported(done, toasts, request), *handlers.show_selection([], place), ""

    restoring = _guarded(restore, 6, texts.NOT_RESTORED)
    outputs = [toasts.component, *parts.selection, parts.notice]
    _then_show(parts.restore.click(restoring, [parts.selected, parts.place], outputs, **PRIVATE), parts, handlers)
    _then_show(parts.confirm.click(empty, parts.place, [parts.ask, *outputs], **PRIVATE), parts, handlers)
    asking = _guarded(handlers.confirm_emptying, 2, texts.UNREADABLE)
    parts.empty.click(asking, None, [parts.ask, parts.question, parts.notice], **PRIVATE)
    gr.on([parts.keep.click, parts.place.change], lambda: gr.Row(visible=False), None, parts.ask, **LATEST)


def _connect_form(parts: LibraryComponents, handlers: LibraryHandlers, form: LibraryForm, tabs: gr.Tabs) -> None:
    """Connect everything that fills the Create form."""
    outputs = [*form.outputs, tabs]

    def filling(find: Callable[[str], ClipSpec]) -> Callable[..., Any]:
        def fill(event: gr.EventData) -> Any:
            try:
                filled = form.fill(find(id_of(event)))
            except FirstFrameMissing as error:
                filled = form.fill(error.spec, notice=notice_html(str(error), texts.WITHOUT_FIRST_FRAME))
            return [*filled, gr.Tabs(selected=CREATE_TAB)]

        return _guarded_event(fill, len(outputs), texts.NOT_USED)

    parts.lightbox.use(filling(handlers.settings), None, [*outputs, parts.notice], **PRIVATE)
    parts.lightbox.continued(filling(handlers.continuation), None, [*outputs, parts.notice], **PRIVATE)


def _then_show(event: Any, parts: LibraryComponents, handlers: LibraryHandlers) -> None:
    def shown(*inputs: Any) -> Any:
        notice, *rest = handlers.show(*inputs)
        # Keep the notice of the action before.
        return notice or gr.skip(), *rest

    event.then(shown, parts.inputs, parts.shown, **LATEST)


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
    """Wrap an action on an event of a script as `_guarded` does, with the annotation that Gradio goes by."""
    guarded = _guarded(action, count, title)

    def guarded_event(event: gr.EventData) -> Any:
        return guarded(event)

    return guarded_event
