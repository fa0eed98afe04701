"""What happens in the Library tab when somebody does something, or when time passes.

The browser names clips by id only. Most methods may raise `JobError`.
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
"""No filter."""
_MAX_PICKED = 500


class Shelf(Protocol):
    """The part of `Studio` that this tab uses."""

    checkpoint_directory: Path
    library: Library


class LibraryHandlers:
    """What happens when somebody does something, or when time passes."""

    def __init__(self, studio: Shelf, cache: gr.HTML) -> None:
        self._library = studio.library
        self._checkpoints = studio.checkpoint_directory
        self._cache = cache
        self._emptied = 0
        """How often the trash was emptied here, which the library's own number does not tell."""

    # Looking. Each returns values for `Parts.shown` of the tab.

    def show(self, *inputs: Any) -> Any:
        """The cards of one page, read anew."""
        *query, page, picked, opened = inputs
        place = query[5]
        try:
            self._library.refresh()
            stamp = self._stamp
            if place == "trash":
                return self._show_trash(stamp, picked)
            return self._show_clips(stamp, _query(query, page), page, picked, opened, *query[:2])
        except JobError as error:
            return notice_html(str(error), "The library cannot be read"), *[gr.skip()] * 7

    def tick(self, seen: Any, *inputs: Any) -> Any:
        """The same if something has changed since a page looked."""
        try:
            self._library.refresh()
        except JobError as error:
            return notice_html(str(error), "The library cannot be read"), *[gr.skip()] * 7
        return [gr.skip()] * 8 if seen == self._stamp else self.show(*inputs)

    @property
    def _stamp(self) -> tuple[int, int]:
        return self._library.revision, self._emptied

    def _show_clips(
        self, stamp: Any, query: Query, page: int, picked: list[str], opened: str, words: str, variant: str
    ) -> Any:
        found = self._library.search(query)
        names = self._library.variants()
        filtered = query != Query(limit=query.limit, order=query.order, offset=query.offset)
        if found.clips:
            wall = views.wall_html(found.clips, picked, opened)
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

    def _show_trash(self, stamp: Any, picked: list[str]) -> Any:
        clips = self._library.trashed()
        wall = views.trash_html(clips, picked, self._serve) if clips else views.empty_html(views.EMPTY_TRASH)
        text = views.count_clips(len(clips)) if clips else ""
        hidden = gr.Button(visible=False)
        return "", wall, text, hidden, hidden, gr.skip(), gr.Button(visible=bool(clips)), stamp

    # Choosing

    def pick(self, place: str, event: gr.EventData) -> Any:
        """The cards that are ticked now."""
        given = getattr(event, "ids", None)
        ids = [clip for clip in given if isinstance(clip, str)][:_MAX_PICKED] if isinstance(given, list) else []
        return self.picking(ids, place)

    def picking(self, ids: list[str], place: str) -> Any:
        """The bar with what can be done with several clips."""
        text = f"{views.count_clips(len(ids))} selected"
        return (
            ids,
            gr.Row(visible=bool(ids)),
            text,
            gr.Button(visible=place != "trash"),
            gr.Button(visible=place == "trash"),
        )

    def mark(self, event: gr.EventData) -> tuple[()]:
        """Make a clip a favourite, or no longer."""
        self._library.set_favourite([_id(event)], getattr(event, "favourite", None) is True)
        return ()

    def open(self, event: gr.EventData) -> Any:
        """Play a clip and show what it was made from."""
        clip = self._library.get(_id(event))
        self._library.path(clip.id)  # refuses if the file is gone
        settings = views.settings_html(clip, self._title(clip.spec.variant))
        return clip.id, gr.Column(visible=True), views.player_html(clip), settings

    def close(self) -> Any:
        """Put the viewer away."""
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

    def ask(self) -> Any:
        """Say what emptying the trash would delete."""
        count = views.count_clips(len(self._library.trashed()))
        return gr.Row(visible=True), f"Delete {count} for good? This cannot be undone."

    def empty(self) -> Any:
        """Delete what is in the trash for good."""
        count = self._library.empty_trash()
        self._emptied += 1
        gr.Info(f"{views.count_clips(count)} deleted for good.", duration=4)
        return gr.Row(visible=False)

    # Using

    def settings(self, clip: str) -> ClipSpec:
        """What to ask for to get a clip again."""
        return self._library.settings(clip)

    def continuation(self, clip: str) -> ClipSpec:
        """The same settings with the clip's last frame as the first one."""
        return replace(self._library.settings(clip), image=self._library.last_frame(clip), size=None)

    def adopt(self, upload: str) -> ClipSpec:
        """The settings of a clip from elsewhere, whose upload is not needed any more."""
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
        """The trash is not served, so its posters are copied."""
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
