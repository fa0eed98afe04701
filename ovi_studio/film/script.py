"""`Film`: what a film consists of, as data. Validated once, when it is made, and trusted afterwards.

A film is written as YAML (`film_yaml`), or read from a screenplay (`screenplay`) or a list of lines (`shot_list`). What
only a machine can say, such as whether it has a model that makes clips of a shot's length, is checked when the film is
queued.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ovi_studio.core.errors import JobError
from ovi_studio.core.prompt_spelling import find_tags
from ovi_studio.core.prompts import MAX_PROMPT_LENGTH
from ovi_studio.core.requests import SeedMode
from ovi_studio.core.spec import MAX_SEED
from ovi_studio.film.cut import MAX_FADE_MS, MAX_SHOTS

MAX_TAKES = 20
"""Takes of a shot."""
MAX_NAME = 60
"""Characters of a name or a title."""
_MAX_PEOPLE = 100
_MAX_ROWS = 50
_MAX_SECONDS = 600


@dataclass(frozen=True)
class Character:
    """Somebody in the film, as every prompt in which they appear describes them."""

    name: str
    looks: str = ""
    """Such as `a woman of sixty in a yellow raincoat`."""
    voice: str = ""
    """Such as `a low, hoarse voice`."""


@dataclass(frozen=True)
class SpeechRow:
    """What somebody says in a shot."""

    said: str
    who: str = ""
    """The name of a character; empty if `how` says who speaks."""
    how: str = ""
    """How the character says it, such as `whispers`; without one the whole introduction, such as `A man calls`."""
    seen: bool = True
    """Whether the speaker is in the picture."""


@dataclass(frozen=True)
class Cut:
    """The shot begins anew."""


@dataclass(frozen=True)
class FromPicture:
    """The shot's first frame is a picture."""

    path: Path


@dataclass(frozen=True)
class FromShot:
    """The shot's first frame is the last one of another shot."""

    shot: str | None = None
    """Its id; None is the shot before, whichever that is."""


Begin = Cut | FromPicture | FromShot


@dataclass(frozen=True)
class Takes:
    """How often a shot is made."""

    count: int = 1
    """At most, if `word_errors` is given."""
    seeds: tuple[int, ...] = ()
    """One for each take; empty: they follow from the film's rule."""
    word_errors: float | None = None
    """Takes are made one after another until the word error rate of one is at most this; None: all are made."""


@dataclass(frozen=True)
class Shot:
    """One clip of the film."""

    id: str
    """Stays the same when shots are moved or added."""
    prompt: str = ""
    """What is seen, without speech and sound."""
    place: str = ""
    """The name of one of the film's places."""
    characters: tuple[str, ...] = ()
    """Who is seen, apart from those who speak or are named in the prompt."""
    speech: tuple[SpeechRow, ...] = ()
    sound: str = ""
    """What is heard besides speech."""
    seconds: int | None = None
    """The clip's length, rounded; None: that of the film's model."""
    begin: Begin = Cut()
    takes: Takes = Takes()
    fade_ms: int = 0
    """Milliseconds of cross-fade from the shot before; 0 is a cut."""


@dataclass(frozen=True)
class Look:
    """What all shots have in common."""

    variant: str = ""
    """A model variant; empty: the best complete one that the preset is for."""
    preset: str = ""
    ratio: str = ""
    """An aspect ratio such as `16:9`; empty: the variant's own. A first frame has its own."""
    seed: int | None = None
    seed_mode: SeedMode = SeedMode.RANDOM
    """Random seeds, the same seed for each shot, or the next one for the next shot."""


@dataclass(frozen=True)
class Film:
    """A film. Raises `JobError` with one sentence that says what is wrong, where, and what to do."""

    title: str
    shots: tuple[Shot, ...]
    look: Look = Look()
    characters: tuple[Character, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    """Name -> what it looks like."""
    listener: str = ""
    """What listens whether the words are right (`takes.listeners`); empty: the best that is there."""

    def __post_init__(self) -> None:
        _check_name("The title", self.title)
        _check_look(self.look)
        _check_people(self)
        if not self.shots:
            raise JobError("The film has no shots; add one.")
        if len(self.shots) > MAX_SHOTS:
            raise JobError(f"The film has {len(self.shots)} shots; make several films of at most {MAX_SHOTS}.")
        for shot_id, count in Counter(shot.id for shot in self.shots).items():
            if count > 1:
                raise JobError(f"{count} shots have the id {shot_id!r}; give each its own.")
        for shot in self.shots:
            try:
                _check_shot(shot, self)
            except JobError as error:
                raise JobError(f"{self.label(shot)}: {error}") from error
        _check_rings(self)

    def label(self, shot: Shot) -> str:
        """What messages call a shot: its place in the film, and its id if that is another name."""
        number = self.shots.index(shot) + 1
        return f"Shot {number}" if shot.id == str(number) else f"Shot {number} ({shot.id})"

    def shot(self, shot_id: str) -> Shot:
        """A shot by its id; raises `JobError` if there is none."""
        for shot in self.shots:
            if shot.id == shot_id:
                return shot
        raise JobError(f"The film has no shot {shot_id[:MAX_NAME]!r}; choose one of {_listed(self)}.")

    def character(self, name: str) -> Character:
        """A character of the film by name."""
        return next(character for character in self.characters if character.name == name)

    def parents(self) -> dict[str, str | None]:
        """Shot id -> the id of the shot that it continues, if any."""
        found: dict[str, str | None] = {}
        before: str | None = None
        for shot in self.shots:
            found[shot.id] = (shot.begin.shot or before) if isinstance(shot.begin, FromShot) else None
            before = shot.id
        return found

    def in_making_order(self) -> list[Shot]:
        """The shots in the film's order, but each after the one that it continues."""
        parents, made = self.parents(), dict[str, Shot]()
        by_id = {shot.id: shot for shot in self.shots}
        for shot in self.shots:
            line: list[Shot] = []
            current: str | None = shot.id
            while current is not None and current not in made:
                line.append(by_id[current])
                current = parents[current]
            made |= {one.id: one for one in reversed(line)}
        return list(made.values())


def _check_look(look: Look) -> None:
    if look.seed is not None and look.seed_mode is SeedMode.RANDOM:
        raise JobError("The look has a seed, but its seeds are random; remove one of the two.")
    if look.seed is None and look.seed_mode is not SeedMode.RANDOM:
        raise JobError(f"The look's seeds are {look.seed_mode}, but it has no seed; add one, such as `seed: 7`.")
    if look.seed is not None:
        _check_seed(look.seed)


def _check_people(film: Film) -> None:
    for what, names in (("characters", [one.name for one in film.characters]), ("places", list(film.places))):
        if len(names) > _MAX_PEOPLE:
            raise JobError(f"The film has {len(names)} {what}; {_MAX_PEOPLE} are the most.")
        folded = Counter(name.casefold() for name in names)
        if twice := next((name for name in names if folded[name.casefold()] > 1), None):
            raise JobError(f"Two {what} are called {twice!r}; give each its own name.")
        for name in names:
            _check_name(f"The name of one of the {what}", name)
    for character in film.characters:
        _check_texts(
            {f"the looks of {character.name}": character.looks, f"the voice of {character.name}": character.voice}
        )
    _check_texts({f"the place {name}": text for name, text in film.places.items()})


def _check_shot(shot: Shot, film: Film) -> None:
    _check_name("its id", shot.id)
    if not shot.prompt and not shot.speech:
        raise JobError("it shows and says nothing; write a prompt.")
    if shot.place and shot.place not in film.places:
        raise JobError(f"unknown place {shot.place!r}; {_choose(film.places, 'places')}.")
    names = [character.name for character in film.characters]
    for name in (*shot.characters, *(row.who for row in shot.speech if row.who)):
        if name not in names:
            raise JobError(f"unknown character {name!r}; {_choose(names, 'characters')}.")
    if len(shot.speech) > _MAX_ROWS:
        raise JobError(f"it has {len(shot.speech)} rows of speech; split it.")
    if any(not row.said for row in shot.speech):
        raise JobError("one of its rows of speech is empty; write what is said, or remove the row.")
    texts = {"its prompt": shot.prompt, "its sound": shot.sound}
    for number, row in enumerate(shot.speech, 1):
        texts |= {f"speech {number}": row.said, f"the `how` of speech {number}": row.how}
    _check_texts(texts)
    if shot.seconds is not None and not 0 < shot.seconds <= _MAX_SECONDS:
        raise JobError(f"it is to last {shot.seconds} s; give the length of a model's clips, such as 5.")
    _check_takes(shot.takes)
    if shot.takes.word_errors is not None and not shot.speech:
        raise JobError("its takes are made until the words are right, but nobody speaks in it; add speech, or a count.")
    if not 0 <= shot.fade_ms <= MAX_FADE_MS:
        raise JobError(f"it fades in for {shot.fade_ms} ms; choose 0 to {MAX_FADE_MS}.")
    if shot == film.shots[0] and shot.fade_ms:
        raise JobError("there is no shot before it to fade from; let it begin with a cut.")
    _check_begin(shot, film)


def _check_begin(shot: Shot, film: Film) -> None:
    if not isinstance(shot.begin, FromShot):
        return
    if shot.begin.shot is None:
        if shot == film.shots[0]:
            raise JobError("there is no shot before it to continue; let it begin with a cut or a picture.")
    elif shot.begin.shot == shot.id:
        raise JobError("it continues from itself; name another shot, or let it begin with a cut.")
    elif shot.begin.shot not in [other.id for other in film.shots]:
        raise JobError(f"it continues the unknown shot {shot.begin.shot!r}; choose one of {_listed(film)}.")


def _check_rings(film: Film) -> None:
    parents, free = film.parents(), set[str]()
    for shot in film.shots:
        line: dict[str, None] = {}
        current: str | None = shot.id
        while current is not None and current not in free:
            if current in line:
                ring = [*line][[*line].index(current) :]
                names = ", ".join(ring[:10]) + (", …" if len(ring) > 10 else "")
                raise JobError(f"The shots {names} continue each other in a ring; let one of them begin with a cut.")
            line[current] = None
            current = parents[current]
        free |= line.keys()


def _check_takes(takes: Takes) -> None:
    if not 1 <= takes.count <= MAX_TAKES:
        raise JobError(f"it has {takes.count} takes; choose 1 to {MAX_TAKES}.")
    if takes.seeds and len(takes.seeds) != takes.count:
        raise JobError(f"it has {takes.count} takes, but {len(takes.seeds)} seeds; give one of the two.")
    if takes.word_errors is not None and not 0 <= takes.word_errors < 1:
        raise JobError(f"its word error rate is to be {takes.word_errors:g}; choose 0 (all words are right) to 0.99.")
    if len(set(takes.seeds)) < len(takes.seeds):
        raise JobError("two of its seeds are equal; give each take its own.")
    for seed in takes.seeds:
        _check_seed(seed)


def _check_seed(seed: int) -> None:
    if not 0 <= seed <= MAX_SEED:
        raise JobError(f"the seed {seed} is out of range; choose 0 to {MAX_SEED}.")


def _check_name(what: str, name: str) -> None:
    if not name:
        raise JobError(f"{what} is missing; add it.")
    if len(name) > MAX_NAME:
        raise JobError(f"{what} has {len(name)} characters; shorten it to {MAX_NAME}.")


def _check_texts(texts: Mapping[str, str]) -> None:
    for what, text in texts.items():
        if len(text) > MAX_PROMPT_LENGTH:
            raise JobError(f"{what} has {len(text)} characters; shorten it to {MAX_PROMPT_LENGTH}.")
        if tag := next(iter(find_tags(text)), None):
            raise JobError(
                f"{what} has the tag {tag.text!r}; write speech as rows of `speech`, and what is heard as `sound`."
            )


def _choose(names: Mapping[str, str] | list[str], what: str) -> str:
    if not names:
        return f"the film has no {what} yet: add it to them"
    return f"add it to the film's {what}, or choose one of {', '.join([*names][:20])}"


def _listed(film: Film) -> str:
    def shown() -> Iterator[str]:
        yield from (shot.id for shot in film.shots[:20])
        if len(film.shots) > 20:
            yield "…"

    return ", ".join(shown())
