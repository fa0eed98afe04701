"""The search of the library: one line of words and fields, such as `seed:42 model:demo before:2026-01-01 fox`.

A word occurs in the prompt or in a tag, in part and without regard to case and accents; `"two words"` are one. A minus
in front excludes, as in `-snow` or `-tag:draft`. The fields are

    seed:42  model:960x960  lora:film  tag:sea  is:favourite  has:frame
    before:2026-01-01  after:2026  on:2026-05     (a day, month or year, in local time; before and after exclude it)

A field without a value is still being typed and means nothing. A word with a colon that is no field is a word.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from ovi_studio.core.errors import JobError
from ovi_studio.library.text import fold

MAX_SEARCH_LENGTH = 500
"""Characters; the rest of a longer search is ignored."""
SYNTAX = (
    "seed:42",
    "model:demo",
    "lora:film",
    "tag:sea",
    "is:favourite",
    "has:frame",
    "before:2026-01-01",
    "-snow",
    '"two words"',
)
"""An example of everything that can be searched for."""

_TERM = re.compile(r'(-?)(?:([a-z]+):)?(?:"([^"]*)"?|(\S*))', re.IGNORECASE)
_DATE = re.compile(r"(\d{4})(?:-(\d{1,2}))?(?:-(\d{1,2}))?")
Kind = Literal["word", "seed", "model", "lora", "tag", "favourite", "frame", "from", "until"]


@dataclass(frozen=True)
class Term:
    """One condition, all of which a clip must meet."""

    kind: Kind
    value: str | int = ""
    """Folded text, a number, or the seconds since 1970 of a limit (`from` includes it, `until` does not)."""
    excluded: bool = False


def parse_search(text: str) -> tuple[Term, ...]:
    """The terms of a search; raises `JobError` for a field whose value cannot be meant."""
    terms: list[Term] = []
    for match in _TERM.finditer(text[:MAX_SEARCH_LENGTH]):
        minus, field, value = match[1], (match[2] or "").lower(), match[3] or match[4] or ""
        if field not in _FIELDS:
            field, value = "", match[0].removeprefix(minus).replace('"', "")
        value = fold(value).strip()
        if value:
            terms += _FIELDS[field](value, bool(minus))
    return tuple(terms)


def _text(kind: Kind) -> Callable[[str, bool], list[Term]]:
    return lambda value, excluded: [Term(kind, value, excluded)]


def _seed(value: str, excluded: bool) -> list[Term]:
    if not value.isascii() or not value.isdigit() or len(value) > 19:
        raise JobError("The field seed: needs a number, such as seed:42.")
    # As text, since the largest seeds exceed SQLite's integers.
    return [Term("seed", str(int(value)), excluded)]


def _choice(field: str, kind: Kind, word: str) -> Callable[[str, bool], list[Term]]:
    def parse(value: str, excluded: bool) -> list[Term]:
        if not word.startswith(value):
            raise JobError(f"The field {field}: only knows {field}:{word}.")
        return [Term(kind, "", excluded)]

    return parse


def _dates(field: str) -> Callable[[str, bool], list[Term]]:
    def parse(value: str, excluded: bool) -> list[Term]:
        start, end = _period(field, value)
        limits = {"before": (None, start), "after": (end, None), "on": (start, end)}[field]
        if excluded:
            if field == "on":
                raise JobError("The field on: cannot be excluded; use before: or after: instead.")
            limits = limits[1], limits[0]
        kinds: tuple[Kind, Kind] = ("from", "until")
        return [Term(kind, limit) for kind, limit in zip(kinds, limits, strict=True) if limit is not None]

    return parse


def _period(field: str, value: str) -> tuple[int, int]:
    """The first second of a day, month or year in local time, and the first one after it."""
    match = _DATE.fullmatch(value)
    try:
        if match is None:
            raise ValueError(value)
        year, month, day = (None if part is None else int(part) for part in match.groups())
        assert year is not None
        time.strptime(f"{year}-{month or 1}-{day or 1}", "%Y-%m-%d")
        following = (year, month, day + 1) if month and day else (year, month + 1, 1) if month else (year + 1, 1, 1)
        return _seconds(year, month or 1, day or 1), _seconds(*following)
    except (ValueError, OverflowError):
        raise JobError(f"The field {field}: needs a day, month or year, such as {field}:2026-01-31.") from None


def _seconds(year: int, month: int, day: int) -> int:
    # `mktime` carries over the 32nd of a month and the 13th month.
    return int(time.mktime((year, month, day, 0, 0, 0, 0, 0, -1)))


_FIELDS: Mapping[str, Callable[[str, bool], list[Term]]] = {
    "": _text("word"),
    "seed": _seed,
    "model": _text("model"),
    "lora": _text("lora"),
    "tag": _text("tag"),
    "is": _choice("is", "favourite", "favourite"),
    "has": _choice("has", "frame", "frame"),
    "before": _dates("before"),
    "after": _dates("after"),
    "on": _dates("on"),
}
