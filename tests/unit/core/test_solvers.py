"""The solvers that can be named: everything that offers them offers all of them."""

import re
from pathlib import Path

import pytest

from ovi_studio.core.solvers import SOLVERS, describe_solvers
from ovi_studio.core.spec import ClipSpec

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize(
    ("file", "line"), [("command-line.md", r"\| `--solver` \|.*"), ("api.md", r"`solver` \(.*?\)")]
)
def test_the_docs_name_every_solver_and_no_other(file: str, line: str) -> None:
    found = re.search(line, (DOCS / file).read_text(encoding="utf-8"))
    assert found
    assert set(re.findall(r"`([\w+]+)`", found[0])) - {"solver"} == set(SOLVERS)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_clip_can_have_every_solver_that_is_offered(solver: str) -> None:
    assert ClipSpec(prompt="a", variant="tiny", solver=solver).solver == solver


def test_people_read_about_every_solver() -> None:
    assert all(solver.title in describe_solvers() for solver in SOLVERS.values())
    assert all(solver.source.startswith("arXiv ") for solver in SOLVERS.values())
