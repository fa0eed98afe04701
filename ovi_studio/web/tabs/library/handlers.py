"""Event handlers of the Library tab.

The browser names clips only by id. Most methods may raise `JobError`.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import find_variant
from ovi_studio.library import Library, Query
from ovi_studio.web.tabs.library import views
from ovi_studio.web.uploads import shown_copy
from ovi_studio.web.views import notice_html

PAGE_SIZE = 24
ALL = "all"
"""The choice for no filter."""
_MAX_SELECTED = 500


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
        self._emptied = 0
        """Number of times the trash was emptied, which `Library.revision` does not count."""

    # Showing. Each returns values for `LibraryComponents.shown`.

    def show(self, *inputs: Any) -> Any:
        """Read the library again and show one page of cards."""
        *query, page, selected, opened = inputs
        place = query[5]
        try:
            self._library.refresh()
            stamp = self._stamp
            if place == "trash":
                return self._show_trash(stamp, selected)
            return self._show_clips(stamp, _query(query, page), page, selected, opened, *query[:2])
        except JobError as error:
            return notice_html(str(error), "The library cannot be read"), *[gr.skip()] * 7

    def tick(self, seen: Any, *inputs: Any) -> Any:
        """Show the cards again if the library has changed since `seen`."""
        try:
            self._library.refresh()
        except JobError as error:
            return notice_html(str(error), "The library cannot be read"), *[gr.skip()] * 7
        return [gr.skip()] * 8 if seen == self._stamp else self.show(*inputs)

    @property
    def _stamp(self) -> tuple[int, int]:
        return self._library.revision, self._emptied

    def _show_clips(
        self, stamp: Any, query: Query, page: int, selected: list[str], opened: str, words: str, variant: str
    ) -> Any:
        found = self._library.search(query)
        names = self._library.variants()
        filtered = query != Query(limit=query.limit, order=query.order, offset=query.offset)
        if found.clips:
            wall = views.wall_html(found.clips, selected, opened)
        else:
            wall = views.empty_html(views.NOTHING_FOUND if filtered or found.total else views.EMPTY)
        first = query.offset + 1
        text = (
            f"{first} to {query.offset + len(found.clips)} of {views.count_clips(found.total)}" if found.clips else ""
        )
        more = query.offset + len(found.clips) < found.total
        choices = [("All models", ALL), *((self._title(name), name) for name in names)]
        return (
            "",
            wall,
            text,
            gr.Button(visible=found.total > PAGE_SIZE, interactive=page > 0),
            gr.Button(visible=found.total > PAGE_SIZE, interactive=more),
            gr.Dropdown(choices, value=variant if variant in names else ALL),
            gr.Button(visible=False),
            stamp,
        )

    def _show_trash(self, stamp: Any, selected: list[str]) -> Any:
        clips = self._library.trashed()
        wall = views.trash_html(clips, selected, self._serve) if clips else views.empty_html(views.EMPTY_TRASH)
        text = views.count_clips(len(clips)) if clips else ""
        hidden = gr.Button(visible=False)
        return "", wall, text, hidden, hidden, gr.skip(), gr.Button(visible=bool(clips)), stamp

    # Selecting

    def select(self, place: str, event: gr.EventData) -> Any:
        """Update the selection from the ticked cards."""
        given = getattr(event, "ids", None)
        ids = [clip for clip in given if isinstance(clip, str)][:_MAX_SELECTED] if isinstance(given, list) else []
        return self.show_selection(ids, place)

    def show_selection(self, ids: list[str], place: str) -> Any:
        """Update the bar of actions for the selected clips."""
        text = f"{views.count_clips(len(ids))} selected"
        return (
            ids,
            gr.Row(visible=bool(ids)),
            text,
            gr.Button(visible=place != "trash"),
            gr.Button(visible=place == "trash"),
        )

    def mark(self, event: gr.EventData) -> tuple[()]:
        """Add a clip to the favourites, or remove it."""
        self._library.set_favourite([_id(event)], getattr(event, "favourite", None) is True)
        return ()

    def open(self, event: gr.EventData) -> Any:
        """Play a clip and show its settings."""
        clip = self._library.get(_id(event))
        self._library.path(clip.id)  # raises if the file is gone
        settings = views.settings_html(clip, self._title(clip.spec.variant))
        return clip.id, gr.Column(visible=True), views.player_html(clip), settings

    def close(self) -> Any:
        """Close the viewer."""
        return "", gr.Column(visible=False), "", ""

    # Changing

    def trash(self, ids: list[str]) -> None:
        """Move clips to the trash."""
        count = len(self._library.trash(ids))
        gr.Info(f"{views.count_clips(count)} moved to the trash.", duration=4)

    def restore(self, ids: list[str]) -> None:
        """Move clips back into the library."""
        count = self._library.restore(ids)
        gr.Info(f"{views.count_clips(count)} restored.", duration=4)

    def confirm_emptying(self) -> Any:
        """Ask whether to empty the trash."""
        count = views.count_clips(len(self._library.trashed()))
        return gr.Row(visible=True), f"Permanently delete {count}? This cannot be undone."

    def empty_trash(self) -> Any:
        """Permanently delete the clips in the trash."""
        count = self._library.empty_trash()
        self._emptied += 1
        gr.Info(f"{views.count_clips(count)} permanently deleted.", duration=4)
        return gr.Row(visible=False)

    # Using clips again

    def settings(self, clip: str) -> ClipSpec:
        """Return the settings that make a clip again."""
        return self._library.settings(clip)

    def continuation(self, clip: str) -> ClipSpec:
        """Return a clip's settings with its last frame as the first one."""
        return replace(self._library.settings(clip, self._library.last_frame(clip)), size=None)

    def adopt(self, upload: str) -> ClipSpec:
        """Return the settings in an uploaded clip or poster, and delete the upload."""
        try:
            return self._library.adopt(upload)
        finally:
            Path(upload).unlink(missing_ok=True)

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
    return Query(
        words=words or "",
        variant=None if variant == ALL else variant,
        favourites_only=bool(favourites),
        with_picture={"with": True, "without": False}.get(pictured),
        order=order,
        offset=page * PAGE_SIZE,
        limit=PAGE_SIZE,
    )


def _id(event: gr.EventData) -> str:
    clip = getattr(event, "id", None)
    return clip if isinstance(clip, str) else ""
