"""Event handlers of the Library tab.

The browser names clips only by id. Most methods may raise `JobError`.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import find_variant
from ovi_studio.library import Library, Query
from ovi_studio.library.marks import parse_tags
from ovi_studio.library.search import parse_search
from ovi_studio.services.clip_bundle import MAX_CLIPS
from ovi_studio.web.tabs.library import texts, views
from ovi_studio.web.uploads import shown_copy
from ovi_studio.web.views import notice_html

PAGE_SIZE = 48
ALL = "all"
"""The choice for no filter."""
SHOWN = 9
"""The number of values that showing the library returns."""
SHOWN_TAGS = 30
SCAN_SECONDS = 2.0
"""How old a scan of the folder may be while somebody types or turns pages; `tick` scans it anew."""
Done = tuple[str, Callable[[], None]]
"""A sentence about what was done, and how to take it back."""
Emptied = tuple[str, Callable[[], None], Callable[[], None]]
"""The same, and what deletes the files when it is no longer taken back."""


class LibraryServices(Protocol):
    """The part of `Studio` that the Library tab uses."""

    checkpoint_directory: Path
    library: Library


class LibraryHandlers:
    """The functions behind the components of the tab."""

    def __init__(self, studio: LibraryServices, cache: gr.HTML) -> None:
        self._library = studio.library
        self._checkpoints = studio.checkpoint_directory
        self._cache = cache

    # Showing. Each returns values for `LibraryComponents.shown`.

    def show(self, *inputs: Any) -> Any:
        """Read the library again and show one page of cards."""
        *query, page, selected = inputs
        try:
            # To scan thousands of files takes longer than to search them.
            self._library.refresh(older_than=SCAN_SECONDS)
            stamp = self._library.revision
            if query[5] == "trash":
                return self._show_trash(stamp, selected)
        except JobError as error:
            return self._refused(error, texts.UNREADABLE)
        try:
            wanted = _query(query, page)
        except JobError as error:
            return self._refused(error, texts.SEARCH_UNCLEAR)
        try:
            return self._show_clips(stamp, wanted, page, selected, *query[:2])
        except JobError as error:
            return self._refused(error, texts.UNREADABLE)

    def tick(self, seen: Any, *inputs: Any) -> Any:
        """Show the cards again if the library has changed since `seen`."""
        try:
            self._library.refresh()
        except JobError as error:
            return self._refused(error, texts.UNREADABLE)
        return [gr.skip()] * SHOWN if seen == self._library.revision else self.show(*inputs)

    def _refused(self, error: JobError, title: str) -> Any:
        return notice_html(str(error), title), *[gr.skip()] * (SHOWN - 1)

    def _show_clips(self, stamp: Any, query: Query, page: int, selected: list[str], words: str, variant: str) -> Any:
        found = self._library.search(query)
        names = self._library.variants()
        filtered = query != Query(limit=query.limit, order=query.order, offset=query.offset)
        if found.clips:
            wall = views.wall_html(found.clips, selected)
        else:
            wall = views.empty_html(texts.NOTHING_FOUND if filtered or found.total else texts.EMPTY)
        last = query.offset + len(found.clips)
        text = texts.shown(query.offset + 1, last, found.total) if found.clips else ""
        more = last < found.total
        choices = [(texts.ALL_MODELS, ALL), *((self._title(name), name) for name in names)]
        shelf = views.shelf_html(self._library.collections(), self._library.tags()[:SHOWN_TAGS], words or "")
        return (
            "",
            wall,
            text,
            gr.Button(visible=found.total > PAGE_SIZE, interactive=page > 0),
            gr.Button(visible=found.total > PAGE_SIZE, interactive=more),
            gr.Dropdown(choices, value=variant if variant in names else ALL),
            gr.Button(visible=False),
            shelf,
            stamp,
        )

    def _show_trash(self, stamp: Any, selected: list[str]) -> Any:
        clips = self._library.trashed()
        wall = views.trash_html(clips, selected, self._serve) if clips else views.empty_html(texts.EMPTY_TRASH)
        text = texts.clips(len(clips)) if clips else ""
        hidden = gr.Button(visible=False)
        return "", wall, text, hidden, hidden, gr.skip(), gr.Button(visible=bool(clips)), "", stamp

    # Selecting

    def select(self, place: str, event: gr.EventData) -> Any:
        """Update the selection from the ticked cards."""
        return self.show_selection(_ids(event), place)

    def show_selection(self, ids: list[str], place: str) -> Any:
        """Update the bar of actions for the selected clips."""
        text = texts.selected(len(ids))
        clips = place != "trash"
        return ids, gr.Row(visible=bool(ids)), text, gr.Row(visible=clips), gr.Button(visible=not clips)

    # Noting

    def mark(self, event: gr.EventData) -> tuple[()]:
        """Add clips to the favourites, or remove them."""
        self._library.set_favourite(_ids(event), getattr(event, "favourite", None) is True)
        return ()

    def mark_all(self, ids: list[str]) -> tuple[()]:
        """Add clips to the favourites; if all of them are, remove them."""
        known = [self._library.get(clip) for clip in ids]
        self._library.set_favourite(ids, not all(clip.favourite for clip in known))
        return ()

    def tag(self, ids: list[str], text: str, *, add: bool) -> str:
        """Add or remove the tags in a text; returns the text that stays in the field."""
        tags = parse_tags(text)
        if not tags:
            raise JobError(texts.TYPE_A_TAG)
        self._library.change_tags(ids, **{"add" if add else "remove": tags})
        return ""

    def tag_one(self, event: gr.EventData) -> tuple[()]:
        """Add or remove tags of the clip in the lightbox."""
        add, remove = (getattr(event, name, None) for name in ("add", "remove"))
        tags = {name: parse_tags(given) for name, given in (("add", add), ("remove", remove)) if isinstance(given, str)}
        self._library.change_tags(_ids(event), **tags)
        return ()

    def chosen_search(self, event: gr.EventData) -> str:
        """Return the search of a collection or a tag that was clicked."""
        search = getattr(event, "search", None)
        return search if isinstance(search, str) else ""

    def save_search(self, name: str, search: str) -> None:
        """Save the search as a collection."""
        self._library.save_collection(name or "", search or "")

    def forget_search(self, event: gr.EventData) -> Done | None:
        """Delete a collection; None if there is none."""
        name = getattr(event, "name", None)
        search = self._library.collections().get(name) if isinstance(name, str) else None
        if not isinstance(name, str) or search is None:
            return None
        self._library.delete_collection(name)

        def undo() -> None:
            self._library.save_collection(name, search)

        return texts.collection_deleted(name), undo

    # Changing

    def trash(self, ids: list[str]) -> Done | None:
        """Move clips to the trash; None if they are gone."""
        trashed = self._library.trash(ids)
        if not trashed:
            return None

        def undo() -> None:
            self._library.restore(trashed)

        return texts.trashed(len(trashed)), undo

    def trash_event(self, event: gr.EventData) -> Done | None:
        """Move the clips of an event to the trash, as `trash` does."""
        return self.trash(_ids(event))

    def restore(self, ids: list[str]) -> str:
        """Move clips back into the library; returns what was done."""
        return texts.restored(self._library.restore(ids))

    def confirm_emptying(self) -> Any:
        """Ask whether to empty the trash."""
        return gr.Row(visible=True), texts.empty_question(len(self._library.trashed()))

    def empty_trash(self) -> Emptied | None:
        """Empty the trash; None if nothing is in it. The files stay on the disk for as long as it can be taken back."""
        trashed = self._library.empty_trash()
        if not trashed:
            return None
        undo, finish = (partial(act, trashed) for act in (self._library.refill_trash, self._library.delete_trashed))
        return texts.emptied(len(trashed)), undo, finish

    # Using clips again

    def settings(self, clip: str) -> ClipSpec:
        """Return the settings that make a clip again."""
        return self._library.settings(clip)

    def continuation(self, clip: str) -> ClipSpec:
        """Return a clip's settings with its last frame as the first one."""
        return self._library.continuation(clip)

    def _title(self, variant: str) -> str:
        try:
            return find_variant(variant, self._checkpoints).title
        except JobError:
            return variant

    def _serve(self, poster: Path) -> str | None:
        """Return the URL of a copy of a poster in the trash, which is not served itself."""
        try:
            return f"gradio_api/file={quote(shown_copy(self._cache, poster))}"
        except OSError:
            return None


def _query(values: list[Any], page: int) -> Query:
    words, variant, pictured, order, favourites, _ = values
    query = Query(
        words=words or "",
        variant=None if variant == ALL else variant,
        favourites_only=bool(favourites),
        with_picture={"with": True, "without": False}.get(pictured),
        order=order,
        offset=page * PAGE_SIZE,
        limit=PAGE_SIZE,
    )
    parse_search(query.words)  # says what is wrong with it before anything is read
    return query


def _ids(event: gr.EventData) -> list[str]:
    given = getattr(event, "ids", None)
    return [clip for clip in given if isinstance(clip, str)][:MAX_CLIPS] if isinstance(given, list) else []


def id_of(event: gr.EventData) -> str:
    """The clip that an event is about; empty if it names none."""
    return next(iter(_ids(event)), "")
