"""The adapters of a clip and their strengths, as text and JSON. Imports no torch.

A strength is a number, or a schedule over the steps. `a;b;c` divides the steps into as many equal spans as there are
entries, and `a,b` inside a span divides it again. With n steps and k entries, step i (from 0) takes entry
floor(i * k / n): `1;0` over 7 steps is 1 for steps 0 to 3 and 0 for steps 4 to 6; `0.9,0.8` divides a single span in
the same way; `1;0.5,0` is 1 for half of the steps, 0.5 for a quarter and 0 for the last quarter. If there are more
entries than steps, some are skipped. `0,8` is refused: it could be a number with a decimal comma, or a schedule.
"""

import hashlib
import json
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ovi_studio.core.errors import JobError
from ovi_studio.core.towers import Tower

MAX_STRENGTH = 10.0
MAX_ENTRIES = 1000
MAX_STACK = 32
MAX_NAME = 400
_DECIMAL_COMMA = re.compile(r"(?=.*[1-9])\s*[+-]?\d+,\d+\s*")
_EXAMPLES = "for example 0.8, or 1;0 for the first and second half of the steps"


@dataclass(frozen=True)
class Strength:
    """How strongly an adapter acts on one tower, step by step."""

    spans: tuple[tuple[float, ...], ...] = ((1.0,),)

    @classmethod
    def parse(cls, value: "str | int | float | Strength") -> "Strength":
        """From a number or a string like `0.8`, `1;0`, `0.9,0.8`; raises `JobError`, also for an ambiguous comma."""
        if isinstance(value, str) and any(map(_DECIMAL_COMMA.fullmatch, value.split(";"))):
            text = value.strip()
            number, schedule = text.replace(",", "."), text.replace(",", ".0,") + ".0"
            raise JobError(
                f"Strength {reprlib.repr(value)} has a comma that could be a decimal one; write "
                f"{reprlib.repr(number)[1:-1]}, or {reprlib.repr(schedule)[1:-1]} for one strength after the other."
            )
        return cls.recorded(value)

    @classmethod
    def recorded(cls, value: "str | int | float | Strength") -> "Strength":
        """As `parse`, from a text that this app wrote, in which a comma always separates; raises `JobError`."""
        if isinstance(value, Strength):
            return value
        text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
        if not isinstance(text, str) or len(text) > 16 * MAX_ENTRIES:
            raise JobError(f"{reprlib.repr(value)} is not a valid strength; write a number or a schedule, {_EXAMPLES}.")
        try:
            spans = tuple(tuple(float(entry) for entry in span.split(",")) for span in text.split(";"))
        except ValueError:
            sentence = f"{reprlib.repr(text)} is not a valid strength; write a number or a schedule, {_EXAMPLES}."
            raise JobError(sentence) from None
        entries = [entry for span in spans for entry in span]
        if not all(abs(entry) <= MAX_STRENGTH for entry in entries):
            raise JobError(f"Strength {reprlib.repr(text)} is out of range; use -{MAX_STRENGTH:g} to {MAX_STRENGTH:g}.")
        if len(entries) > MAX_ENTRIES:
            raise JobError(f"A strength schedule has {len(entries)} entries; use at most {MAX_ENTRIES}.")
        return cls(spans)

    def at(self, step: int, steps: int) -> float:
        """The strength in step `step` (from 0) of `steps`."""
        # Integers only: a rounded fraction could move a boundary by one step.
        position = step * len(self.spans)
        span = self.spans[position // steps]
        return span[position % steps * len(span) // steps]

    def over(self, steps: int) -> tuple[float, ...]:
        """The strength in every step; a single entry if it is constant."""
        values = tuple(self.at(step, steps) for step in range(steps))
        return values[:1] if len(set(values)) == 1 else values

    @property
    def zero(self) -> bool:
        """Whether it is 0 in every step."""
        return not any(entry for span in self.spans for entry in span)

    def __str__(self) -> str:
        return ";".join(_span_text(span) for span in self.spans)


def _span_text(span: tuple[float, ...]) -> str:
    texts = [f"{entry:.12g}" for entry in span]
    text = ",".join(texts)
    return f"{texts[0]}.0,{texts[1]}" if _DECIMAL_COMMA.fullmatch(text) else text


@dataclass(frozen=True, kw_only=True)
class AdapterUse:
    """One adapter of a clip. Raises `JobError` if a value exceeds its limits."""

    name: str
    """Path below the adapter folder, with `/`; looked up among the existing files, never opened directly."""
    sha256: str | None = None
    """Hash of the file that the clip was made with; None accepts any file of this name."""
    video: Strength = Strength()
    audio: Strength = Strength()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not 0 < len(self.name) <= MAX_NAME or not self.name.isprintable():
            raise JobError(f"{reprlib.repr(self.name)} is not a valid adapter name.")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", str(self.sha256)):
            given = reprlib.repr(self.sha256)
            raise JobError(f"{given} is not a valid SHA-256 for adapter {self.name}; it needs 64 hex digits.")

    @property
    def zero(self) -> bool:
        """Whether the adapter changes nothing."""
        return self.video.zero and self.audio.zero

    def strength(self, tower: Tower) -> Strength:
        return self.video if tower == "video" else self.audio

    def pinned(self, sha256: str) -> "AdapterUse":
        """Return a copy with the hash of its file; raises `JobError` if it already has the hash of another one."""
        if self.sha256 not in (None, sha256):
            raise JobError(
                f"Adapter {self.name} is not the file that the clip was made with: its SHA-256 is {sha256}, "
                f"not {self.sha256}; put that file back, or choose the adapter again."
            )
        return replace(self, sha256=sha256)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return {"name": self.name, "sha256": self.sha256, "video": str(self.video), "audio": str(self.audio)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "AdapterUse":
        """Inverse of `to_dict`; raises `JobError` for unknown keys and values of the wrong type."""
        unknown = sorted(str(name) for name in set(values) - {"name", "sha256", "video", "audio"})
        if unknown:
            raise JobError(
                f"An adapter has the unknown key {unknown[0][:40]}; valid keys are name, sha256, video, audio."
            )
        if "name" not in values:
            raise JobError("An adapter has no name; give its path below the adapter folder.")
        # Clips and jobs have always recorded the hash, which people do not write.
        parse = Strength.recorded if "sha256" in values else Strength.parse
        strengths = {tower: parse(values[tower]) for tower in ("video", "audio") if tower in values}
        return cls(name=values["name"], sha256=values.get("sha256") or None, **strengths)


Stack = tuple[AdapterUse, ...]
"""The adapters of a clip; their order does not matter."""


def parse_stack(value: Any) -> Stack:
    """A stack from JSON: a list of {name, sha256, video, audio}, or its text; None and "" mean no adapters.

    Raises `JobError` with the reason.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else []
        except (ValueError, RecursionError):
            raise JobError(f"{reprlib.repr(value)} is not a JSON list of adapters.") from None
    entries: Sequence[Any] = [] if value is None else value
    if not isinstance(entries, list | tuple) or not all(isinstance(entry, Mapping | AdapterUse) for entry in entries):
        raise JobError("Adapters must be a list of entries with name, video and audio strength.")
    uses = tuple(entry if isinstance(entry, AdapterUse) else AdapterUse.from_dict(entry) for entry in entries)
    if len(uses) > MAX_STACK:
        raise JobError(f"A clip can use at most {MAX_STACK} adapters, not {len(uses)}.")
    names = [use.name for use in uses]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise JobError(f"Adapter {twice} is listed twice; give it one strength.")
    return uses


def parse_use(text: str) -> AdapterUse:
    """Parse `NAME`, `NAME=0.8` or `NAME=0.8:0.2` (video, audio) from a command line; raises `JobError`."""
    name, equals, strengths = text.rpartition("=")
    if not equals:
        return AdapterUse.from_dict({"name": text})
    video, colon, audio = strengths.partition(":")
    return AdapterUse.from_dict({"name": name, "video": video, "audio": audio if colon else video})


def stack_to_json(stack: Iterable[AdapterUse]) -> list[dict[str, Any]]:
    """Plain JSON values that `parse_stack` accepts."""
    return [use.to_dict() for use in stack]


def combined_sha256(weights: str, config: str | None) -> str:
    """The hash that identifies an adapter, from those of its files: a PEFT folder's configuration affects its scale."""
    return weights if config is None else hashlib.sha256(f"{weights}{config}".encode()).hexdigest()
