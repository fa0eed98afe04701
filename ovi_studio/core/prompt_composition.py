"""A prompt as the parts that people write: the scene, cues in order (speech, and text between speeches), and the sound.

`compose` and `Composition.text` are inverse: a prompt is taken apart only if its parts give exactly the same text, or
the same text with the tag that the variant reads. Every other prompt is left to be edited as it is.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ovi_studio.core.prompt_check import parse_prompt
from ovi_studio.core.prompt_patterns import is_balanced
from ovi_studio.core.prompt_spelling import find_tags
from ovi_studio.core.prompts import AudioTag

MAX_CUES = 200
_MAX_WHO = 160
"""Characters; a longer sentence before a speech is part of the scene."""
_SPEECH = re.compile(r"<S>((?:(?!<S>).)*?)<E>", re.DOTALL)
_SENTENCE = re.compile(r"(?<=[.!?…。！？])\s+|\n")
_ENDS = tuple(".!?…。！？")
_MARKS = (",", ":")


@dataclass(frozen=True)
class Speech:
    """What somebody says."""

    said: str
    who: str = ""
    """Who says it and how, as in `The man says`."""
    mark: str = ","
    """Between the two: `,`, `:` or nothing."""

    @property
    def text(self) -> str:
        """As in a prompt; empty if nothing is said."""
        who, said = self.who.strip(), self.said.strip()
        if not said:
            return ""
        mark = "" if who.endswith(_MARKS) else self.mark
        return f"{who}{mark} <S>{said}<E>" if who else f"<S>{said}<E>"


@dataclass(frozen=True)
class Composition:
    """The parts of a prompt."""

    scene: str
    cues: tuple[Speech | str, ...] = ()
    """Speech, and text between speeches, in order."""
    sound: str = ""

    def text(self, tag: AudioTag) -> str:
        """The prompt for a variant with this tag; empty parts leave nothing behind."""
        joined = self.scene
        for cue in self.cues:
            joined = _glued(joined, cue if isinstance(cue, str) else cue.text)
        sound = self.sound.strip()
        return _glued(joined, tag.wrap(sound)) if sound else joined


def compose(prompt: str) -> Composition | None:
    """The parts of a prompt; None if they would not give the same prompt, or would show a tag to people."""
    parts = parse_prompt(prompt)
    sound = parts.audio
    head = prompt
    if sound:
        written = next((wrapped for one in AudioTag if prompt.endswith(wrapped := one.wrap(sound))), None)
        if written is None:
            return None
        head = prompt.removesuffix(written).removesuffix(" ")
    found = Composition(*_split(head), sound)
    same = any(found.text(tag) == prompt for tag in AudioTag)
    return found if same and _is_plain(found) else None


def parse_cues(given: Any) -> tuple[Speech | str, ...]:
    """The cues in the form of `format_cues`, from a client: whatever has another form is left out."""
    cues: list[Speech | str] = []
    for entry in given[:MAX_CUES] if isinstance(given, list) else []:
        if not isinstance(entry, Mapping):
            continue
        text, said, who, mark = (entry.get(name) for name in ("text", "said", "who", "mark"))
        if isinstance(text, str):
            cues.append(text)
        elif isinstance(said, str):
            cues.append(Speech(said, who if isinstance(who, str) else "", mark if mark in ("", *_MARKS) else ","))
    return tuple(cues)


def format_cues(cues: Sequence[Speech | str]) -> list[dict[str, str]]:
    """The cues as JSON: `{"text"}`, or `{"who", "said", "mark"}`."""
    return [
        {"text": cue} if isinstance(cue, str) else {"who": cue.who, "said": cue.said, "mark": cue.mark} for cue in cues
    ]


def _glued(left: str, right: str) -> str:
    between = "" if not left or not right or left.endswith("\n") or right.startswith("\n") else " "
    return f"{left}{between}{right}"


def _split(head: str) -> tuple[str, tuple[Speech | str, ...]]:
    """The scene and the cues of a prompt without its audio description."""
    scene, cues, end = "", list[Speech | str](), 0
    for match in _SPEECH.finditer(head):
        text, who, mark = _before_speech(_after_speech(head[end : match.start()].removesuffix(" "), end))
        if not cues and not end:
            scene = text
        elif text:
            cues.append(text)
        cues.append(Speech(match[1], who, mark))
        end = match.end()
    rest = _after_speech(head[end:], end)
    if not end:
        return rest, ()
    return scene, (*cues, rest) if rest else tuple(cues)


def _after_speech(text: str, end: int) -> str:
    return text.removeprefix(" ") if end else text


def _before_speech(text: str) -> tuple[str, str, str]:
    """Split the text before a speech into text, who speaks, and the mark between that and the speech."""
    sentences = [match.end() for match in _SENTENCE.finditer(text)]
    begin = sentences[-1] if sentences else 0
    who = text[begin:]
    if not who.strip() or who.endswith(_ENDS) or len(who) > _MAX_WHO:
        return text, "", ","
    mark = who[-1] if who.endswith(_MARKS) else ""
    return text[:begin].removesuffix(" "), who.removesuffix(mark), mark


def _is_plain(found: Composition) -> bool:
    """Whether no part holds a tag, or only a piece of a pattern's group."""
    spoken = [part for cue in found.cues for part in ([cue] if isinstance(cue, str) else [cue.who, cue.said])]
    parts = [part for part in (found.scene, *spoken, found.sound) if part]
    if any(find_tags(part) for part in parts):
        return False
    return len(parts) == 1 or all(map(is_balanced, parts))
