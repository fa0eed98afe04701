"""Names and descriptions of the solvers. Imports no torch.

The page, the command line and `ClipSpec` take the names from `SOLVERS`; the implementations are registered under the
same names in `sampling/solvers.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ovi_studio.core.errors import JobError


@dataclass(frozen=True)
class Solver:
    """A method to integrate the flow's differential equation."""

    name: str
    """Used in settings, files and API calls."""
    title: str
    """Shown on the page."""
    about: str
    """What it is good for: a few words for the page's help, without a full stop."""
    source: str
    """The paper."""


_SOLVERS = (
    Solver("unipc", "UniPC", "the default of the model", "arXiv 2302.04867"),
    Solver("euler", "Euler", "first order, for many few-step adapters", "arXiv 2210.02747"),
    Solver("dpm++", "DPM++ 2M", "as UniPC without its correction", "arXiv 2211.01095"),
    Solver("restart", "Restart", "fresh noise in every step, for models distilled that way", "arXiv 2303.01469"),
)
SOLVERS: Mapping[str, Solver] = MappingProxyType({solver.name: solver for solver in _SOLVERS})
"""Name -> solver, in display order."""


def find_solver(name: Any) -> Solver:
    """The solver called `name`; raises `JobError` that lists the valid names."""
    if not isinstance(name, str) or name not in SOLVERS:
        raise JobError(f"Unknown solver {name!r}; choose one of {', '.join(SOLVERS)}.")
    return SOLVERS[name]


def describe_solvers() -> str:
    """All solvers and what they are good for, in one line."""
    return "; ".join(f"{solver.title}: {solver.about}" for solver in SOLVERS.values())
