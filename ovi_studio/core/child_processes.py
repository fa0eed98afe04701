"""What child processes of this program need."""

import os
from pathlib import Path

import ovi_studio


def child_environment() -> dict[str, str]:
    """The environment in which `python -m ovi_studio...` finds this package, whatever the current folder is."""
    home = str(Path(ovi_studio.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])}
