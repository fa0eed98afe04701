"""The user's favourites, stored in a small separate file so that they survive the loss of the index.

A favourite is a recipe (settings, first frame and the clip's record), not a file name: it persists when a file is
renamed, moved to the trash and back, or copied along with the state folder to another machine. Exact copies of a file
are the same favourite.
"""

import itertools
import json
from pathlib import Path

from ovi_studio.media.small_files import folder_errors, write_atomically


def read_favourites(path: Path) -> set[str]:
    """The marked recipes; a damaged file is renamed, and the set is then empty. Raises `JobError`."""
    with folder_errors(path.parent):
        try:
            stored = json.loads(path.read_bytes())
            if isinstance(stored, list) and all(isinstance(recipe, str) for recipe in stored):
                return set(stored)
        except FileNotFoundError:
            return set()
        except (ValueError, RecursionError):
            pass
        _set_aside(path)
    return set()


def write_favourites(path: Path, recipes: set[str]) -> None:
    """Store the marked recipes; they are on the disk when this returns. Raises `JobError`."""
    write_atomically(path, json.dumps(sorted(recipes), indent=0).encode())


def _set_aside(path: Path) -> None:
    for number in itertools.count(1):
        aside = path.with_name(f"{path.name}.damaged-{number}")
        if not aside.exists():
            path.replace(aside)
            return
