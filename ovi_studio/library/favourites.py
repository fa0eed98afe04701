"""Which clips people marked. Kept in a small file of its own, so that losing the index loses none of them.

A favourite is a recipe (settings, first frame and what the clip's record says), not a file name: it stays when a file
is renamed, moved to the trash and back, or copied along with the state folder to another machine. Two exact copies of
one file are one favourite.
"""

import itertools
import json
from pathlib import Path

from ovi_studio.media.small_files import folder_errors, write_atomically


def read_favourites(path: Path) -> set[str]:
    """The marked recipes; a file that is damaged is kept aside and an empty set begun. Raises `JobError`."""
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
    """On the disk when this returns; raises `JobError`."""
    write_atomically(path, json.dumps(sorted(recipes), indent=0).encode())


def _set_aside(path: Path) -> None:
    for number in itertools.count(1):
        aside = path.with_name(f"{path.name}.damaged-{number}")
        if not aside.exists():
            path.replace(aside)
            return
