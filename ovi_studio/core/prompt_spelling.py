"""Ovi's tags in a prompt, also in the spellings that people use by mistake: `</S>`, `[S]`, `&lt;S&gt;`, `audio:`.

A bracketed letter may be plain prose, such as “exit (E)” or “the boat(s)”; it is a tag only as one of a pair. Every
expression is bounded, so that a long prompt takes linear time.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Mark(StrEnum):
    """A tag, in the only form that the model knows."""

    SPEECH = "<S>"
    SPEECH_END = "<E>"
    AUDCAP = "<AUDCAP>"
    AUDCAP_END = "<ENDAUDCAP>"
    AUDIO = "Audio:"


@dataclass(frozen=True)
class FoundTag:
    """A tag in a prompt."""

    mark: Mark
    start: int
    """Offset of the first character in the prompt."""
    end: int
    """Offset after the last character."""
    text: str
    """The tag as it is written."""

    @property
    def misspelt(self) -> bool:
        return self.text != self.mark


_PAIRS = ((Mark.SPEECH, Mark.SPEECH_END), (Mark.AUDCAP, Mark.AUDCAP_END))
# Full-width forms, other brackets and invisible characters; each is one character, so offsets stay the same.
_FOLDED = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_FOLDED |= dict.fromkeys(map(ord, "‹〈《«⟨"), ord("<")) | dict.fromkeys(map(ord, "›〉》»⟩"), ord(">"))
_FOLDED |= {ord("【"): ord("["), ord("】"): ord("]")} | dict.fromkeys(
    (0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF), ord(" ")
)

_GAP = r"[\s_-]{0,2}"
_SOUND = rf"(?:aud{_GAP}cap|audio{_GAP}cap(?:tion)?|audio)"
_SPOKEN = r"(?:s|speech|speak|say|dialog(?:ue)?)"
_NAME = (
    rf"(?P<audcap_end>/\s?(?:end)?{_SOUND}|end{_GAP}{_SOUND}|{_SOUND}{_GAP}end)|(?P<audcap>{_SOUND})"
    rf"|(?P<speech_end>/\s?(?:{_SPOKEN}|e)|end{_GAP}{_SPOKEN}|end|e)|(?P<speech>{_SPOKEN})"
)
_BARE = r"/?(?:(?:end)?audcap|s|e)"
_OPENING = r"(?:\\?<|&(?:amp;)?(?:lt|\#0{0,4}60|\#x0{0,4}3c);)"
_CLOSING = r"(?:\\?>|&(?:amp;)?(?:gt|\#0{0,4}62|\#x0{0,4}3e);)"
_TAG = re.compile(
    rf"(?P<double>{_OPENING})?{_OPENING}\s{{0,3}}\|?\s{{0,3}}(?:{_NAME})\s{{0,3}}[|/]?\s{{0,3}}{_CLOSING}(?(double){_CLOSING})"
    rf"|\[\s{{0,3}}(?P<square>{_BARE})\s{{0,3}}\]|\(\s{{0,3}}(?P<round>{_BARE})\s{{0,3}}\)"
    r"|<(?P<unclosed>(?-i:ENDAUDCAP|AUDCAP|S|E))(?=\s|$)"
    r"|(?P<audio>(?-i:Audio:)|(?<!\w)audio(?:\s{1,3}(?:caption|description))?\s{0,3}:)",
    re.IGNORECASE,
)
_DETERMINER = re.compile(
    r"(?<!\w)(?:an?|the|this|that|his|her|its|their|my|our|your|of|no|in|on|with|to)\s{1,3}$", re.I
)
_BARE_MARKS = {
    "s": Mark.SPEECH,
    "e": Mark.SPEECH_END,
    "/s": Mark.SPEECH_END,
    "/e": Mark.SPEECH_END,
    "audcap": Mark.AUDCAP,
    "endaudcap": Mark.AUDCAP_END,
    "/audcap": Mark.AUDCAP_END,
    "/endaudcap": Mark.AUDCAP_END,
}


def find_tags(prompt: str) -> list[FoundTag]:
    """All tags of a prompt in any spelling, in text order."""
    folded = prompt.translate(_FOLDED)
    found: list[FoundTag] = []
    doubtful: list[bool] = []
    for match in _TAG.finditer(folded):
        if (mark := _mark(match, folded)) is not None:
            found.append(FoundTag(mark, *match.span(), prompt[match.start() : match.end()]))
            doubtful.append((match["square"] or match["round"]) is not None)
    paired = _pairs(found)
    return [tag for tag, doubt in zip(found, doubtful, strict=True) if not doubt or tag.mark in paired]


def _pairs(found: Sequence[FoundTag]) -> set[Mark]:
    """The tags that open something which is closed later, and those that close it."""
    first = {tag.mark: tag.start for tag in reversed(found)}
    last = {tag.mark: tag.start for tag in found}
    paired = [pair for pair in _PAIRS if set(pair) <= first.keys() and first[pair[0]] < last[pair[1]]]
    return {mark for pair in paired for mark in pair}


def spelt(prompt: str) -> str:
    """The prompt with every tag in the form that the model knows."""
    pieces, end = [], 0
    for tag in find_tags(prompt):
        pieces += [prompt[end : tag.start], tag.mark]
        end = tag.end
    return "".join([*pieces, prompt[end:]])


def without_tags(text: str) -> str:
    """The text with a space for every tag."""
    pieces, end = [], 0
    for tag in find_tags(text):
        pieces.append(text[end : tag.start])
        end = tag.end
    return " ".join([*pieces, text[end:]])


def for_people(prompt: str) -> str:
    """The prompt as people read it: speech in quotation marks, a note before the sound, and no tags."""
    pieces, end = [], 0
    for tag in find_tags(prompt):
        pieces.append(prompt[end : tag.start])
        match tag.mark:
            case Mark.SPEECH:
                pieces.append(" “")
            case Mark.SPEECH_END:
                pieces[-1] = pieces[-1].rstrip()
                pieces.append("” ")
            case Mark.AUDCAP | Mark.AUDIO:
                pieces.append(" ♪ ")
            case Mark.AUDCAP_END:
                pieces.append(" ")
        end = tag.end
    joined = re.sub(r"[^\S\n]+", " ", "".join([*pieces, prompt[end:]]))
    return re.sub(r"“ +", "“", re.sub(r" *\n *", "\n", joined)).strip()


def in_words(prompt: str) -> str:
    """`for_people` in one line: what lists of clips show."""
    return " ".join(for_people(prompt).split())


def _mark(match: re.Match[str], folded: str) -> Mark | None:
    """The tag that is meant; None for the word “audio” before a colon in a sentence."""
    if match["audio"] is not None:
        before = folded[max(0, match.start() - 12) : match.start()]
        return None if match["audio"] != Mark.AUDIO and _DETERMINER.search(before) else Mark.AUDIO
    if match["round"] == "s" and folded[: match.start()][-1:].isalnum():
        return None  # a plural
    if (bare := match["square"] or match["round"] or match["unclosed"]) is not None:
        return _BARE_MARKS[bare.lower()]
    names = ("audcap_end", "audcap", "speech_end", "speech")
    return Mark[next(name for name in names if match[name] is not None).upper()]
