"""What is installed: one list of what a user needs, exact versions for all of it, and nothing that only tests need."""

import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def read(name: str) -> dict[str, Requirement]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines())
    return {canonicalize_name(found.name): found for found in map(Requirement, filter(None, lines))}


WANTED, EXACT = read("requirements.txt"), read("constraints.txt")
TOOLS = {canonicalize_name(Requirement(tool).name) for tool in PROJECT["project"]["optional-dependencies"]["test"]}


def test_a_wheel_and_the_launchers_read_the_same_list_of_requirements() -> None:
    assert "dependencies" in PROJECT["project"]["dynamic"]
    assert PROJECT["tool"]["hatch"]["metadata"]["hooks"]["requirements_txt"] == {"files": ["requirements.txt"]}
    for launcher in ("launch.sh", "launch.bat"):
        text = (ROOT / launcher).read_text(encoding="utf-8")
        assert "requirements.installed requirements.txt" in text
        assert "-c constraints.txt" in text


@pytest.mark.parametrize("name", sorted({*WANTED, *TOOLS}))
def test_what_is_required_has_an_exact_version_that_will_do(name: str) -> None:
    (pin,) = EXACT[name].specifier
    assert pin.operator == "=="
    assert name not in WANTED or WANTED[name].specifier.contains(pin.version)


def test_the_tools_of_the_tests_are_no_requirement_of_a_user() -> None:
    assert not TOOLS & WANTED.keys()


def test_what_belongs_to_one_platform_is_left_to_torch() -> None:
    assert not [name for name in EXACT if name.startswith(("nvidia-", "cuda-", "triton"))]
    assert "+" not in str(EXACT["torch"].specifier), "its build is the choice of whoever sets up"
