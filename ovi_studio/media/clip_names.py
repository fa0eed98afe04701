"""File names of clips: safe on every system, and claimed so that no clip ever replaces another file."""

import itertools
import os
import re
import unicodedata
from pathlib import Path

from ovi_studio.core.errors import JobError
from ovi_studio.media.small_files import is_windows_device, part_path

MAX_NAME_LENGTH = 50
"""Characters of the prompt in a file's name; the rest of the name is about 30 more."""


def file_stem(text: str) -> str:
    """Letters and digits of any script, joined by underscores: a safe file name on every system."""
    without_tags = re.sub(r"</?[A-Za-z]+>", " ", text)
    # "M" are marks that belong to the letter before them, as in Hindi or Thai.
    kept = (c if unicodedata.category(c)[0] in "LMN" else " " for c in unicodedata.normalize("NFC", without_tags))
    stem = "_".join("".join(kept).split())[:MAX_NAME_LENGTH].strip("_")
    return "clip" if not stem or is_windows_device(stem) else stem


def claim_clip_path(directory: Path, stem: str, suffix: str = ".mp4") -> Path:
    """A free path for an mp4 and its poster, reserved by an empty part file; `stem` gets a counter if it is taken."""
    for number in itertools.count(1):
        path = directory / (f"{stem}{suffix}" if number == 1 else f"{stem}_{number}{suffix}")
        try:
            part_path(path).touch(exist_ok=False)
        except FileExistsError:
            continue
        # Only the owner of the part file may take the name, but another process may have taken it a moment ago.
        if not os.path.lexists(path) and not os.path.lexists(path.with_suffix(".jpg")):
            return path
        part_path(path).unlink(missing_ok=True)
    raise AssertionError("unreachable: the counter is infinite")


def check_name_free(path: Path) -> None:
    """Raise `JobError` if an mp4 of this name would get a counter, since it or its poster would replace a file."""
    for taken in (path, path.with_suffix(".jpg"), part_path(path)):
        if os.path.lexists(taken):
            raise JobError(f"{taken} exists and is never replaced; delete it, or choose another name for the clip.")
