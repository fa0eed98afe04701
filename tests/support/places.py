"""Where the tests, what they share, and the project lie; and what a process of theirs must find."""

import os
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
TESTS = SUPPORT.parent
ROOT = TESTS.parent
REFERENCE = TESTS / "reference"
"""Numbers of the official implementation."""
PYTHON_PATH = os.pathsep.join(map(str, (SUPPORT, TESTS / "ranks", TESTS, ROOT)))
"""For a process that imports the package, a helper, or a program of several ranks."""
