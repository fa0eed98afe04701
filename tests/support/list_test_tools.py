"""Prints what the tests need beyond `requirements.txt`, one a line: the extra `test` of `pyproject.toml`."""

import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
print("\n".join(project["optional-dependencies"]["test"]))
