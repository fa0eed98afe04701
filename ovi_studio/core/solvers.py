"""The solvers that walk from noise to latents, by name: what people read about them. Imports no torch.

The page, the command line and `ClipSpec` take the names from `SOLVERS`; what computes is registered under the same
names in `sampling/solvers.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ovi_studio.core.errors import JobError


@dataclass(frozen=True)
class Solver:
    """One way to solve the flow's differential equation."""

    name: str
    """In settings, files and calls."""
    title: str
    """On the page."""
    about: str
    """What it is good for: the help on the page, a few words without a full stop."""
    source: str
    """The paper."""


_SOLVERS = (
    Solver("unipc", "UniPC", "the default of the model", "arXiv 2302.04867"),
    Solver("euler", "Euler", "first order, for many few-step adapters", "arXiv 2210.02747"),
    Solver("dpm++", "DPM++ 2M", "as UniPC without its correction", "arXiv 2211.01095"),
    Solver("restart", "Restart", "fresh noise in every step, for models distilled that way", "arXiv 2303.01469"),
)
SOLVERS: Mapping[str, Solver] = MappingProxyType({solver.name: solver for solver in _SOLVERS})
"""Name -> solver, in the order in which they are shown."""


def find_solver(name: Any) -> Solver:
    """The solver called `name`; raises `JobError` that lists the names there are."""
    if not isinstance(name, str) or name not in SOLVERS:
        raise JobError(f"Solver {name!r} is not known; choose one of {', '.join(SOLVERS)}.")
    return SOLVERS[name]


def describe_solvers() -> str:
    """What each of them is good for, in one line."""
    return "; ".join(f"{solver.title}: {solver.about}" for solver in SOLVERS.values())
