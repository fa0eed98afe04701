"""`export_film`: the shots of a film as one mp4 with chapters, and the recipe of every shot inside.

Frames and sound stream through: no more than two frames, and the sound of two shots, are in memory, however long the
film is.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ovi_studio import __version__
from ovi_studio.core.errors import JobError
from ovi_studio.film.cut import CutList, Placed, lay_out, sample_at
from ovi_studio.film.film_file import Chapter, FilmFile
from ovi_studio.film.levels import LOUDNESS
from ovi_studio.film.pictures import film_frames, inspect_clips
from ovi_studio.film.sound import mix_sound
from ovi_studio.media.clip_files import APP, check_writable, read_cover, read_record
from ovi_studio.media.recipe_copies import MAX_RECORD_BYTES, recipe_box
from ovi_studio.media.score_box import read_scores
from ovi_studio.media.shot_copies import ShotCopy
from ovi_studio.media.small_files import folder_errors
from ovi_studio.media.soundtrack import read_samples
from ovi_studio.media.xmp_mark import mark_box


@dataclass(frozen=True)
class FilmProgress:
    """How much of a film is written."""

    frames: int
    total: int


def export_film(
    cut: CutList,
    target: Path,
    *,
    loudness: float = LOUDNESS,
    replace: bool = False,
    on_progress: Callable[[FilmProgress], None] | None = None,
) -> Path:
    """Join the shots of a film into the mp4 `target`; returns its path.

    Raises `JobError` if a shot does not fit or cannot be read, a package is missing or the folder cannot be written.
    What `on_progress` raises, such as `Stopped`, ends the export. Nothing half-written stays, and an older file stays
    as it was until the new one is complete.

    Args:
        loudness: LUFS of every shot.
        replace: write over a file of this name.
        on_progress: called after every frame.
    """
    _check_target(cut, target, replace)
    shapes = inspect_clips(cut)
    placed = lay_out(cut, [shape.frames for shape in shapes])
    shots = [_shot_copy(here, number) for number, here in enumerate(placed, 1)]
    record = _film_record(cut, placed)
    total = placed[-1].end
    sound = mix_sound(placed, lambda here: read_samples(here.shot.clip), loudness)
    check_writable(target.parent)
    with (
        folder_errors(target.parent),
        FilmFile(target, shapes[0].height, shapes[0].width, comment=record, chapters=_chapters(placed)) as film,
    ):
        written = 0
        for number, frame in enumerate(film_frames(placed), 1):
            # Just ahead of the picture, so that the file can be played as it is read.
            while written < sample_at(number):
                samples = next(sound)
                film.add_sound(samples)
                written += len(samples)
            film.add_frame(frame)
            if on_progress is not None:
                on_progress(FilmProgress(number, total))
        film.finish([mark_box(), recipe_box(record), *(shot.box() for shot in shots)])
    return target


def _check_target(cut: CutList, target: Path, replace: bool) -> None:
    if target.suffix.lower() != ".mp4":
        raise JobError(f"A film is an mp4 file; name it {target.with_suffix('.mp4').name} instead of {target.name}.")
    if target.exists() and not replace:
        raise JobError(f"{target} exists; choose another name, or say that it may be replaced.")
    if any(shot.clip.exists() and target.exists() and target.samefile(shot.clip) for shot in cut.shots):
        raise JobError(f"{target} is a shot of the film itself; choose another name for the film.")


def _film_record(cut: CutList, placed: list[Placed]) -> str:
    shots = [
        {"title": _title(here, number), "clip": here.shot.clip.name, "start": here.start, "frames": here.length}
        for number, here in enumerate(placed, 1)
    ]
    record = json.dumps({"app": APP, "version": __version__, "film": {"title": cut.title, "shots": shots}})
    if len(record) > MAX_RECORD_BYTES:
        raise JobError("The titles of the film and its shots are too long to be stored in it; shorten them.")
    return record


def _chapters(placed: list[Placed]) -> list[Chapter]:
    """A chapter begins where its shot is first seen, and ends where the next one begins."""
    ends = [*(later.start for later in placed[1:]), placed[-1].end]
    return [
        Chapter(_title(here, number), here.start, end)
        for number, (here, end) in enumerate(zip(placed, ends, strict=True), 1)
    ]


def _title(here: Placed, number: int) -> str:
    return here.shot.title or f"Shot {number}"


def _shot_copy(here: Placed, number: int) -> ShotCopy:
    try:
        record, scores = read_record(here.shot.clip), read_scores(here.shot.clip)
    except JobError as error:
        raise JobError(f"Shot {number} cannot be used: {error}") from error
    recipe = record if scores is None else record | {"scores": scores}
    return ShotCopy(json.dumps(recipe).encode(), read_cover(here.shot.clip))
