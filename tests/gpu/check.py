"""What a check is: a function that is given a `Rig`, notes figures in `Findings`, and raises if something is wrong.

Its docstring's first line says what it shows. Figures are noted as they are measured: those of a check that fails later
are reported as well.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch


class CheckFailure(Exception):
    """What was shown to be wrong, in a sentence."""


class Skipped(Exception):
    """What this machine lacks for the check, in a sentence."""


class Figure(NamedTuple):
    value: float
    unit: str
    """Empty for a ratio or a relative error."""


@dataclass
class Findings:
    """What one check has found so far."""

    figures: dict[str, Figure] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    """Parts of the check that this machine cannot run, each with the reason."""

    def note(self, name: str, value: float, unit: str = "") -> None:
        self.figures[name] = Figure(float(value), unit)

    def leave_out(self, name: str, reason: str) -> None:
        self.left_out[name] = reason


@dataclass(frozen=True)
class Rig:
    """What the checks run on."""

    device: torch.device
    small: bool
    """Tiny models in place of full-size ones."""
    folder: Path
    """For files of the check at hand."""

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def dtype(self) -> torch.dtype:
        """What the models compute in, as `Compute.of` has it."""
        return torch.bfloat16 if self.on_gpu else torch.float32


@dataclass(frozen=True)
class Check:
    name: str
    run: Callable[[Rig, Findings], None]

    @property
    def shows(self) -> str:
        """What it shows, in a line."""
        return (self.run.__doc__ or "").strip().splitlines()[0]


def require(condition: object, sentence: str) -> None:
    """Raises `CheckFailure` unless the condition holds."""
    if not condition:
        raise CheckFailure(sentence)
