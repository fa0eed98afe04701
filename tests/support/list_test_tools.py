"""Prints the packages that tests need in addition to `requirements.txt`, one per line: the extra `test`."""

import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
print("\n".join(project["optional-dependencies"]["test"]))
