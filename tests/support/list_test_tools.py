"""Prints the packages of an extra of `pyproject.toml`, such as `test`: what is needed besides `requirements.txt`."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
print("\n".join(project["optional-dependencies"][sys.argv[1]]))
