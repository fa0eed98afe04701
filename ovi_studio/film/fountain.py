"""Fountain: a screenplay as plain text, in elements (https://fountain.io/syntax).

Read are title page, scene headings, action, characters with their extensions, dialogue, parentheticals, lyrics, dual
dialogue, transitions and centred text, each also in its forced form. Notes, boneyard, sections, synopses and page
breaks are for the writer and left out; emphasis is taken off.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ovi_studio.core.errors import JobError

MAX_CHARACTERS = 2**20
"""Of a screenplay; a long one has a fifth of that."""

_BONEYARD = re.compile(r"/\*.*?\*/", re.DOTALL)
# A note may contain a line break, but an empty line only if it has two spaces.
_NOTE = re.compile(r"\[\[(?:(?!\]\]|\n\n).)*\]\]", re.DOTALL)
_TITLE_KEY = re.compile(r"([A-Za-z][A-Za-z ]*):\s*(.*)")
_HEADING = re.compile(r"(?:int\.?/ext|ext\.?/int|int|ext|est|i/e|e/i)[. ]", re.IGNORECASE)
_FORCED_HEADING = re.compile(r"\.(?=\w)")
_SCENE_NUMBER = re.compile(r"\s*#[\w.-]+#\s*$")
_EXTENSION = re.compile(r"\(([^()]*)\)")
_EMPHASIS = re.compile(r"(?<!\\)(\*{1,3}|_)(?=\S)(.+?)(?<=[^\s\\])\1")
_ESCAPED = re.compile(r"\\([*_\\])")


@dataclass(frozen=True)
class SceneHeading:
    """Where and when the following is."""

    text: str


@dataclass(frozen=True)
class Action:
    """A paragraph about what is seen."""

    text: str


@dataclass(frozen=True)
class Line:
    """What somebody says without a break."""

    text: str
    parenthetical: str = ""
    """How it is said, as written before it."""


@dataclass(frozen=True)
class Dialogue:
    """A character's speech."""

    character: str
    lines: tuple[Line, ...]
    extensions: tuple[str, ...] = ()
    """Such as `V.O.` and `CONT'D`, in capitals."""
    dual: bool = False
    """Spoken at the same time as the one before."""


@dataclass(frozen=True)
class Transition:
    """How the next scene follows, such as `CUT TO:`."""

    text: str


Element = SceneHeading | Action | Dialogue | Transition


@dataclass(frozen=True)
class Screenplay:
    """A screenplay in its order."""

    elements: tuple[Element, ...]
    title_page: dict[str, str] = field(default_factory=dict)
    """Key in small letters -> its value, its lines joined by spaces."""


def parse_fountain(text: str) -> Screenplay:
    """Read a screenplay; raises `JobError` if it is too long. Anything else is some element."""
    if len(text) > MAX_CHARACTERS:
        raise JobError(f"The screenplay has {len(text)} characters; {MAX_CHARACTERS} are the most, so split it.")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").replace("\t", "    ")
    text = _NOTE.sub("", _BONEYARD.sub("", text))
    title_page, lines = _title_page(text.split("\n"))
    return Screenplay(tuple(_elements(lines)), title_page)


def _title_page(lines: list[str]) -> tuple[dict[str, str], list[str]]:
    """The entries before the first empty line, if the text begins with one, and the lines that follow."""
    start = next((index for index, line in enumerate(lines) if line.strip()), len(lines))
    if start == len(lines) or not _is_title_key(lines[start]):
        return {}, lines
    found: dict[str, list[str]] = {}
    key = ""
    for index, line in enumerate(lines[start:], start):
        if not line.strip():
            return {name: _plain(" ".join(filter(None, values))) for name, values in found.items()}, lines[index:]
        match = _TITLE_KEY.match(line)
        if match is not None and not line[0].isspace():
            key = match[1].strip().lower()
            found[key] = [match[2].strip()]
        else:
            found[key].append(line.strip())
    return {name: _plain(" ".join(filter(None, values))) for name, values in found.items()}, []


def _is_title_key(line: str) -> bool:
    # A transition such as `FADE IN:` may be the first line, too.
    match = _TITLE_KEY.match(line)
    return match is not None and not _is_transition(line.strip()) and line.strip() != "FADE IN:"


def _elements(lines: list[str]) -> Iterator[Element]:
    index = 0
    while index < len(lines):
        line = lines[index].strip()
        alone = _is_blank(lines, index - 1)
        if not line or line.startswith("===") or _is_for_the_writer(line):
            index += 1
        elif alone and (heading := _heading(line, followed=not _is_blank(lines, index + 1))):
            yield SceneHeading(heading)
            index += 1
        elif alone and (transition := _transition(line, followed=not _is_blank(lines, index + 1))):
            yield Transition(transition)
            index += 1
        elif alone and _is_cue(line) and not _is_blank(lines, index + 1):
            dialogue, index = _dialogue(lines, index)
            if dialogue.lines:
                yield dialogue
        else:
            action, index = _action(lines, index)
            if action:
                yield Action(action)


def _is_blank(lines: list[str], index: int) -> bool:
    return not 0 <= index < len(lines) or not lines[index].strip()


def _is_for_the_writer(line: str) -> bool:
    """Whether it is a section or a synopsis."""
    return line.startswith("#") or (line.startswith("=") and not line.startswith("=="))


def _heading(line: str, *, followed: bool) -> str:
    """The text of a scene heading; empty if the line is none. A forced one may be followed by anything."""
    if match := _FORCED_HEADING.match(line):
        return _plain(_SCENE_NUMBER.sub("", line[match.end() :]))
    return "" if followed or not _HEADING.match(line) else _plain(_SCENE_NUMBER.sub("", line))


def _transition(line: str, *, followed: bool) -> str:
    if line.startswith(">") and not line.endswith("<"):
        return _plain(line[1:])
    return _plain(line) if not followed and _is_transition(line) else ""


def _is_transition(line: str) -> bool:
    return line.endswith("TO:") and line == line.upper()


def _is_cue(line: str) -> bool:
    """Whether a line is the name of a character who speaks: forced, or in capitals with at least one letter."""
    if line.startswith("@"):
        return len(line) > 1
    name = _EXTENSION.sub("", line.removesuffix("^")).strip()
    return not line.startswith(("!", ">", "~", "(")) and name == name.upper() and any(map(str.isalpha, name))


def _dialogue(lines: list[str], index: int) -> tuple[Dialogue, int]:
    """The dialogue whose character is at `index`, and the index after it."""
    cue = lines[index].strip()
    dual = cue.endswith("^")
    cue = cue.removesuffix("^").removeprefix("@")
    extensions = tuple(found.strip().upper().replace("’", "'") for found in _EXTENSION.findall(cue))
    name = _plain(_EXTENSION.sub("", cue))
    spoken: list[Line] = []
    said: list[str] = []
    how = ""

    def end_line() -> None:
        if text := _plain(" ".join(said)):
            spoken.append(Line(text, how))
        said.clear()

    index += 1
    # An empty line ends it, unless it has two spaces.
    while index < len(lines) and (lines[index].strip() or (len(lines[index]) >= 2 and lines[index].isspace())):
        line = lines[index].strip()
        if line.startswith("(") and line.endswith(")"):
            end_line()
            how = _plain(line[1:-1])
        elif line:
            said.append(line.removeprefix("~").strip())
        index += 1
    end_line()
    return Dialogue(name, tuple(spoken), extensions, dual), index


def _action(lines: list[str], index: int) -> tuple[str, int]:
    """The paragraph at `index`, in one line, and the index after it."""
    found: list[str] = []
    while index < len(lines) and lines[index].strip():
        line = lines[index].strip()
        if found and (_FORCED_HEADING.match(line) or line.startswith(("===", "@", "#"))):
            break
        centred = line.startswith(">") and line.endswith("<")
        found.append(line[1:-1].strip() if centred else line.removeprefix("!").removeprefix("~").strip())
        index += 1
    return _plain(" ".join(found)), index


def _plain(text: str) -> str:
    """The text without emphasis, with its white space collapsed."""
    while (plainer := _EMPHASIS.sub(r"\2", text)) != text:
        text = plainer
    return " ".join(_ESCAPED.sub(r"\1", text).split())
