"""`Films`: queueing films, choosing takes, changing shots, and what is needed to join them. Imports no torch.

Whatever changes a film also queues what is missing afterwards, and only that (`queue.films`). Methods may raise
`JobError` with advice; then nothing has changed.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovi_studio.core.errors import JobError
from ovi_studio.core.requests import draw_seeds
from ovi_studio.film.cut import CutList, CutShot, SpokenLine
from ovi_studio.film.film_yaml import format_film, format_shot, parse_film
from ovi_studio.film.reading import CLIP_SECONDS, FOUNTAIN, load_film
from ovi_studio.film.screenplay import read_screenplay
from ovi_studio.film.script import MAX_TAKES, Film, Shot
from ovi_studio.media.small_files import parse_yaml
from ovi_studio.queue.files import find_clip_of, keep_picture
from ovi_studio.queue.films import FilmStore, StoredFilm
from ovi_studio.queue.model import JobState
from ovi_studio.queue.pictures import adding_pictures
from ovi_studio.queue.takes import Take
from ovi_studio.services.film_plan import FilmPlan, another_take, plan_film

if TYPE_CHECKING:
    from ovi_studio.services.studio import Studio

_ROOT = Path("/")
"""Pictures of stored films have absolute paths."""
DELETED = "deleted"
"""State of a take whose clip is gone."""
_IS_DELETED = "This take was moved or deleted; put it back, or ask for another one."


@dataclass(frozen=True)
class ListedFilm:
    """A film in the list of all."""

    id: int
    title: str


@dataclass(frozen=True)
class QueuedFilm:
    """What queueing or changing a film led to."""

    film: int
    jobs: tuple[str, ...]
    """The new jobs."""
    retried: int
    """Failed and cancelled jobs that wait again."""
    remarks: tuple[str, ...]
    """Warnings about prompts and notes about pictures."""


@dataclass(frozen=True)
class TakeStatus:
    """A take, as it is now."""

    number: int
    job: str
    job_number: int | None
    """None if the job was deleted from the queue."""
    seed: int
    state: str
    """A `JobState`, `blocked` or `deleted`."""
    message: str
    """Why it waits or failed; may be empty."""
    clip: Path | None
    chosen: bool
    scores: Mapping[str, Any] | None = None
    """What was measured (`takes.check.TakeScores.to_dict`), or `error`; None: it was not checked yet."""


@dataclass(frozen=True)
class ShotStatus:
    """A shot with its takes."""

    shot: Shot
    label: str
    takes: tuple[TakeStatus, ...]
    continues: str | None
    """The id of the shot that it continues."""

    @property
    def chosen(self) -> TakeStatus:
        """The take that is in the film."""
        return next(take for take in self.takes if take.chosen)


@dataclass(frozen=True)
class FilmStatus:
    """A film, as far as it is made."""

    film: Film
    shots: tuple[ShotStatus, ...]

    @property
    def done(self) -> int:
        """The number of shots whose chosen take is made."""
        return sum(shot.chosen.clip is not None for shot in self.shots)


class Films:
    """The films of one studio. Thread-safe."""

    def __init__(self, studio: "Studio") -> None:
        self._studio = studio
        self._store = FilmStore(studio.store)

    def all(self) -> list[ListedFilm]:
        """All films, the latest first."""
        return [ListedFilm(stored.id, json.loads(stored.text)["title"]) for stored in self._store.films()]

    def get(self, film: int) -> Film:
        """The film as data."""
        return _film_of(self._store.get(film))

    def find(self, path: Path) -> int:
        """The number of the film that was queued from a file."""
        stored = self._store.find(_source(path))
        if stored is None:
            raise JobError(f"{path} is no film of this studio; queue it first: ovi-studio film {path}")
        return stored.id

    def read(self, path: Path) -> Film:
        """The film in a file; the dialogue of a screenplay is cut for the model that will make it."""
        return load_film(path, self._clip_seconds(path) if path.suffix.lower() in FOUNTAIN else CLIP_SECONDS)

    def read_text(self, text: str, title: str) -> Film:
        """The film in a text: film.yaml, or a screenplay, whose dialogue is cut for the best model here."""
        if re.search(r"^shots:", text, re.MULTILINE):
            return parse_film(parse_yaml(text, "film.yaml"), None)
        variants = self._studio.variants()
        return read_screenplay(text, title, variants[0].seconds if variants else CLIP_SECONDS)

    def queue_file(self, path: Path, *, priority: int = 0) -> QueuedFilm:
        """Queue the film in a file; if it was queued before, what has changed, is missing or has failed."""
        return self.queue(self.read(path), source=_source(path), priority=priority)

    def queue(self, film: Film, *, source: str | None = None, priority: int = 0) -> QueuedFilm:
        """Queue a film, all or nothing.

        Args:
            source: where it comes from; a film that came from there before is changed instead.
        """
        known = None if source is None else self._store.find(source)
        variant = "" if known is None else _film_of(known).look.variant
        plan = plan_film(film, self._studio, variant)
        return self._apply(plan, None if known is None else known.id, source, priority=priority, retry=True)

    def change(self, film: int, changed: Film) -> QueuedFilm:
        """Change a film; the shots that are no longer as they were are made again, with those that depend on them."""
        return self._apply(plan_film(changed, self._studio, self.get(film).look.variant), film)

    def edit_shot(self, film: int, shot: str, values: Mapping[str, Any], picture: Path | None = None) -> QueuedFilm:
        """Change entries of a shot, named as in `film.yaml`; None takes one back to what it is without being given.

        Args:
            picture: the shot's first frame from now on; a copy is kept as long as the film or a job uses it.
        """
        before = self.get(film)
        label = before.label(before.shot(shot))
        if isinstance(begin := values.get("begin"), Mapping) and "picture" in begin:
            # The values may come from a client, which must not name files of this machine.
            raise JobError(f"{label}: a picture cannot be named here; upload it, or name it in the film's file.")
        if picture is None:
            return self.change(film, _edited(before, shot, values))
        with adding_pictures(self._studio.paths):
            kept = self._kept(picture, label)
            return self.change(film, _edited(before, shot, {**values, "begin": {"picture": str(kept)}}))

    def move_shot(self, film: int, shot: str, position: int) -> QueuedFilm:
        """Move a shot to a place in the film, from 0."""
        before = self.get(film)
        moved = before.shot(shot)
        rest = [other for other in before.shots if other.id != shot]
        if not 0 <= position <= len(rest):
            raise JobError(f"The film has {len(before.shots)} shots; choose a place from 1 to {len(before.shots)}.")
        return self.change(film, replace(before, shots=(*rest[:position], moved, *rest[position:])))

    def choose(self, film: int, shot: str, take: int) -> QueuedFilm:
        """Put another take into the film; the shots that continue it are made again, unless that was done before."""
        before = self.get(film)
        before.shot(shot)
        plan = plan_film(before, self._studio)
        self._store.choose(film, shot, take)
        return self._apply(plan, film)

    def again(self, film: int, shot: str, count: int = 1) -> QueuedFilm:
        """Make more takes of a shot, with new seeds, and choose the first of them."""
        if not 1 <= count <= MAX_TAKES:
            raise JobError(f"Ask for 1 to {MAX_TAKES} takes, not {count}.")
        before = self.get(film)
        before.shot(shot)
        plan = plan_film(before, self._studio)
        shots = tuple(
            replace(wanted, specs=another_take(wanted.specs, draw_seeds(count))) if wanted.shot == shot else wanted
            for wanted in plan.shots
        )
        return self._apply(replace(plan, shots=shots), film, again=shot)

    def delete(self, film: int) -> None:
        """Forget a film; its jobs and clips stay."""
        self._store.delete(film)

    def status(self, film: int) -> FilmStatus:
        """Every shot of a film with its takes."""
        found = self.get(film)
        takes: dict[str, list[Take]] = {}
        for take in self._store.takes(film):
            takes.setdefault(take.shot, []).append(take)
        parents = found.parents()
        return FilmStatus(
            found,
            tuple(
                ShotStatus(shot, found.label(shot), tuple(map(self._status, takes[shot.id])), parents[shot.id])
                for shot in found.shots
            ),
        )

    def cut_list(self, film: int) -> CutList:
        """What the film is joined from; raises `JobError` if a shot is not made."""
        status = self.status(film)
        if missing := [shot for shot in status.shots if shot.chosen.clip is None]:
            what = "; ".join(f"{shot.label} ({shot.chosen.state})" for shot in missing[:5])
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise JobError(
                f"{len(missing)} of {len(status.shots)} shots have no clip: {what}{more}. Queue the film again if they "
                f"failed or were deleted, and wait until they are made."
            )
        before: str | None = None
        shots = []
        for number, one in enumerate(status.shots, 1):
            shots.append(_cut_shot(one, number, continues=one.continues is not None and one.continues == before))
            before = one.shot.id
        return CutList(status.film.title, tuple(shots))

    def _apply(
        self,
        plan: FilmPlan,
        film: int | None,
        source: str | None = None,
        *,
        again: str | None = None,
        priority: int = 0,
        retry: bool = False,
    ) -> QueuedFilm:
        text = json.dumps(format_film(plan.film), ensure_ascii=False)
        done = self._store.apply(
            plan.film.title, text, plan.shots, film=film, source=source, again=again, priority=priority
        )
        retried = self._studio.store.retry(done.wanted) if retry else 0
        return QueuedFilm(done.film, done.queued, retried, plan.remarks)

    def _kept(self, picture: Path, label: str) -> Path:
        try:
            return keep_picture(picture, self._studio.paths.pictures).absolute()
        except JobError as error:
            raise JobError(f"{label}: {error}") from error

    def _clip_seconds(self, path: Path) -> float:
        known = self._store.find(_source(path))
        variants = self._studio.variants()
        if known is not None:
            return self._studio.variant(_film_of(known).look.variant).seconds
        return variants[0].seconds if variants else CLIP_SECONDS

    def _status(self, take: Take) -> TakeStatus:
        try:
            job = self._studio.store.get(take.job)
        except JobError:
            clip = find_clip_of(self._studio.paths, take.job)
            state, message = (DELETED, _IS_DELETED) if clip is None else (str(JobState.DONE), "")
            return TakeStatus(take.number, take.job, None, take.seed, state, message, clip, take.chosen, take.scores)
        state, message, clip = str(job.state), job.error or "", job.clip
        if job.dependency is not None:
            state, message = ("blocked" if job.dependency.blocked else state), job.dependency.sentence
        if clip is not None and not clip.is_file():
            state, message, clip = DELETED, _IS_DELETED, None
        return TakeStatus(take.number, take.job, job.number, take.seed, state, message, clip, take.chosen, take.scores)


def _source(path: Path) -> str:
    return str(path.resolve())


def _film_of(stored: StoredFilm) -> Film:
    return parse_film(json.loads(stored.text), _ROOT)


def _edited(film: Film, shot: str, values: Mapping[str, Any]) -> Film:
    entries = [format_shot(one) if one.id != shot else {**format_shot(one), **values, "id": shot} for one in film.shots]
    return parse_film(format_film(film) | {"shots": entries}, _ROOT)


def _cut_shot(status: ShotStatus, number: int, *, continues: bool) -> CutShot:
    shot, clip = status.shot, status.chosen.clip
    assert clip is not None
    return CutShot(
        clip=clip,
        title="" if shot.id == str(number) else shot.id,
        speech=tuple(SpokenLine(row.who, row.said) for row in shot.speech),
        fade_ms=shot.fade_ms,
        continues=continues,
    )
