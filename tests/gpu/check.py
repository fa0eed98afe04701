"""A check: a function that takes a `Rig`, notes figures in `Findings`, and raises if something is wrong.

The first line of its docstring says what it shows. Figures are noted when they are measured, so that those of a check
that fails later are reported as well.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch


class CheckFailure(Exception):
    """Something is wrong; the message is a sentence that says what."""


class Skipped(Exception):
    """The check cannot run on this machine; the message says why."""


class Figure(NamedTuple):
    value: float
    unit: str
    """Unit, empty for a ratio or a relative error."""


@dataclass
class Findings:
    """The results of one check so far."""

    figures: dict[str, Figure] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    """Parts of the check that this machine cannot run, each with the reason."""

    def note(self, name: str, value: float, unit: str = "") -> None:
        self.figures[name] = Figure(float(value), unit)

    def leave_out(self, name: str, reason: str) -> None:
        self.left_out[name] = reason


@dataclass(frozen=True)
class Rig:
    """The environment of the checks."""

    device: torch.device
    small: bool
    """Use tiny models instead of full-size ones."""
    folder: Path
    """Folder for files of the current check."""

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the models, as in `Compute.of`."""
        return torch.bfloat16 if self.on_gpu else torch.float32


@dataclass(frozen=True)
class Check:
    name: str
    run: Callable[[Rig, Findings], None]

    @property
    def shows(self) -> str:
        """What the check shows, in one line."""
        return (self.run.__doc__ or "").strip().splitlines()[0]


def require(condition: object, sentence: str) -> None:
    """Raise `CheckFailure` unless the condition holds."""
    if not condition:
        raise CheckFailure(sentence)
