"""`film.yaml`: reading and writing a film. What is written is read back equal.

    title: The lighthouse
    look: {variant: 960x960_5s, preset: balanced, ratio: "16:9", seed: 7, seeds: fixed}
    characters:
      Mara: {looks: a woman of sixty in a yellow raincoat, voice: "a low, hoarse voice"}
    places:
      stairs: The narrow stairs of an old lighthouse, lit by a lamp.
    shots:
      - prompt: Mara climbs the stairs.
        place: stairs
        sound: Rain, steps on stone.
      - id: lamp
        prompt: She stops and looks up.
        place: stairs
        characters: [Mara]
        speech: [{who: Mara, how: whispers, said: It is still burning.}]
        begin: previous                     # or cut, {shot: lamp}, {picture: lamp.png}
        seconds: 5
        takes: 3                            # or {seeds: [1, 2, 3]}, {at_most: 5, until_word_error_rate: 0.2}
        transition: {cross_fade: 500}       # milliseconds; or cut

The same structure as JSON is what the API takes. Every entry but the title and the shots is optional.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ovi_studio.core.errors import JobError
from ovi_studio.core.requests import SeedMode
from ovi_studio.film.cut import MAX_SHOTS
from ovi_studio.film.script import (
    Begin,
    Character,
    Cut,
    Film,
    FromPicture,
    FromShot,
    Look,
    Shot,
    SpeechRow,
    Takes,
)
from ovi_studio.media.small_files import read_yaml, write_yaml
from ovi_studio.takes.listeners import LISTENERS

_FILM = ("title", "look", "characters", "places", "listener", "shots")
_LOOK = ("variant", "preset", "ratio", "seed", "seeds")
_CHARACTER = ("looks", "voice")
_SHOT = ("id", "prompt", "place", "characters", "speech", "sound", "seconds", "begin", "takes", "transition")
_UNTIL = "until_word_error_rate"
_TAKES = ("count", "seeds", "at_most", _UNTIL)
_SPEECH = ("who", "how", "said", "seen")
_CUT, _PREVIOUS = "cut", "previous"
_BEGINS = "`cut`, `previous`, `{shot: id}` or `{picture: file}`"
_FLAGS = {"true": True, "yes": True, "false": False, "no": False}


def read_film(path: Path) -> Film:
    """The film in a file; pictures are named relative to its folder. Raises `JobError` that names the file."""
    content = read_yaml(path)  # names the file itself
    try:
        return parse_film(content, path.absolute().parent)
    except JobError as error:
        raise JobError(f"{path.name}: {error}") from error


def write_film(film: Film, path: Path) -> None:
    """Write a film to a file; pictures in its folder are named relative to that. Raises `JobError`."""
    write_yaml(path, format_film(film, path.absolute().parent))


def parse_film(given: Any, folder: Path | None) -> Film:
    """A film from the content of a file or from JSON; raises `JobError`.

    Args:
        folder: of the pictures; None refuses them, and a listener's folder, since a client must not name files of this
            machine.
    """
    values = _mapping(given, "The film", _FILM)
    shots = _list(values.get("shots"), "The shots")
    if len(shots) > MAX_SHOTS:
        raise JobError(f"The film has {len(shots)} shots; make several films of at most {MAX_SHOTS}.")
    return Film(
        title=_text(values.get("title"), "The title"),
        shots=tuple(_parse_shot(shot, number, folder) for number, shot in enumerate(shots, 1)),
        look=_parse_look(values.get("look")),
        characters=tuple(_parse_character(*entry) for entry in _names(values.get("characters"), "The characters")),
        places={name: _text(looks, f"The place {name}") for name, looks in _names(values.get("places"), "The places")},
        listener=_parse_listener(values.get("listener"), folder),
    )


def format_film(film: Film, folder: Path | None = None) -> dict[str, Any]:
    """The inverse of `parse_film`, without what is as it would be anyway."""
    numbered = all(shot.id == str(number) for number, shot in enumerate(film.shots, 1))
    look = film.look
    found: dict[str, Any] = {
        "title": film.title,
        "look": _given(
            variant=look.variant,
            preset=look.preset,
            ratio=look.ratio,
            seed=look.seed,
            seeds=None if look.seed_mode is SeedMode.RANDOM else str(look.seed_mode),
        ),
        "characters": {one.name: _given(looks=one.looks, voice=one.voice) for one in film.characters},
        "places": dict(film.places),
        "listener": film.listener,
        "shots": [format_shot(shot, folder, numbered=numbered) for shot in film.shots],
    }
    return _given(**found)


def format_shot(shot: Shot, folder: Path | None = None, *, numbered: bool = False) -> dict[str, Any]:
    """A shot as an entry of a film; `numbered` leaves out its id, which is its place in the film."""
    return _given(
        id=None if numbered else shot.id,
        prompt=shot.prompt,
        place=shot.place,
        characters=list(shot.characters),
        speech=[
            _given(who=row.who, how=row.how, said=row.said, seen=None if row.seen else "no") for row in shot.speech
        ],
        sound=shot.sound,
        seconds=shot.seconds,
        begin=_format_begin(shot.begin, folder),
        takes=_format_takes(shot.takes),
        transition={"cross_fade": shot.fade_ms} if shot.fade_ms else None,
    )


def _parse_look(given: Any) -> Look:
    values = _mapping(given or {}, "The look", _LOOK)
    seed = None if (number := values.get("seed")) in (None, "") else _whole(number, "the look's seed")
    rule = _text(values.get("seeds"), "The look's seeds") or ("random" if seed is None else "fixed")
    if rule not in [*SeedMode]:
        raise JobError(f"The look's seeds are {rule!r}; choose one of {', '.join(SeedMode)}.")
    texts = {name: _text(values.get(name), f"The look's {name}") for name in ("variant", "preset", "ratio")}
    return Look(**texts, seed=seed, seed_mode=SeedMode(rule))


def _parse_listener(given: Any, folder: Path | None) -> str:
    name = _text(given, "The listener")
    if folder is None and name not in ("", *LISTENERS):
        raise JobError(f"The listener {name[:40]!r} cannot be named here; choose one of {', '.join(LISTENERS)}.")
    return name


def _parse_character(name: str, given: Any) -> Character:
    if isinstance(given, str):
        given = {"looks": given}
    values = _mapping(given or {}, f"The character {name}", _CHARACTER)
    return Character(name, **{key: _text(values.get(key), f"The {key} of {name}") for key in _CHARACTER})


def _parse_shot(given: Any, number: int, folder: Path | None) -> Shot:
    what = f"Shot {number}"
    values = _mapping({"prompt": given} if isinstance(given, str) else given, what, _SHOT)
    text = {name: _text(values.get(name), f"{what}: its {name}") for name in ("id", "prompt", "place", "sound")}
    people = values.get("characters") or []
    seconds = values.get("seconds")
    return Shot(
        id=text["id"] or str(number),
        prompt=text["prompt"],
        place=text["place"],
        characters=tuple(_text(name, f"{what}: a character") for name in _list(people, f"{what}: its characters")),
        speech=tuple(_parse_row(row, what) for row in _list(values.get("speech") or [], f"{what}: its speech")),
        sound=text["sound"],
        seconds=None if seconds in (None, "") else _whole(seconds, f"{what}: its seconds"),
        begin=_parse_begin(values.get("begin"), what, folder),
        takes=_parse_takes(values.get("takes"), what),
        fade_ms=_parse_transition(values.get("transition"), what),
    )


def _parse_row(given: Any, what: str) -> SpeechRow:
    values = _mapping({"said": given} if isinstance(given, str) else given, f"{what}: a row of speech", _SPEECH)
    seen = values.get("seen")
    if not isinstance(seen, bool | None):
        seen = _FLAGS.get(_text(seen, f"{what}: `seen`").lower())
        if seen is None:
            raise JobError(f"{what}: `seen` must be yes or no.")
    texts = {name: _text(values.get(name), f"{what}: `{name}` of its speech") for name in ("said", "who", "how")}
    return SpeechRow(**texts, seen=True if seen is None else seen)


def _parse_begin(given: Any, what: str, folder: Path | None) -> Begin:
    if given in (None, "", _CUT):
        return Cut()
    if given == _PREVIOUS:
        return FromShot()
    if not isinstance(given, Mapping) or len(given) != 1 or next(iter(given)) not in ("shot", "picture"):
        raise JobError(f"{what}: it must begin with {_BEGINS}.")
    ((kind, value),) = given.items()
    name = _text(value, f"{what}: its {kind}")
    if not name:
        raise JobError(f"{what}: the {kind} that it begins with has no name; write {_BEGINS}.")
    if kind == "shot":
        return FromShot(name)
    if folder is None:
        raise JobError(
            f"{what}: a picture cannot be named here; begin with a cut, and give the shot its picture later."
        )
    return FromPicture(Path(os.path.normpath(folder / name)))


def _parse_takes(given: Any, what: str) -> Takes:
    if given in (None, ""):
        return Takes()
    if not isinstance(given, Mapping):
        return Takes(_whole(given, f"{what}: its takes"))
    values = _mapping(given, f"{what}: its takes", _TAKES)
    seeds = tuple(_whole(seed, f"{what}: a seed") for seed in _list(values.get("seeds") or [], f"{what}: its seeds"))
    errors = values.get(_UNTIL)
    name = "count" if errors in (None, "") else "at_most"
    if wrong := {"count", "at_most"} & values.keys() - {name}:
        raise JobError(
            f"{what}: its takes have `{wrong.pop()}`; write `{name}`, since they "
            f"{'are all made' if name == 'count' else f'end with `{_UNTIL}`'}."
        )
    count = values.get(name)
    return Takes(
        (len(seeds) or 1) if count in (None, "") else _whole(count, f"{what}: its takes"),
        seeds,
        None if errors in (None, "") else _number(errors, f"{what}: its word error rate"),
    )


def _parse_transition(given: Any, what: str) -> int:
    if given in (None, "", _CUT):
        return 0
    values = given if isinstance(given, Mapping) else {}
    if set(values) != {"cross_fade"}:
        raise JobError(f"{what}: its transition must be `cut` or `{{cross_fade: milliseconds}}`.")
    return _whole(values["cross_fade"], f"{what}: its cross-fade")


def _format_begin(begin: Begin, folder: Path | None) -> Any:
    match begin:
        case FromPicture(path):
            inside = folder is not None and path.is_relative_to(folder)
            return {"picture": (path.relative_to(folder) if folder is not None and inside else path).as_posix()}
        case FromShot(None):
            return _PREVIOUS
        case FromShot(shot):
            return {"shot": shot}
    return None


def _format_takes(takes: Takes) -> Any:
    if takes.word_errors is not None:
        count = {"seeds": list(takes.seeds)} if takes.seeds else {"at_most": takes.count}
        return {**count, _UNTIL: takes.word_errors}
    if takes.seeds:
        return {"seeds": list(takes.seeds)}
    return None if takes.count == 1 else takes.count


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "", [], {})}


def _mapping(given: Any, what: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise JobError(f"{what} must consist of lines `name: value`.")
    if unknown := [str(name)[:40] for name in given if name not in known]:
        raise JobError(f"{what} has the unknown entry {', '.join(unknown[:5])}; valid ones are {', '.join(known)}.")
    return given


def _names(given: Any, what: str) -> list[tuple[str, Any]]:
    if given in (None, ""):
        return []
    if not isinstance(given, Mapping):
        raise JobError(f"{what} must consist of lines `name: ...`.")
    return [(_text(name, what), value) for name, value in given.items()]


def _list(given: Any, what: str) -> list[Any]:
    if given in (None, ""):
        return []
    if not isinstance(given, list):
        raise JobError(f"{what} must be a list, each entry of which starts with `-`.")
    return given


def _text(given: Any, what: str) -> str:
    """A text with its white space collapsed; empty if nothing is given."""
    if given is None:
        return ""
    if not isinstance(given, str):
        raise JobError(f"{what} must be a text.")
    try:
        given.encode()
    except UnicodeEncodeError:  # JSON can contain lone surrogates, which cannot be stored
        raise JobError(f"{what} has a character that is not valid; write it again.") from None
    return " ".join(given.split())


def _number(given: Any, what: str) -> float:
    try:
        if isinstance(given, bool) or not math.isfinite(number := float(given)):
            raise ValueError
        return number
    except (TypeError, ValueError, OverflowError):
        raise JobError(f"{what} must be a number, not {str(given)[:20]!r}.") from None


def _whole(given: Any, what: str) -> int:
    try:
        if isinstance(given, bool) or (isinstance(given, float) and not given.is_integer()):
            raise ValueError
        return int(given)
    except (TypeError, ValueError, OverflowError):
        raise JobError(f"{what} must be a whole number, not {str(given)[:20]!r}.") from None
