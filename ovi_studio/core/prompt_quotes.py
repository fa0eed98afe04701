"""Quotations in a prompt that somebody speaks, rather than what a sign shows or what a film is called.

A rule of thumb for English: a verb of speaking beside it, a colon before it, or a whole sentence inside it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ovi_studio.core.prompt_spelling import Mark, find_tags

_QUOTES = (
    ('"', '"'),
    ("“", "”"),
    ("„", "“"),
    ("«", "»"),
    ("「", "」"),
    ("『", "』"),
    (r"(?<!\w)'", r"'(?!\w)"),
    (r"(?<!\w)‘", r"’(?!\w)"),
)
# Without tags inside; what is longer than any speech is no quotation.
_QUOTATION = re.compile("|".join(f"{left}(?=\\S)([^\\n<>]{{1,300}}?){right}" for left, right in _QUOTES))
_VERB = (
    r"(?:says?|said|saying|asks?|asked|asking|tells?|told|telling|repl(?:y|ies|ied|ying)|answer(?:s|ed|ing)?"
    r"|shout(?:s|ed|ing)?|yell(?:s|ed|ing)?|scream(?:s|ed|ing)?|whisper(?:s|ed|ing)?|murmur(?:s|ed|ing)?"
    r"|mutter(?:s|ed|ing)?|mumbl(?:es?|ed|ing)|exclaim(?:s|ed|ing)?|cr(?:y|ies|ied|ying)|call(?:s|ed|ing)? out"
    r"|speaks?|spoke|speaking|sings?|sang|singing|announc(?:es?|ed|ing)|declar(?:es?|ed|ing)|respond(?:s|ed|ing)?"
    r"|adds?|added|adding|warn(?:s|ed|ing)?|begs?|begged|whin(?:es?|ed|ing)|remark(?:s|ed|ing)?|utter(?:s|ed|ing)?)"
)
_BEFORE = re.compile(rf"\b{_VERB}\b(?:\W{{1,3}}\w+){{0,4}}\W{{0,3}}$", re.I)
_AFTER = re.compile(rf"\s{{0,3}},?\s{{0,3}}(?:(?:\w+\s+){{0,3}}{_VERB}\b|と)", re.I)
_SPEAKER = re.compile(r"\w\s{0,2}:\s{0,3}$")
_SHOWN = (
    r"\b(?:signs?|signboard|banner|poster|placard|billboard|label(?:led|ed)?|screen|monitor|display|shirt|hat|cap|mug"
    r"|texts?|title[ds]?|caption(?:ed|s)?|subtitles?|logo|letters?|lettering|words?|written|writing|reads|reading"
    r"|headline|neon|tattoo|board|note|book|newspaper|inscription|inscribed|engraved|graffiti|plate|sticker|flag"
    r"|called|named|nicknamed|brand|song|film|movie)"
)
_SHOWN_SOMEWHERE = re.compile(rf"{_SHOWN}\b", re.I)
_SHOWN_SAYS = re.compile(rf"{_SHOWN}(?:\s+\w+)?\s+{_VERB}\W{{0,3}}$", re.I)
_WITH_SHOWN = re.compile(
    rf"\b(?:in|with|wearing|holding|carrying|near|behind|beside)\s+(?:\w+\s+){{0,4}}{_SHOWN}", re.I
)
"""A person with something that could show words."""
_SENTENCE_END = re.compile(r"[.!?…。！？]['\"”’」]?\s")
_LOOK_BACK = 120
"""Characters before a quotation that are looked at."""


@dataclass(frozen=True)
class Quotation:
    """A quotation that is spoken."""

    start: int
    """Offset of its first quotation mark."""
    end: int
    """Offset after its last quotation mark."""
    said: str


def spoken_quotations(prompt: str) -> Iterator[Quotation]:
    """The quotations that are probably spoken, but in no speech and in no audio description."""
    text = _scene_only(prompt)
    for match in _QUOTATION.finditer(text):
        said = next(filter(None, match.groups()), "").strip()
        if any(character.isalpha() for character in said) and _is_spoken(text, match, said):
            yield Quotation(*match.span(), said)


def last_verb(text: str) -> int | None:
    """Where speech begins after the last verb of speaking in a text, and after the comma or colon that follows it."""
    found = None
    for match in re.finditer(rf"\b{_VERB}\b(?:(?:\s{{1,3}}\w+){{0,4}}\s{{0,3}}[,:])?\s{{0,3}}", text, re.I):
        found = match.end()
    return found


def _scene_only(prompt: str) -> str:
    """The prompt with tags, speech and audio descriptions blotted out; no offset changes."""
    pieces, begin = [], 0
    inside: Mark | None = None
    for tag in find_tags(prompt):
        between = prompt[begin : tag.start]
        pieces += [_blot(between) if inside else between, _blot(tag.text)]
        begin = tag.end
        if tag.mark in (Mark.AUDCAP, Mark.AUDIO) or (tag.mark is Mark.SPEECH and inside is None):
            inside = tag.mark
        elif tag.mark is Mark.AUDCAP_END or (tag.mark is Mark.SPEECH_END and inside is Mark.SPEECH):
            inside = None
    return "".join([*pieces, _blot(prompt[begin:]) if inside else prompt[begin:]])


def _blot(text: str) -> str:
    return "<" * len(text)


def _is_spoken(text: str, match: re.Match[str], said: str) -> bool:
    before = text[max(0, match.start() - _LOOK_BACK) : match.start()]
    sentence = _SENTENCE_END.split(before)[-1]
    if _BEFORE.search(sentence):
        return not _SHOWN_SAYS.search(sentence) or _WITH_SHOWN.search(sentence) is not None
    if _SHOWN_SOMEWHERE.search(sentence):
        return False
    return said[-1] in ".!?…。！？," or bool(_SPEAKER.search(sentence) or _AFTER.match(text, match.end()))
