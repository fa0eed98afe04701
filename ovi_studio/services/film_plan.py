"""What has to be made for a film: a request for each shot, through the same functions as every other request."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from ovi_studio.core.errors import JobError
from ovi_studio.core.prompt_patterns import escape_prompt
from ovi_studio.core.requests import Context, Expansion, Request, SeedMode, expand_request
from ovi_studio.core.spec import ClipSpec, merge_settings
from ovi_studio.core.variants import Variant
from ovi_studio.film.prompts import compose_shot
from ovi_studio.film.script import Film, FromPicture, FromShot, Shot
from ovi_studio.media.pictures import read_recent
from ovi_studio.queue.films import WantedShot
from ovi_studio.services.preset_offers import chosen_variant
from ovi_studio.services.presets import Preset
from ovi_studio.takes.check import check_can_listen

if TYPE_CHECKING:
    from ovi_studio.services.studio import Studio


@dataclass(frozen=True)
class FilmPlan:
    """A film with its model, and what its shots need."""

    film: Film
    shots: tuple[WantedShot, ...]
    """Each after the one that it continues."""
    remarks: tuple[str, ...]
    """Warnings about prompts and notes about pictures, which prevent nothing."""


def plan_film(film: Film, studio: "Studio", variant: str = "") -> FilmPlan:
    """Work out the clips of a film; raises `JobError` that names the shot if one cannot be made here.

    Args:
        variant: the model to use if neither the film nor its preset names one; empty: the best one that is complete.
    """
    preset = studio.presets.get(film.look.preset) if film.look.preset else None
    named = film.look.variant or (preset.settings.get("variant", "") if preset else "")
    chosen = named or variant or chosen_variant(preset, studio.checkpoint_directory)
    film = replace(film, look=replace(film.look, variant=chosen))
    planner = _Planner(film, studio, preset, studio.variant(chosen))
    parents = film.parents()
    shots, remarks = [], list[str]()
    for shot in film.in_making_order():
        try:
            if shot.takes.word_errors is not None:
                check_can_listen(film.listener, studio.checkpoint_directory)
            clips = planner.clips(shot)
            specs = studio.prepared(clips.specs)
        except JobError as error:
            raise JobError(f"{film.label(shot)}: {error}") from error
        shots.append(WantedShot(shot.id, tuple(specs), planner.draws(shot), parents[shot.id], shot.takes.word_errors))
        remarks += [f"{film.label(shot)}: {remark}" for remark in (*map(str, clips.warnings), *clips.notes)]
    return FilmPlan(film, tuple(shots), tuple(dict.fromkeys(remarks)))


class _Planner:
    def __init__(self, film: Film, studio: "Studio", preset: Preset | None, variant: Variant) -> None:
        self._film, self._studio, self._preset, self._variant = film, studio, preset, variant
        self._context = Context(cache(studio.variant), _picture_notes)

    def draws(self, shot: Shot) -> bool:
        """Whether the seeds of a shot are random."""
        return not shot.takes.seeds and self._film.look.seed_mode is SeedMode.RANDOM

    def clips(self, shot: Shot) -> Expansion:
        """The clips of a shot, one for each take."""
        variant = self._variant_for(shot)
        if self._preset is not None:
            self._preset.check(variant.name)
        found = [expand_request(request, self._context) for request in self._requests(shot, variant)]
        specs = tuple(spec for one in found for spec in one.specs)
        return Expansion(specs, found[0].warnings, notes=found[0].notes)

    def _requests(self, shot: Shot, variant: Variant) -> Iterator[Request]:
        look = self._film.look
        values: Mapping[str, Any] = merge_settings(
            self._preset.settings if self._preset else {},
            {
                "variant": variant.name,
                "prompt": escape_prompt(compose_shot(self._film, shot).text(variant.audio_tag)),
                "image": shot.begin.path if isinstance(shot.begin, FromPicture) else None,
            },
        )
        # With a first frame, the clip has its size.
        ratio = None if isinstance(shot.begin, FromShot) else look.ratio or None
        if shot.takes.seeds:
            for seed in shot.takes.seeds:
                yield Request({**values, "seed": seed}, ratio, SeedMode.FIXED)
        else:
            number = self._film.shots.index(shot) if look.seed_mode is SeedMode.NEXT else 0
            seed_of_shot = {} if look.seed is None else {"seed": look.seed + number}
            yield Request({**values, **seed_of_shot}, ratio, look.seed_mode, shot.takes.count)

    def _variant_for(self, shot: Shot) -> Variant:
        """The model that makes clips of the shot's length and of the film's size."""
        if shot.seconds in (None, round(self._variant.seconds)):
            return self._variant
        area = self._variant.pixel_area
        alike = [self._variant, *(other for other in self._studio.variants() if other.pixel_area == area)]
        for other in alike:
            if round(other.seconds) == shot.seconds:
                return other
        lengths = " or ".join(f"{seconds} s" for seconds in sorted({round(other.seconds) for other in alike}))
        raise JobError(
            f"it is to last {shot.seconds} s, but the models here that fit {self._variant.name} make clips of "
            f"{lengths}; choose that, or download another model."
        )


def _picture_notes(spec: ClipSpec) -> tuple[str, ...]:
    # Read each time: the page runs for weeks, and the file may be another one by then.
    return () if spec.image is None else read_recent(spec.image, raw_colours=spec.raw_colours).notes


def another_take(specs: tuple[ClipSpec, ...], seeds: list[int]) -> tuple[ClipSpec, ...]:
    """The clips of a shot once more, with other seeds."""
    return tuple(replace(specs[0], seed=seed) for seed in seeds)
