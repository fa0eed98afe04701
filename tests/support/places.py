"""Paths of the tests, their helpers and the project, and the environment of child processes."""

import os
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
TESTS = SUPPORT.parent
ROOT = TESTS.parent
REFERENCE = TESTS / "reference"
"""Reference values of the official implementation."""
PYTHON_PATH = os.pathsep.join(map(str, (SUPPORT, TESTS / "ranks", TESTS, ROOT)))
"""For processes that import the package, a helper, or a multi-rank program."""
FORKING_PATH = os.pathsep.join((str(SUPPORT / "forked_ranks"), PYTHON_PATH))
"""The same for launchers that fork their ranks (see `forking_launcher`)."""
