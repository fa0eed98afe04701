"""Scores of an evaluation, and the table of `docs/demo-model.md`. Imports no torch."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

QUESTIONS = ("colour", "shape", "background", "motion", "sound", "impacts")
"""The scored properties; impacts only in scenes that have some."""
_HEADINGS = {
    "impacts": "impacts within 80 ms",
    "all_named": "everything named",
    "sharpness": "sharpness",
    "kept": "keeps colour and place",
}
_COLUMNS = (*QUESTIONS, "all_named", "sharpness", "kept")


@dataclass(frozen=True)
class Scores:
    """Fractions of the clips that are right, 0 to 1; None if a property was not judged in any clip."""

    clips: int
    colour: float | None
    shape: float | None
    background: float | None
    motion: float | None
    sound: float | None
    impacts: float | None
    """Fraction of the impacts that are seen and heard within 80 ms."""
    all_named: float | None
    """Fraction of the clips of short prompts that show one clean object and everything that is named."""
    sharpness: float | None
    """Mean width of drawn edges relative to the clips' edges, at most 1."""
    kept: float | None
    """Fraction of the clips whose object keeps its colour and position of the first frame."""
    seconds: float | None
    """Mean seconds per clip."""


def score(rows: Iterable[Mapping[str, Any]]) -> Scores:
    """Return the scores of rows written by `demo.evaluate`."""
    rows = list(rows)
    names = (*_COLUMNS, "seconds")
    answers = {name: [row[name] for row in rows if row.get(name) is not None] for name in names}
    return Scores(len(rows), **{name: fmean(values) if values else None for name, values in answers.items()})


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return a Markdown table with three lines for each setting: all, trained and held-out combinations."""
    rows = list(rows)
    kinds: dict[str, Callable[[Mapping[str, Any]], bool]] = {
        "all": lambda row: True,
        "trained on": lambda row: not row["held_out"],
        "held out": lambda row: row["held_out"],
    }
    headings = ["setting", "combinations", "clips", *(_HEADINGS.get(name, name) for name in _COLUMNS), "seconds a clip"]
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for setting in dict.fromkeys(row["setting"] for row in rows):
        for kind, belongs in kinds.items():
            scores = score(row for row in rows if row["setting"] == setting and belongs(row))
            if scores.clips:
                lines.append(_line(setting, kind, scores))
    return "\n".join(lines)


def _line(setting: str, kind: str, scores: Scores) -> str:
    parts = [_percent(getattr(scores, name)) for name in _COLUMNS]
    seconds = "" if scores.seconds is None else f"{scores.seconds:.1f}"
    return f"| {' | '.join([setting, kind, str(scores.clips), *parts, seconds])} |"


def _percent(part: float | None) -> str:
    return "" if part is None else f"{100 * part:.1f}%"
