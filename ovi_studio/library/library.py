"""`Library`: the clips of one output folder, for the page.

The folder is the source of truth: a clip is an mp4 directly in it that contains a recipe of this app, no matter how it
got there. Links do not count, so that an id never leads out of the folder; other files and broken ones are ignored.
Nothing is deleted except by `delete_trashed`. Thread-safe; every method may raise `JobError` with advice.
"""

import hashlib
import json
import math
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.library.clips import LibraryClip, Page, Query, TrashedClip
from ovi_studio.library.folder import is_listed, is_same_file, scan_folder
from ovi_studio.library.index import Index, Read, Stamp
from ovi_studio.library.marks import Marks
from ovi_studio.library.probe import Facts, Unreadable, probe
from ovi_studio.library.text import fold
from ovi_studio.library.trash import Trash
from ovi_studio.media.clip_files import FirstFrameMissing, make_poster, read_spec
from ovi_studio.media.clip_names import claim_clip_path, file_stem
from ovi_studio.media.small_files import folder_errors, move_file, part_path, write_atomically
from ovi_studio.queue.files import keep_last_frame
from ovi_studio.queue.paths import StudioPaths

_GONE = "That clip is no longer in the library; reload the library."


class Library:
    """The clips in the output folder of `paths`; call `refresh` before reading."""

    def __init__(self, paths: StudioPaths) -> None:
        self.paths = paths
        self.revision = 0
        """Increases with every change that was found or made, so that the page can detect changes."""
        self._index = Index(paths.state / "library.db")
        self._trash = Trash(paths.state / "trash", paths.outputs)
        # Serialises refreshes and changes; reading needs no lock.
        self._changing = threading.RLock()
        self._known: Marks | None = None
        self._scanned = -math.inf
        """When the folder was last scanned, on the monotonic clock."""
        self._seen: tuple[int, dict[str, Stamp]] | None = None
        """The folder contents that the index reflects, so that an unchanged folder needs no access to the index."""

    # Reading

    def refresh(self, older_than: float = 0) -> bool:
        """Scan the folder and read only new and changed files. Returns whether anything has changed.

        Args:
            older_than: seconds; does nothing if the folder was scanned more recently.
        """
        with self._changing:
            if time.monotonic() - self._scanned < older_than:
                return False
            self._scanned = time.monotonic()
            marks = self._marks()
            found = scan_folder(self.paths.outputs)
            if (self._index.opened, found) == self._seen:
                return False
            known = self._index.stamps()
            if found == known:
                self._seen = self._index.opened, found
                return False
            gone = known.keys() - found.keys()
            fresh = [name for name, stamp in found.items() if not is_same_file(stamp, known.get(name))]
            same = found.keys() - set(fresh)
            posters = {name: found[name].poster for name in same if found[name].poster != known[name].poster}
            read = [clip for name in fresh if (clip := self._read(name, found[name], marks)) is not None]
            # The index is about to change; otherwise a folder that changes back would look unchanged.
            self._seen = None
            self._index.update(gone, read, posters)
            self.revision += 1
            return True

    def search(self, query: Query) -> Page:
        """One page of the results of a query, as of the last refresh. Missing posters are created."""
        while True:
            rows, total = self._index.select(query)
            clips = [self._clip(row) for row in rows]
            if None not in clips:
                return Page(tuple(clip for clip in clips if clip is not None), total)
            # A broken clip was found and removed from the index; query again.

    def get(self, clip: str) -> LibraryClip:
        """The clip with this id."""
        found = self._clip(self._row(clip))
        if found is None:
            raise JobError(_GONE)
        return found

    def variants(self) -> list[str]:
        """The names of the variants that occur in the library."""
        return self._index.variants()

    def tags(self) -> list[str]:
        """Every tag of clips, also of trashed ones, in alphabetical order."""
        with self._changing:
            tags = {fold(tag): tag for tags in self._marks().tags.values() for tag in tags}
        return [tags[folded] for folded in sorted(tags)]

    def collections(self) -> Mapping[str, str]:
        """Collections by name, each with its search."""
        with self._changing:
            return self._marks().collections

    def path(self, clip: str) -> Path:
        """The mp4 of a clip: a regular file in the output folder that has not changed since it was listed."""
        return self._path(self._row(clip))

    def find(self, name: str) -> str:
        """The id of the clip in the file of this name, which may have been written a moment ago."""
        self.refresh()
        found = self._index.named(name)
        if found is None:
            raise JobError(_GONE)
        return found

    # Using

    def settings(self, clip: str) -> ClipSpec:
        """The spec that makes a clip again; its first frame is written to the state folder.

        Raises `FirstFrameMissing` if the frame is not in the file any more.
        """
        return _read_settings(self.path(clip), self.paths.pictures)

    def continuation(self, clip: str) -> ClipSpec:
        """The spec of a clip that goes on from the last frame of this one, and has that frame's size.

        What this one kept of another file is not part of what follows.
        """
        try:
            spec = self.settings(clip)
        except FirstFrameMissing as error:
            spec = error.spec
        return replace(spec.without_source(), image=self.last_frame(clip), size=None)

    def last_frame(self, clip: str) -> Path:
        """The exact last frame of a clip as a PNG in the state folder, named by its content hash."""
        return keep_last_frame(self.path(clip), self.paths.pictures)

    def adopt(self, upload: str | Path) -> ClipSpec:
        """The settings in an uploaded mp4 or poster of this app; the file itself is neither stored nor changed.

        Raises `FirstFrameMissing` if the clip had a first frame that is not in the file.
        """
        return _read_settings(Path(upload), self.paths.pictures)

    def add(self, upload: Path, name: str) -> tuple[str, bool]:
        """Move an uploaded clip into the folder; returns its id, and whether it was not there before.

        Args:
            name: its file name on the machine that it came from.
        """
        facts = _facts(upload, name)
        with self._changing:
            self.refresh()
            if known := self._index.with_recipe(facts.recipe):
                return known, False
            with folder_errors(self.paths.outputs):
                self.paths.outputs.mkdir(parents=True, exist_ok=True)
                target = claim_clip_path(self.paths.outputs, file_stem(Path(name).stem))
                try:
                    move_file(upload, target)
                finally:
                    part_path(target).unlink(missing_ok=True)
            self.refresh()
            added = self._index.with_recipe(facts.recipe)
            if added is None:
                raise JobError(f"{name} was moved or deleted meanwhile; add it again.")
            return added, True

    # Changing

    def set_favourite(self, clips: Collection[str], favourite: bool) -> int:
        """Mark or unmark clips; on the disk when this returns. Returns how many of the clips exist."""
        with self._changing:
            rows = self._existing(clips)
            marks = self._marks()
            marks.set_favourite({row["recipe"] for row in rows}, favourite)
            self._index.mark(marks.favourites)
            self.revision += 1
            return len(rows)

    def change_tags(self, clips: Collection[str], *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> int:
        """Add and remove tags, which are equal without case and accents. Returns how many of the clips exist."""
        with self._changing:
            rows, marks = self._existing(clips), self._marks()
            added, removed = {fold(tag): tag for tag in add}, {fold(tag) for tag in remove}
            changed = {}
            for recipe in {row["recipe"] for row in rows}:
                tags = added | {fold(tag): tag for tag in marks.tags.get(recipe, ())}
                changed[recipe] = [tag for folded, tag in tags.items() if folded not in removed]
            marks.set_tags(changed)
            self._index.tag(changed)
            self.revision += 1
            return len(rows)

    def save_collection(self, name: str, search: str) -> str:
        """Save a search as a collection, replacing one of the same name; returns its name."""
        with self._changing:
            self.revision += 1
            return self._marks().save_collection(name, search)

    def delete_collection(self, name: str) -> None:
        """Delete a collection and none of its clips."""
        with self._changing:
            self.revision += 1
            self._marks().delete_collection(name)

    def trash(self, clips: Collection[str]) -> list[str]:
        """Move clips and their posters to the trash; returns their ids there. Missing clips are skipped."""
        with self._changing:
            rows = self._existing(clips)
            trashed = []
            try:
                for row in rows:
                    if is_listed(self.paths.outputs / row["name"], row):
                        trashed.append(self._trash.put(self.paths.outputs / row["name"]))
            finally:
                self.refresh()
            return trashed

    def trashed(self) -> list[TrashedClip]:
        """The clips in the trash, the latest first."""
        return self._trash.clips()

    def restore(self, trashed: Collection[str]) -> int:
        """Move clips back, renamed if their names are taken; returns how many."""
        with self._changing:
            try:
                return len([self._trash.restore(clip) for clip in dict.fromkeys(trashed)])
            finally:
                self.refresh()

    def empty_trash(self) -> list[str]:
        """Hide everything in the trash, which is then deleted by `delete_trashed`; returns the ids of the clips."""
        with self._changing:
            self.revision += 1
            return self._trash.empty()

    def refill_trash(self, trashed: Collection[str]) -> None:
        """Take back `empty_trash`."""
        with self._changing:
            self.revision += 1
            self._trash.show_again(trashed)

    def delete_trashed(self, trashed: Collection[str]) -> None:
        """Delete clips permanently that `empty_trash` returned, but for those that were restored in the meantime."""
        with self._changing:
            self._trash.delete(trashed)

    def close(self) -> None:
        """Close the index."""
        self._index.close()

    def _marks(self) -> Marks:
        if self._known is None:
            known = Marks(self.paths.state)
            # The files may have been edited while this program did not run.
            self._index.mark(known.favourites)
            self._index.clear_tags()
            self._index.tag(known.tags)
            self._known = known
        return self._known

    def _existing(self, clips: Iterable[str]) -> list[sqlite3.Row]:
        return [row for clip in dict.fromkeys(clips) if (row := self._find(clip)) is not None]

    def _read(self, name: str, stamp: Stamp, marks: Marks) -> Read | None:
        """A row for the index; None if the file could not be read now and should be tried again."""
        try:
            facts = probe(self.paths.outputs / name)
        except Unreadable:
            return None
        if facts is None:
            return Read(name, stamp)
        clip = hashlib.sha256(f"{name}\0{facts.recipe}".encode()).hexdigest()[:32]
        recipe = facts.recipe
        return Read(name, stamp, clip, facts, recipe in marks.favourites, marks.tags.get(recipe, ()))

    def _find(self, clip: str) -> sqlite3.Row | None:
        # Ids are only compared; anything but a string of this length is not an id.
        return self._index.find(clip) if isinstance(clip, str) and len(clip) == 32 and clip.isalnum() else None

    def _row(self, clip: str) -> sqlite3.Row:
        row = self._find(clip)
        if row is None:
            raise JobError(_GONE)
        return row

    def _path(self, row: sqlite3.Row) -> Path:
        path = self.paths.outputs / row["name"]
        if not is_listed(path, row):
            raise JobError(_GONE)
        return path

    def _clip(self, row: sqlite3.Row) -> LibraryClip | None:
        """Convert a row, creating a missing poster; None if the video cannot be decoded."""
        path = self.paths.outputs / row["name"]
        poster = path.with_suffix(".jpg") if row["poster"] else None
        if poster is None and is_listed(path, row):
            try:
                data = make_poster(path)
            except JobError:
                self._index.discard(row["name"])
                return None
            poster = self._write_poster(path, data)
        return LibraryClip(
            id=row["id"],
            name=row["name"],
            spec=ClipSpec.from_record(json.loads(row["spec"])),
            size=(row["height"], row["width"]),
            seconds=row["seconds"],
            made=row["modified"] / 1e9,
            poster=poster,
            favourite=bool(row["favourite"]),
            tags=self._marks().tags.get(row["recipe"], ()),
        )

    def _write_poster(self, path: Path, data: bytes) -> Path | None:
        """Write a poster; None if it cannot be written or its name is taken: the clip is shown without one."""
        poster = path.with_suffix(".jpg")
        if os.path.lexists(poster):
            return poster if stat.S_ISREG(poster.lstat().st_mode) else None
        try:
            write_atomically(poster, data)
        except JobError:
            return None
        self._index.update((), (), {path.name: True})
        return poster


def _facts(path: Path, name: str) -> Facts:
    try:
        facts = probe(path)
    except Unreadable as error:
        raise JobError(f"{name} cannot be read; add it again.") from error
    if facts is None:
        raise JobError(f"{name} is damaged or was not made by Ovi Studio; only its own clips can be added.")
    return facts


def _read_settings(path: Path, pictures: Path) -> ClipSpec:
    def renamed(error: JobError) -> str:
        # Browsers must not learn the path of a clip or an upload.
        return str(error).replace(str(path), path.name)

    try:
        return read_spec(path, pictures)
    except FirstFrameMissing as error:
        raise FirstFrameMissing(renamed(error), error.spec) from error
    except JobError as error:
        raise JobError(renamed(error)) from error
