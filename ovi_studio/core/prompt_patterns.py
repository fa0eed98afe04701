"""Many prompts from one pattern: alternatives in braces and wildcards, expanded before anything is queued.

`{red|blue} car` is two prompts; several groups give every combination, the last group varying fastest. `__weather__`
stands for every line of `presets/wildcards/weather.txt` and acts as a group. An alternative may be empty and may
contain a wildcard, but not another group. A backslash turns a special character into plain text, as in other programs
with such patterns: `\\{`, `\\}`, `\\|` and `\\__weather__`. Before any other character it is literal; a literal one
before a special character is doubled. Nothing is random: what the preview shows is what is queued.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ovi_studio.core.errors import JobError
from ovi_studio.core.shipped import PRESETS

MAX_PROMPTS = 10_000
"""Limit for one pattern."""
WILDCARDS_DIRECTORY = PRESETS / "wildcards"
_MAX_LIST_SIZE = 2**20
"""Bytes of a wildcard file."""

# Matches only whole runs of backslashes, so that a long run takes linear time.
_TOKEN = re.compile(
    r"(?<!\\)(?P<slashes>\\*)(?:(?P<special>[{}|])|__(?P<wildcard>[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*)__)"
)

_AS_TEXT = "write \\{ and \\} for literal braces."

Lookup = Callable[[str], Sequence[str]]
"""Returns the lines of a wildcard; raises `JobError` for an unknown one."""


@dataclass(frozen=True)
class _Token:
    """A brace, a bar or a wildcard, and the plain text before it."""

    text: str
    kind: str
    """`{`, `}`, `|` or `wildcard`; `end` for the end of the pattern."""
    start: int
    """Offset of the first character in the pattern."""
    end: int
    """Offset after the last character in the pattern."""
    wildcard: str = ""
    """The wildcard's name."""


def expand_prompt(pattern: str, wildcards: Path = WILDCARDS_DIRECTORY) -> list[str]:
    """Every prompt that a pattern stands for, in order and without duplicates.

    Raises `JobError` for an unclosed brace, a group inside a group, an unknown wildcard, or more than
    `MAX_PROMPTS` prompts.
    """
    parts = _parse(pattern, lambda name: read_wildcard(name, wildcards))
    _check_count(math.prod(len(part) for part in parts))
    return list(dict.fromkeys("".join(choice) for choice in itertools.product(*parts)))


def escape_prompt(prompt: str) -> str:
    """The pattern that stands for exactly this prompt."""
    return _TOKEN.sub(lambda found: f"{found['slashes'] * 2}\\{found[0][len(found['slashes']) :]}", prompt)


def is_balanced(pattern: str) -> bool:
    """Whether every group of a pattern is closed, and none is inside another."""
    inside = False
    for token in _tokens(pattern):
        if (token.kind == "{" and inside) or (token.kind == "}" and not inside):
            return False
        inside = token.kind == "{" or (inside and token.kind != "}")
    return not inside


def choices(pattern: str) -> list[str]:
    """The groups and wildcards of a pattern as they are written, in order; one in a group is part of it."""
    found: list[str] = []
    start: int | None = None
    for token in _tokens(pattern):
        if token.kind == "{" and start is None:
            start = token.start
        elif token.kind == "}" and start is not None:
            found.append(pattern[start : token.end])
            start = None
        elif token.kind == "wildcard" and start is None:
            found.append(pattern[token.start : token.end])
    return found


def pattern_warnings(pattern: str) -> tuple[str, ...]:
    """Warnings about a pattern, as sentences."""
    groups = [group if len(group) <= 30 else f"{group[:29]}…" for group in _single_option_groups(pattern)]
    if not groups:
        return ()
    listed = ", ".join([*groups[:3], "…"] if len(groups) > 3 else groups)
    return (f"There is no choice in {listed}, so its braces are removed; write \\{{ and \\}} to keep them.",)


def wildcard_names(wildcards: Path = WILDCARDS_DIRECTORY) -> list[str]:
    """The names of the available wildcards, without underscores."""
    return sorted(path.stem for path in wildcards.glob("*.txt") if path.is_file())


def read_wildcard(name: str, wildcards: Path = WILDCARDS_DIRECTORY) -> list[str]:
    """The lines of a wildcard file, without empty lines and lines that begin with `#`."""
    known = wildcard_names(wildcards)
    if name not in known:  # also prevents building a path from the name
        listed = ", ".join(f"__{other}__" for other in known) or "none"
        raise JobError(
            f"There is no wildcard __{name}__; available are: {listed}. For literal text, write \\__{name}__."
        )
    path = wildcards / f"{name}.txt"
    try:
        with path.open("rb") as file:
            lines = file.read(_MAX_LIST_SIZE).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(f"The wildcard file {path} cannot be read; save it as UTF-8 text.") from error
    found = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not found:
        raise JobError(f"The wildcard file {path} is empty; write one alternative per line.")
    return found


def _parse(pattern: str, lookup: Lookup) -> list[list[str]]:
    """The pattern as a sequence of choices; plain text is a choice with one option."""
    parts: list[list[str]] = []
    group: list[list[list[str]]] | None = None  # alternatives, each a sequence of choices
    for token in _tokens(pattern):
        current = parts if group is None else group[-1]
        current.append([token.text])
        if token.kind == "wildcard":
            current.append(list(lookup(token.wildcard)))
        elif token.kind == "{":
            if group is not None:
                raise JobError(f"A group in braces is inside another group in {_near(pattern)}; {_AS_TEXT}")
            group = [[]]
        elif token.kind == "|" and group is not None:
            group.append([])
        elif token.kind == "|":
            current.append(["|"])
        elif token.kind == "}":
            if group is None:
                raise JobError(f"There is a closing brace without an opening one in {_near(pattern)}; {_AS_TEXT}")
            parts.append(_alternatives(group))
            group = None
    if group is not None:
        raise JobError(f"There is an opening brace without a closing one in {_near(pattern)}; {_AS_TEXT}")
    return parts


def _tokens(pattern: str) -> Iterator[_Token]:
    """Every special character and wildcard in order, then the end."""
    text, end = "", 0
    for found in _TOKEN.finditer(pattern):
        slashes, start = found["slashes"], found.end("slashes")
        text += pattern[end : found.start()] + slashes[: len(slashes) // 2]
        end = found.end()
        if len(slashes) % 2:
            text += pattern[start:end]
        else:
            yield _Token(text, found["special"] or "wildcard", start, end, found["wildcard"] or "")
            text = ""
    yield _Token(text + pattern[end:], "end", len(pattern), len(pattern))


def _single_option_groups(pattern: str) -> list[str]:
    """The groups that offer no choice, with their braces: they were probably meant as literal text."""
    found: list[str] = []
    start: int | None = None
    for token in _tokens(pattern):
        if token.kind == "{":
            start = token.start
            continue
        if token.kind == "}" and start is not None:
            found.append(pattern[start : token.end])
        start = None  # outside a group, or inside one with a choice
    return found


def _alternatives(group: list[list[list[str]]]) -> list[str]:
    for choices in group:
        _check_count(math.prod(len(choice) for choice in choices))
    return ["".join(choice) for choices in group for choice in itertools.product(*choices)]


def _near(pattern: str) -> str:
    return repr(pattern if len(pattern) <= 60 else pattern[:57] + "...")


def _check_count(number: int) -> None:
    if number > MAX_PROMPTS:
        raise JobError(f"That makes {number} prompts; the maximum is {MAX_PROMPTS}, so split the pattern.")
