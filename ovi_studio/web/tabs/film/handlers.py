"""Event handlers of the Film tab; each returns updates for its components."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.film.film_yaml import format_shot
from ovi_studio.film.script import Takes
from ovi_studio.services.films import QueuedFilm
from ovi_studio.services.studio import Studio
from ovi_studio.web.film_api import FilmCalls
from ovi_studio.web.tabs.film import texts, views
from ovi_studio.web.toasts import Toasts
from ovi_studio.web.uploads import is_upload

Seen = tuple[int, int]
"""The change counter and the film that the page already shows."""
_MAX_ROWS = 50


class FilmHandlers:
    """The functions behind the components of the tab."""

    def __init__(self, studio: Studio, toasts: Toasts, calls: FilmCalls) -> None:
        self._studio, self._films, self._toasts, self._calls = studio, studio.films, toasts, calls

    def refresh(self, seen: Seen, film: int | None) -> Any:
        """Return updates for `FilmComponents.shown`, or none if nothing changed."""
        if (self._studio.store.change_counter(), film or 0) == seen:
            return gr.skip()
        return self._shown(film, answers_choice=False)

    def choose_film(self, film: int | None) -> Any:
        """Show another film."""
        return self._shown(film)

    def act(self, event: gr.EventData, film: int | None) -> Any:
        """Handle an action on a card."""
        data = event._data if isinstance(event._data, dict) else {}
        action, shot = str(data.get("action")), str(data.get("shot"))
        acts: dict[str, Callable[[], QueuedFilm]] = {
            "choose": lambda: self._films.choose(film or 0, shot, _number(data.get("take"))),
            "again": lambda: self._films.again(film or 0, shot),
            "move": lambda: self._films.move_shot(film or 0, shot, _number(data.get("position"))),
            "edit": lambda: self._edit(film or 0, shot, data),
        }
        if action not in acts:
            return gr.skip()
        try:
            toast = self._toasts.note(_said(acts[action]()))
        except JobError as error:
            toast = self._toasts.note(str(error), failed=True)
        return *self._shown(film, answers_choice=False), toast

    def queue(self, text: str, film: int | None) -> Any:
        """Queue the film in a text, and show it."""
        try:
            done = self._films.queue(self._films.read_text(text, texts.UNTITLED))
            film, toast, text = done.film, self._toasts.note(_said(done)), ""
        except JobError as error:
            toast = self._toasts.note(str(error), failed=True)
        return *self._shown(film), toast, text

    def join(self, film: int | None) -> Any:
        """Join the chosen takes; returns the file and a toast."""
        try:
            return gr.File(self._calls.film_export(film), visible=True), gr.skip()
        except gr.Error as error:
            return gr.skip(), self._toasts.note(str(error.message), failed=True)

    def _shown(self, film: int | None, *, answers_choice: bool = True) -> tuple[Any, ...]:
        counter = self._studio.store.change_counter()
        films = self._films.all()
        known = [one.id for one in films]
        chosen = film if film in known else known[0] if known else None
        status = None if chosen is None else self._films.status(chosen)
        choices = [(f"{one.title} ({one.id})", one.id) for one in films]
        # An answer that comes late must not choose the film of before again; the next one shows the one that is chosen.
        choice = {"value": chosen} if answers_choice or chosen != film else {}
        ready = status is not None and status.done == len(status.shots)
        return (
            gr.Dropdown(choices, interactive=bool(choices), **choice),
            views.summary_html(status),
            views.storyboard(status),
            gr.Button(interactive=status is not None and status.done > 0),
            gr.Button(interactive=ready),
            (counter, chosen or 0),
        )

    def _edit(self, film: int, shot: str, data: dict[str, Any]) -> QueuedFilm:
        given = data.get("values")
        values = {str(name): str(text) for name, text in given.items()} if isinstance(given, dict) else {}
        picture = values.get("picture")
        if picture and not is_upload(self._toasts.component, picture):
            raise JobError(texts.NO_UPLOAD)
        changes = self._changes(film, shot, values)
        return self._films.edit_shot(film, shot, changes, Path(picture) if picture else None)

    def _changes(self, film: int, shot: str, values: Mapping[str, str]) -> dict[str, Any]:
        """The entries that a form changed; rows of speech keep everything but what is said."""
        before = self._films.get(film).shot(shot)
        rows = format_shot(before).get("speech", [])
        speech = [{**row, "said": values.get(f"said-{number}", row["said"])} for number, row in enumerate(rows)]
        changed: dict[str, Any] = {name: values[name] for name in ("prompt", "sound") if name in values}
        changed |= _changed_takes(before.takes, values)
        changed |= {"begin": None} if values.get("cut") else {}
        # A row that was emptied is one that nobody says any more.
        return changed | {"speech": [row for row in speech if row["said"].strip()][:_MAX_ROWS]}


def _changed_takes(takes: Takes, values: Mapping[str, str]) -> dict[str, Any]:
    """The entry `takes` if the form changed it; seeds stay as long as their number does."""
    stored = "" if takes.word_errors is None else f"{100 * takes.word_errors:.0f}"
    count, percent = values.get("takes", str(takes.count)), values.get("percent", stored).strip()
    if (count, percent) == (str(takes.count), stored):
        return {}
    number: dict[str, Any] = {"at_most" if percent else "count": count}
    if takes.seeds and count == str(takes.count):
        number = {"seeds": list(takes.seeds)}
    return {"takes": number | ({"until_word_error_rate": _rate(percent)} if percent else {})}


def _rate(percent: str) -> float:
    if not (percent.isascii() and percent.isdecimal()):
        raise JobError(texts.NO_PERCENTAGE)
    return int(percent[:9]) / 100


def _said(done: QueuedFilm) -> str:
    return " ".join([texts.queued(len(done.jobs)), *done.remarks[:2]])


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise JobError(texts.NO_NUMBER)
    return value
