"""Many prompts from one: alternatives in braces and words from lists, expanded before anything is made.

`{red|blue} car` is two prompts; several groups give every combination, the last one turning fastest. `__weather__` is
every line of `presets/wildcards/weather.txt`, and is a group as well. An alternative may be empty and may hold a
wildcard, but no group. A backslash makes a sign plain text, as in other programs with such patterns: `\\{`, `\\}`,
`\\|` and `\\__weather__`. Before anything else it is a character like any other; one right before a sign is
doubled. Nothing is drawn at random: what is shown before queueing is what is queued.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ovi_studio.core.errors import JobError

MAX_PROMPTS = 10_000
"""From one pattern."""
WILDCARDS_DIRECTORY = Path(__file__).parents[2] / "presets" / "wildcards"
_MAX_LIST_SIZE = 2**20
"""Bytes of a wildcard's file."""

# Only a whole run of backslashes is looked at, so that a long one costs no more than a short one.
_SIGN = re.compile(r"(?<!\\)(?P<slashes>\\*)(?:(?P<sign>[{}|])|__(?P<wildcard>[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*)__)")

_AS_TEXT = "write \\{ and \\} for braces that are meant as text."

Lookup = Callable[[str], Sequence[str]]
"""The lines of a wildcard; raises `JobError` for an unknown one."""


@dataclass(frozen=True)
class _Sign:
    """A brace, a bar or a wildcard that means something, and the plain text before it."""

    text: str
    kind: str
    """`{`, `}`, `|`, `wildcard`; `end` behind the last one."""
    start: int
    end: int
    """Characters from the beginning of the pattern, as `start`."""
    wildcard: str = ""
    """The name of a wildcard."""


def expand_prompt(pattern: str, wildcards: Path = WILDCARDS_DIRECTORY) -> list[str]:
    """Every prompt that a pattern stands for, in order and without repetition.

    Raises `JobError` for a brace that is not closed, a group within a group, an unknown wildcard, or more than
    `MAX_PROMPTS` prompts.
    """
    parts = _parse(pattern, lambda name: read_wildcard(name, wildcards))
    _check_number(math.prod(len(part) for part in parts))
    return list(dict.fromkeys("".join(choice) for choice in itertools.product(*parts)))


def escape_prompt(prompt: str) -> str:
    """The pattern that stands for exactly this prompt."""
    return _SIGN.sub(lambda found: f"{found['slashes'] * 2}\\{found[0][len(found['slashes']) :]}", prompt)


def pattern_warnings(pattern: str) -> tuple[str, ...]:
    """Sentences that are worth reading before a pattern is expanded."""
    groups = [group if len(group) <= 30 else f"{group[:29]}…" for group in _lone_groups(pattern)]
    if not groups:
        return ()
    listed = ", ".join([*groups[:3], "…"] if len(groups) > 3 else groups)
    return (f"There is no choice in {listed}, so its braces are left out; write \\{{ and \\}} to keep them.",)


def wildcard_names(wildcards: Path = WILDCARDS_DIRECTORY) -> list[str]:
    """The wildcards that there are, without their underscores."""
    return sorted(path.stem for path in wildcards.glob("*.txt"))


def read_wildcard(name: str, wildcards: Path = WILDCARDS_DIRECTORY) -> list[str]:
    """The lines of a wildcard; empty ones and those that begin with `#` do not count."""
    known = wildcard_names(wildcards)
    if name not in known:  # and so no path can be built from it
        listed = ", ".join(f"__{other}__" for other in known) or "none"
        raise JobError(
            f"There is no wildcard __{name}__; known are: {listed}. If it is meant as text, write \\__{name}__."
        )
    path = wildcards / f"{name}.txt"
    try:
        with path.open("rb") as file:
            lines = file.read(_MAX_LIST_SIZE).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(f"The wildcard file {path} cannot be read; save it as UTF-8 text.") from error
    found = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not found:
        raise JobError(f"The wildcard file {path} has no line; write one alternative on each.")
    return found


def _parse(pattern: str, lookup: Lookup) -> list[list[str]]:
    """The pattern as a sequence of choices; a piece of plain text is a choice of one."""
    parts: list[list[str]] = []
    group: list[list[list[str]]] | None = None  # alternatives, each a sequence of choices
    for sign in _signs(pattern):
        current = parts if group is None else group[-1]
        current.append([sign.text])
        if sign.kind == "wildcard":
            current.append(list(lookup(sign.wildcard)))
        elif sign.kind == "{":
            if group is not None:
                raise JobError(f"A group in braces stands within another in {_near(pattern)}; {_AS_TEXT}")
            group = [[]]
        elif sign.kind == "|" and group is not None:
            group.append([])
        elif sign.kind == "|":
            current.append(["|"])
        elif sign.kind == "}":
            if group is None:
                raise JobError(f"A closing brace has no opening one in {_near(pattern)}; {_AS_TEXT}")
            parts.append(_alternatives(group))
            group = None
    if group is not None:
        raise JobError(f"An opening brace has no closing one in {_near(pattern)}; {_AS_TEXT}")
    return parts


def _signs(pattern: str) -> Iterator[_Sign]:
    """Every sign in its order, then the end."""
    text, end = "", 0
    for found in _SIGN.finditer(pattern):
        slashes, start = found["slashes"], found.end("slashes")
        text += pattern[end : found.start()] + slashes[: len(slashes) // 2]
        end = found.end()
        if len(slashes) % 2:
            text += pattern[start:end]
        else:
            yield _Sign(text, found["sign"] or "wildcard", start, end, found["wildcard"] or "")
            text = ""
    yield _Sign(text + pattern[end:], "end", len(pattern), len(pattern))


def _lone_groups(pattern: str) -> list[str]:
    """The groups that offer no choice, with their braces: they were probably meant as text."""
    found: list[str] = []
    start: int | None = None
    for sign in _signs(pattern):
        if sign.kind == "{":
            start = sign.start
            continue
        if sign.kind == "}" and start is not None:
            found.append(pattern[start : sign.end])
        start = None  # outside of a group, or in one with a choice
    return found


def _alternatives(group: list[list[list[str]]]) -> list[str]:
    for choices in group:
        _check_number(math.prod(len(choice) for choice in choices))
    return ["".join(choice) for choices in group for choice in itertools.product(*choices)]


def _near(pattern: str) -> str:
    return repr(pattern if len(pattern) <= 60 else pattern[:57] + "...")


def _check_number(number: int) -> None:
    if number > MAX_PROMPTS:
        raise JobError(f"That makes {number} prompts; the most at once is {MAX_PROMPTS}, so split it.")
