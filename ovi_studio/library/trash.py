"""The trash: removed clips, each with its poster in a separate subfolder of the state folder.

Clips with equal names therefore do not collide. Restoring never replaces a file: the clip gets the next free name, as
in `clip_names.claim_clip_path`.
"""

import contextlib
import re
import secrets
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from ovi_studio.core.errors import JobError
from ovi_studio.library.clips import TrashedClip
from ovi_studio.media.clip_files import read_record
from ovi_studio.media.clip_names import claim_clip_path
from ovi_studio.media.small_files import folder_errors, move_file, part_path

_ID = re.compile(r"[0-9a-f]{24}")


class Trash:
    """The trash of one studio."""

    def __init__(self, folder: Path, outputs: Path) -> None:
        self.folder = folder
        self.outputs = outputs
        self._hidden: set[str] = set()

    def put(self, clip: Path) -> str:
        """Move a clip and its poster to the trash; returns the id of the entry. Raises `JobError`."""
        entry = self.folder / f"{time.time_ns() // 10**6:012x}{secrets.token_hex(6)}"
        poster = clip.with_suffix(".jpg")
        with folder_errors(self.folder):
            entry.mkdir(parents=True)
            try:
                # If this is interrupted between the two moves, the clip is still in the library and gets a new poster.
                if poster.is_file() and not poster.is_symlink():
                    move_file(poster, entry / poster.name)
                move_file(clip, entry / clip.name)
            except BaseException:
                with contextlib.suppress(OSError):
                    if (entry / poster.name).exists() and not poster.exists():
                        move_file(entry / poster.name, poster)
                    entry.rmdir()
                raise
        return entry.name

    def clips(self) -> list[TrashedClip]:
        """The clips in the trash, the latest first."""
        found = [_describe(entry, clip) for entry, clip in self._entries() if entry.name not in self._hidden]
        return sorted(found, key=lambda clip: clip.id, reverse=True)

    def restore(self, trashed: str) -> Path:
        """Move a clip back, renamed if its name is taken; returns its path. Raises `JobError`."""
        for entry, clip in self._entries():
            if entry.name == trashed:
                with folder_errors(self.outputs):
                    self.outputs.mkdir(parents=True, exist_ok=True)
                    return self._move_back(entry, clip)
        raise JobError("That clip is no longer in the trash; reload the library.")

    def empty(self) -> list[str]:
        """Hide everything in the trash; returns the ids for `show_again` or `delete`."""
        found = [entry.name for entry, _ in self._entries(also_incomplete=True) if entry.name not in self._hidden]
        self._hidden.update(found)
        return found

    def show_again(self, trashed: Collection[str]) -> None:
        """Take back `empty`."""
        self._hidden.difference_update(trashed)

    def delete(self, trashed: Collection[str]) -> None:
        """Delete entries permanently, but for those that were restored; what cannot be deleted is shown again."""
        try:
            for entry, _ in self._entries(also_incomplete=True):
                if entry.name in trashed:
                    with folder_errors(self.folder):
                        shutil.rmtree(entry)
        finally:
            self.show_again(trashed)

    def _move_back(self, entry: Path, clip: Path) -> Path:
        target = claim_clip_path(self.outputs, clip.stem)
        try:
            poster = clip.with_suffix(".jpg")
            # The poster first, so that a clip never appears without its poster.
            if poster.is_file():
                move_file(poster, target.with_suffix(".jpg"))
            move_file(clip, target)
        finally:
            part_path(target).unlink(missing_ok=True)
        shutil.rmtree(entry, ignore_errors=True)
        return target

    def _entries(self, also_incomplete: bool = False) -> Iterator[tuple[Path, Path]]:
        """(folder, mp4) of every entry that this class created; other files are ignored.

        Args:
            also_incomplete: include entries without an mp4, with the folder in place of the mp4.
        """
        with folder_errors(self.folder):
            entries = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        for entry in entries:
            if not _ID.fullmatch(entry.name) or entry.is_symlink() or not entry.is_dir():
                continue
            clip = next(iter(sorted(entry.glob("*.mp4"))), None)
            if clip is not None and clip.is_file() and not clip.is_symlink():
                yield entry, clip
            elif also_incomplete:
                yield entry, entry


def _describe(entry: Path, clip: Path) -> TrashedClip:
    try:
        prompt = read_record(clip)["spec"].get("prompt")
    except JobError:
        prompt = None
    poster = clip.with_suffix(".jpg")
    return TrashedClip(
        id=entry.name,
        name=clip.name,
        prompt=prompt if isinstance(prompt, str) else "",
        poster=poster if poster.is_file() and not poster.is_symlink() else None,
        trashed=int(entry.name[:12], 16) / 1000,
    )
