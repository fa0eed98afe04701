"""The API of films: queueing, takes, changes, and the joined film. Documented in `docs/api.md`."""

import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.film.export import export_film
from ovi_studio.film.film_yaml import format_film, format_shot, parse_film
from ovi_studio.film.fountain import MAX_CHARACTERS
from ovi_studio.film.script import MAX_NAME, Film, FromPicture, Shot
from ovi_studio.media.small_files import slug
from ovi_studio.services.films import QueuedFilm, ShotStatus, TakeStatus
from ovi_studio.services.studio import Studio
from ovi_studio.web.api_values import as_sent, mapping, sentences, whole
from ovi_studio.web.public_text import without_folders
from ovi_studio.web.uploads import shown_copy, uploads_only

MAX_LISTED = 1000


def build_film_api(studio: Studio) -> None:
    """Add the endpoints `/film_...` to the current `gr.Blocks`."""
    calls = FilmCalls(studio)
    with gr.Column(visible=False):
        film = gr.JSON({}, label="A film, as in film.yaml")
        screenplay = gr.Textbox("", label="Or a screenplay in Fountain form", max_length=MAX_CHARACTERS)
        title = gr.Textbox("", label="Title of a screenplay that has none", max_length=MAX_NAME)
        number = gr.Number(0, label="Film", precision=0)
        shot = gr.Textbox("", label="Id of a shot", max_length=MAX_NAME)
        take = gr.Number(1, label="Number of a take", precision=0)
        count = gr.Number(1, label="How many takes", precision=0)
        position = gr.Number(1, label="The shot's new place, from 1", precision=0)
        values = gr.JSON({}, label="Entries of a shot to change, as in film.yaml")
        picture = gr.File(None, label="The first frame of the shot", type="filepath")
        uploads_only(picture, "first frame")
        priority = gr.Number(0, label="Priority; higher ones run first", precision=0)
        for one in (number, take, count, position, priority):
            one.preprocess = as_sent
        answer, file = gr.JSON(label="Answer"), gr.File(label="Film")
        calls.file = file
        endpoints: list[tuple[Callable[..., Any], list[Any], Any]] = [
            (calls.film_queue, [film, screenplay, title, priority], answer),
            (calls.film_list, [], answer),
            (calls.film_status, [number], answer),
            (calls.film_edit, [number, shot, values, picture], answer),
            (calls.film_move, [number, shot, position], answer),
            (calls.film_choose, [number, shot, take], answer),
            (calls.film_again, [number, shot, count], answer),
            (calls.film_delete, [number], answer),
            (calls.film_export, [number], file),
        ]
        for call, inputs, output in endpoints:
            gr.Button().click(
                call, inputs, output, api_name=call.__name__, concurrency_limit=None, show_progress="hidden"
            )


class FilmCalls:
    """The functions behind the endpoints. Clients see a `gr.Error` as an exception."""

    def __init__(self, studio: Studio) -> None:
        self._films = studio.films
        self._joining = threading.Lock()
        self.file: gr.File | None = None

    def film_queue(
        self, film: Any = None, screenplay: str = "", title: str = "", priority: float | None = 0
    ) -> dict[str, Any]:
        """Queue a film, given as an object like `film.yaml` or as a screenplay in Fountain form.

        Returns its number, the ids of its jobs, and remarks about prompts.
        """
        with sentences():
            if bool(film) == bool(screenplay):
                raise JobError("Pass a film or a screenplay, and not both.")
            found = self._films.read_text(screenplay, title or "Untitled") if screenplay else parse_film(film, None)
            return _queued(self._films.queue(found, priority=whole("priority", priority, 0)))

    def film_list(self) -> list[dict[str, Any]]:
        """List the films, the latest first."""
        with sentences():
            return [{"film": one.id, "title": one.title} for one in self._films.all()[:MAX_LISTED]]

    def film_status(self, film: float | None) -> dict[str, Any]:
        """Describe a film: its data, and each shot with its takes."""
        with sentences():
            status = self._films.status(_number(film))
            shots = [_shot_facts(shot) for shot in status.shots]
            return {"film": _film_facts(status.film), "done": status.done, "shots": shots}

    def film_edit(
        self, film: float | None, shot: str, values: Any = None, picture: str | None = None
    ) -> dict[str, Any]:
        """Change entries of a shot, or its first frame; it is made again, with those that continue it."""
        with sentences():
            first_frame = Path(picture) if picture else None
            return _queued(self._films.edit_shot(_number(film), shot, mapping(values), first_frame))

    def film_move(self, film: float | None, shot: str, position: float | None) -> dict[str, Any]:
        """Move a shot to another place, from 1."""
        with sentences():
            return _queued(self._films.move_shot(_number(film), shot, whole("position", position, 1) - 1))

    def film_choose(self, film: float | None, shot: str, take: float | None) -> dict[str, Any]:
        """Put a take into the film; shots that continue it are made, unless they were before."""
        with sentences():
            return _queued(self._films.choose(_number(film), shot, whole("take", take, 1)))

    def film_again(self, film: float | None, shot: str, count: float | None = 1) -> dict[str, Any]:
        """Make more takes of a shot, with new seeds; the first of them is chosen."""
        with sentences():
            return _queued(self._films.again(_number(film), shot, whole("count", count, 1)))

    def film_delete(self, film: float | None) -> dict[str, Any]:
        """Forget a film; its jobs and clips stay."""
        with sentences():
            self._films.delete(_number(film))
            return {}

    def film_export(self, film: float | None) -> str:
        """Join the chosen takes; returns the film as an mp4 file."""
        with sentences(), self._joining, tempfile.TemporaryDirectory() as folder:
            cut = self._films.cut_list(_number(film))
            path = export_film(cut, Path(folder) / f"{slug(cut.title) or 'film'}.mp4")
            return shown_copy(self.file, path)


def _number(film: Any) -> int:
    number = whole("film", film, 0)
    if number <= 0:
        raise JobError("Pass the number of a film, from /film_queue or /film_list.")
    return number


def _queued(done: QueuedFilm) -> dict[str, Any]:
    return {"film": done.film, "jobs": list(done.jobs), "remarks": list(done.remarks[:MAX_LISTED])}


def _film_facts(film: Film) -> dict[str, Any]:
    """The film as in its file, without any path of this machine."""
    return {**format_film(film), "shots": [_without_folder(shot) for shot in film.shots]}


def _without_folder(shot: Shot) -> dict[str, Any]:
    entry = format_shot(shot)
    return entry | {"begin": {"picture": shot.begin.path.name}} if isinstance(shot.begin, FromPicture) else entry


def _shot_facts(status: ShotStatus) -> dict[str, Any]:
    takes = [_take_facts(take) for take in status.takes]
    return {"id": status.shot.id, "continues": status.continues, "takes": takes}


def _take_facts(take: TakeStatus) -> dict[str, Any]:
    return {
        "number": take.number,
        "job": take.job,
        "seed": take.seed,
        "state": take.state,
        "message": without_folders(take.message),
        "clip": None if take.clip is None else take.clip.name,
        "chosen": take.chosen,
        "scores": _public_scores(take.scores),
    }


def _public_scores(scores: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The scores without this machine's folders."""
    if scores is None:
        return None
    return {**scores, **({"error": without_folders(scores["error"])} if "error" in scores else {})}
