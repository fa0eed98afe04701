"""The components of the Library tab."""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ovi_studio.library.search import MAX_SEARCH_LENGTH, SYNTAX
from ovi_studio.web.tabs.library import texts
from ovi_studio.web.tabs.library.handlers import ALL

REFRESH_SECONDS = 3
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class LibraryComponents:
    """The components of the tab."""

    words: gr.Textbox
    variant: gr.Dropdown
    pictured: gr.Dropdown
    order: gr.Dropdown
    favourites: gr.Checkbox
    place: gr.Radio
    add_files: gr.Button
    shelf: gr.HTML
    name_search: gr.Button
    naming: gr.Row
    name: gr.Textbox
    save: gr.Button
    cancel: gr.Button
    notice: gr.HTML
    wall: gr.HTML
    lightbox: gr.HTML
    range: gr.HTML
    previous: gr.Button
    next: gr.Button
    bar: gr.Row
    count: gr.HTML
    actions: gr.Row
    download: gr.Button
    compare: gr.Button
    improve: gr.Button
    mark: gr.Button
    tags: gr.Textbox
    add_tags: gr.Button
    remove_tags: gr.Button
    delete: gr.Button
    restore: gr.Button
    clear: gr.Button
    empty: gr.Button
    ask: gr.Row
    question: gr.HTML
    confirm: gr.Button
    keep: gr.Button
    timer: gr.Timer
    page: gr.State
    selected: gr.State
    seen: gr.State

    @property
    def query(self) -> list[Any]:
        """The components that decide which clips are shown."""
        return [self.words, self.variant, self.pictured, self.order, self.favourites, self.place, self.page]

    @property
    def inputs(self) -> list[Any]:
        return [*self.query, self.selected]

    @property
    def shown(self) -> list[Any]:
        """The components that `LibraryHandlers.show` returns values for."""
        turning = [self.previous, self.next, self.variant, self.empty]
        return [self.notice, self.wall, self.range, *turning, self.shelf, self.seen]

    @property
    def selection(self) -> list[Any]:
        return [self.selected, self.bar, self.count, self.actions, self.restore]


def build_parts() -> LibraryComponents:
    found: dict[str, Any] = {"notice": gr.HTML(elem_id="library-notice", elem_classes="fleeting")}
    with gr.Row(elem_id="library-filters"):
        found |= _build_filters()
    found |= _build_shelf()
    with gr.Column(elem_id="library"):
        found |= _build_bars()
        found["wall"] = gr.HTML(js_on_load=_script("wall.js"), elem_id="wall", apply_default_css=False)
        with gr.Row(elem_id="library-pages"):
            found["previous"] = gr.Button(texts.PREVIOUS, visible=False, min_width=100, scale=0)
            found["range"] = gr.HTML(elem_classes="range")
            found["next"] = gr.Button(texts.NEXT, visible=False, min_width=100, scale=0)
    found["lightbox"] = gr.HTML(
        js_on_load=_script("lightbox.js"), elem_id="lightbox-source", apply_default_css=False, words=texts.LIGHTBOX
    )
    found["timer"] = gr.Timer(REFRESH_SECONDS, active=False)
    found |= {"page": gr.State(0), "selected": gr.State([]), "seen": gr.State(None)}
    return LibraryComponents(**found)


def _build_filters() -> dict[str, Any]:
    def choose(label: str, choices: list[tuple[str, str]]) -> gr.Dropdown:
        return gr.Dropdown(choices, value=choices[0][1], label=label, min_width=130, filterable=False)

    return {
        "words": gr.Textbox(
            label=texts.SEARCH,
            placeholder=texts.SEARCH_PLACEHOLDER,
            max_lines=1,
            max_length=MAX_SEARCH_LENGTH,
            scale=3,
            min_width=260,
            elem_id="library-search",
        ),
        "variant": choose(texts.MODEL, [(texts.ALL_MODELS, ALL)]),
        "pictured": choose(texts.FIRST_FRAME, list(zip(texts.FIRST_FRAMES, (ALL, "with", "without"), strict=True))),
        "order": choose(texts.SORT, [(texts.NEWEST, "newest"), (texts.OLDEST, "oldest")]),
        "favourites": gr.Checkbox(False, label=texts.FAVOURITES_ONLY, min_width=140, elem_id="library-favourites"),
        "place": gr.Radio(
            [(texts.CLIPS, "clips"), (texts.TRASH, "trash")],
            value="clips",
            label=texts.PLACE,
            min_width=210,
            elem_id="library-place",
            elem_classes="segments",
        ),
    }


def _build_shelf() -> dict[str, Any]:
    found: dict[str, Any] = {}
    with gr.Row(elem_id="library-search-row"):
        examples = " ".join(f"<code>{escape(example)}</code>" for example in SYNTAX)
        gr.HTML(f"{texts.SYNTAX_BEFORE} {examples}", elem_id="search-syntax", elem_classes="grow")
        found["name_search"] = gr.Button(texts.SAVE_SEARCH, size="sm", visible=False, min_width=130, scale=0)
        found["add_files"] = gr.Button(texts.ADD_FILES, size="sm", min_width=110, scale=0, elem_id="add-files")
    found["shelf"] = gr.HTML(js_on_load=_script("shelf.js"), elem_id="library-shelf", apply_default_css=False)
    with gr.Row(visible=False, elem_classes="bulk") as found["naming"]:
        found["name"] = gr.Textbox(
            show_label=False,
            container=False,
            placeholder=texts.COLLECTION_NAME,
            max_lines=1,
            max_length=60,
            min_width=160,
            elem_classes="grow",
            elem_id="collection-name",
        )
        found["save"] = gr.Button(texts.SAVE, size="sm", variant="primary", min_width=90, scale=0)
        found["cancel"] = gr.Button(texts.CANCEL, size="sm", min_width=90, scale=0)
    return found


def _build_bars() -> dict[str, Any]:
    found: dict[str, Any] = {}

    def button(name: str, label: str, width: int, **options: Any) -> None:
        found[name] = gr.Button(label, size="sm", min_width=width, scale=0, **options)

    with gr.Row(visible=False, elem_classes="bulk", elem_id="selection-bar") as found["bar"]:
        found["count"] = gr.HTML(elem_classes="grow")
        with gr.Row(elem_classes="actions") as found["actions"]:
            button("download", texts.DOWNLOAD_SELECTED, 110)
            button("compare", texts.COMPARE_SELECTED, 90, elem_id="compare-selected")
            button("improve", texts.IMPROVE_SELECTED, 150, elem_id="improve-selected")
            button("mark", texts.FAVOURITE_SELECTED, 90)
            found["tags"] = gr.Textbox(
                label=texts.TAGS_FIELD,
                show_label=False,
                container=False,
                placeholder=texts.TAGS_PLACEHOLDER,
                max_lines=1,
                max_length=200,
                min_width=190,
                elem_id="selection-tags",
            )
            button("add_tags", texts.ADD_TAGS, 80)
            button("remove_tags", texts.REMOVE_TAGS, 100)
            button("delete", texts.DELETE_SELECTED, 120)
        button("restore", texts.RESTORE_SELECTED, 130, visible=False)
        button("clear", texts.CLEAR_SELECTION, 110)
    found["empty"] = gr.Button(texts.EMPTY_TRASH_BUTTON, size="sm", visible=False, elem_id="empty-trash")
    with gr.Row(visible=False, elem_classes="bulk") as found["ask"]:
        found["question"] = gr.HTML(elem_classes="grow")
        button("confirm", texts.CONFIRM_EMPTY, 130, variant="stop")
        button("keep", texts.KEEP, 110)
    return found


def _script(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
