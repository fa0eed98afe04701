"""The output folder as it is on the disk: which clips could be in it, and whether one is still as it was read."""

import os
import sqlite3
import stat
from pathlib import Path

from ovi_studio.library.index import Stamp
from ovi_studio.media.small_files import folder_errors, is_storable


def scan_folder(folder: Path) -> dict[str, Stamp]:
    """The mp4 files directly in a folder; none if the folder does not exist."""
    with folder_errors(folder):
        try:
            with os.scandir(folder) as entries:
                files = {entry.name: entry for entry in entries if entry.name.endswith((".mp4", ".jpg"))}
        except FileNotFoundError:
            return {}
    found = {}
    for name, entry in files.items():
        if not name.endswith(".mp4") or not is_storable(name):
            continue
        try:
            if not entry.is_file(follow_symlinks=False):
                continue
            status = entry.stat(follow_symlinks=False)
        except OSError:
            continue  # deleted in the meantime
        poster = files.get(f"{name[:-4]}.jpg")
        has_poster = poster is not None and poster.is_file(follow_symlinks=False)
        found[name] = Stamp(status.st_size, status.st_mtime_ns, has_poster)
    return found


def is_same_file(one: Stamp, other: Stamp | None) -> bool:
    """Whether two stamps are of the same version of an mp4, with or without a poster."""
    return other is not None and (one.bytes, one.modified) == (other.bytes, other.modified)


def is_listed(path: Path, row: sqlite3.Row) -> bool:
    """Whether the file exists, is not a link, and matches the row."""
    try:
        status = path.lstat()
    except OSError:
        return False
    same = (status.st_size, status.st_mtime_ns) == (row["bytes"], row["modified"])
    return stat.S_ISREG(status.st_mode) and same
