"""The prompt of a shot: its own text, with the place and the looks and voices of the characters that appear in it."""

import re
from collections.abc import Iterator

from ovi_studio.core.prompt_composition import Composition, Speech
from ovi_studio.film.script import Character, Film, Shot, SpeechRow

_ENDS = (".", "!", "?", "…", "。", "！", "？")
_SAYS, _SAYS_UNSEEN = "says", "says off screen"


def compose_shot(film: Film, shot: Shot) -> Composition:
    """The parts of a shot's prompt; its `text` is the prompt for a model.

    A character is described in each shot anew, since a model knows nothing of the other shots.
    """
    seen = [character for character in film.characters if _is_seen(character, shot)]
    heard = [character for character in film.characters if any(row.who == character.name for row in shot.speech)]
    scene = [
        _sentence(film.places.get(shot.place, "")),
        *(_about(character.name, "is", character.looks) for character in seen),
        _sentence(shot.prompt),
    ]
    sound = [_sentence(shot.sound), *(_about(character.name, "speaks with", character.voice) for character in heard)]
    return Composition(_joined(scene), tuple(_cues(shot)), _joined(sound))


def _is_seen(character: Character, shot: Shot) -> bool:
    spoken = any(row.who == character.name and row.seen for row in shot.speech)
    named = re.search(rf"(?<!\w){re.escape(character.name)}(?!\w)", shot.prompt, re.IGNORECASE)
    return spoken or named is not None or character.name in shot.characters


def _cues(shot: Shot) -> Iterator[Speech]:
    before: SpeechRow | None = None
    for row in shot.speech:
        if before is not None and (row.who, row.how, row.seen) == (before.who, before.how, before.seen):
            who = ""  # the same person goes on
        elif row.who:
            who = f"{row.who} {row.how or (_SAYS if row.seen else _SAYS_UNSEEN)}"
        else:
            who = row.how
        yield Speech(row.said, who)
        before = row


def _about(name: str, verb: str, text: str) -> str:
    """A sentence about a character: a description such as `a tall man` becomes one, and a sentence is left as it is."""
    return _sentence(f"{name} {verb} {text}" if text[:1].islower() else text)


def _sentence(text: str) -> str:
    text = text.strip()
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text.endswith(_ENDS) else ".")


def _joined(sentences: list[str]) -> str:
    return " ".join(filter(None, sentences))
