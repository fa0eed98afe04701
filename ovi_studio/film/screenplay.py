"""A film from a screenplay: its scenes become places, its paragraphs and dialogues shots.

Each paragraph of action begins a shot, to which the dialogue after it belongs. Dialogue that is too long for one clip
goes on in shots that continue from the last frame. Who is introduced as in `MARA (60, in a yellow raincoat)` or `MARA,
a woman of sixty, climbs` looks like that from then on. A dissolve or fade becomes a cross-fade.
"""

import re
from dataclasses import replace

from ovi_studio.core.errors import JobError
from ovi_studio.film.fountain import Action, Dialogue, SceneHeading, Transition, parse_fountain
from ovi_studio.film.script import MAX_NAME, Character, Cut, Film, FromShot, Look, Shot, SpeechRow
from ovi_studio.film.speech_cuts import cut_speech

FADE_MS = 500
_UNSEEN = {"V.O.", "VO", "V.O", "O.S.", "OS", "O.S", "O.C.", "OC", "O.C"}
_PAUSES = {"beat", "a beat", "pause", "a pause", "long pause", "then", "continuing", "cont'd", "more"}
_DOORS = re.compile(r"(?P<both>int\.?/ext|ext\.?/int|i/e|e/i)|(?P<int>int)|(?P<ext>ext|est)", re.IGNORECASE)
_NO_TIME = {"continuous", "later", "same", "same time", "moments later", "same day"}
_AGE = re.compile(r"(\d{1,3})(?:\s*(?:years old|y/?o))?(?=$|[,;])")
_NOBODY_SPEAKS = (
    "Nobody speaks in this screenplay; write a character's name in capitals on a line of its own and what is said on "
    "the next line, or write a silent film as film.yaml."
)


def read_screenplay(text: str, title: str, seconds: float) -> Film:
    """The film of a screenplay in Fountain form; raises `JobError` if nobody speaks in it, or it makes no film.

    Args:
        title: if there is none in the screenplay.
        seconds: the length of the clips that its dialogue has to fit in.
    """
    screenplay = parse_fountain(text)
    if not any(isinstance(element, Dialogue) for element in screenplay.elements):
        raise JobError(_NOBODY_SPEAKS)
    builder = _Builder(seconds)
    for element in screenplay.elements:
        if isinstance(element, Dialogue):
            builder.meet(element.character)
    for element in screenplay.elements:
        match element:
            case SceneHeading(heading):
                builder.scene(heading)
            case Action(action):
                builder.action(action)
            case Dialogue():
                builder.dialogue(element)
            case Transition(transition):
                builder.transition(transition)
    builder.end_shot()
    found = (screenplay.title_page.get("title") or title)[:MAX_NAME].strip()
    return Film(found, tuple(builder.shots), Look(), tuple(builder.cast.values()), builder.places)


class _Builder:
    """The film as far as it is read."""

    def __init__(self, seconds: float) -> None:
        self.shots: list[Shot] = []
        self.cast: dict[str, Character] = {}
        """By the name in small letters."""
        self.places: dict[str, str] = {}
        self._seconds = seconds
        self._place = ""
        self._action = ""
        self._rows: list[SpeechRow] = []
        self._fade_ms = 0

    def meet(self, cue: str) -> None:
        """Note the name of somebody who speaks."""
        self.cast.setdefault(cue.casefold(), Character(_as_name(cue)))

    def scene(self, heading: str) -> None:
        self.end_shot()
        name, looks = _place_of(heading)
        self._place = next((known for known in self.places if known.casefold() == name.casefold()), name)
        self.places.setdefault(self._place, looks)

    def action(self, text: str) -> None:
        self.end_shot()
        for key, character in self.cast.items():
            text, looks = _introduced(text, character.name)
            if looks and not character.looks:
                self.cast[key] = replace(character, looks=looks)
        self._action = text

    def dialogue(self, dialogue: Dialogue) -> None:
        who = self.cast[dialogue.character.casefold()].name
        seen = _UNSEEN.isdisjoint(dialogue.extensions)
        self._rows += [SpeechRow(line.text, who, _manner(line.parenthetical, seen), seen) for line in dialogue.lines]

    def transition(self, text: str) -> None:
        self.end_shot()
        soft = re.search(r"dissolve|fade|cross", text, re.IGNORECASE)
        self._fade_ms = FADE_MS if soft and self.shots else 0

    def end_shot(self) -> None:
        """Add the shots of the action and the dialogue that were read."""
        if not self._action and not self._rows:
            return
        for part, rows in enumerate(cut_speech(self._rows, self._seconds) or [()]):
            shot = Shot(
                id=str(len(self.shots) + 1),
                prompt="" if part else self._action,
                place=self._place,
                speech=rows,
                begin=FromShot() if part else Cut(),
                fade_ms=0 if part else self._fade_ms,
            )
            self.shots.append(shot)
        self._action, self._rows, self._fade_ms = "", [], 0


def _as_name(cue: str) -> str:
    """A name as in a sentence: a cue is in capitals, unless it was forced."""
    return re.sub(r"(?<=['’])[A-Z](?=\b)", lambda one: one[0].lower(), cue.title()) if cue == cue.upper() else cue


def _place_of(heading: str) -> tuple[str, str]:
    """Name and looks of the place in a scene heading such as `INT. LIGHTHOUSE - NIGHT`."""
    doors = _DOORS.match(heading)
    rest = heading[doors.end() :].lstrip(". ") if doors else heading
    parts = [part for part in re.split(r"\s+[-–—]+\s+", rest) if part.casefold() not in _NO_TIME]
    where = (
        {"both": "Indoors and outdoors", "int": "Indoors", "ext": "Outdoors"}.get(doors.lastgroup or "")
        if doors
        else ""
    )
    looks = ", ".join(filter(None, [where, *(part.lower() if part == part.upper() else part for part in parts)]))
    name = f"{heading[: len(heading) - len(rest)]}{' - '.join(parts)}"
    return name[:MAX_NAME].strip(), looks


def _introduced(action: str, name: str) -> tuple[str, str]:
    """The action with a name as in a sentence and without its introduction, and the looks from that."""
    capitals = re.escape(name.upper())
    looks = ""
    if found := re.search(rf"(?<!\w){capitals}\s*\(([^()]+)\)", action):
        looks = _AGE.sub(r"\1 years old", found[1].strip())
        action = f"{action[: found.start()]}{name}{action[found.end() :]}"
    elif found := re.search(rf"(?<!\w){capitals},\s+((?:an?|the)\s[^,.;:!?]+),", action):
        looks = found[1].strip()
        action = f"{action[: found.start()]}{name}{action[found.end() :]}"
    return re.sub(rf"(?<!\w){capitals}(?!\w)", name, action), looks


def _manner(parenthetical: str, seen: bool) -> str:
    """How a line is said; empty if there is nothing special about it."""
    text = parenthetical.strip().rstrip(".")
    if not text or text.casefold() in _PAUSES:
        return ""
    says = "says" if seen else "says off screen"
    return f"{says} {text}" if text.startswith("to ") else f"{says}, {text}"
