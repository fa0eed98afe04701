"""What people note about clips: favourites, tags and collections, in small files that survive the loss of the index.

Favourites and tags belong to a recipe (settings, first frame and the clip's record), not to a file name: they persist
when a file is renamed, moved to the trash and back, or copied along with the state folder to another machine. Exact
copies of a file have the same ones. A collection is a search with a name. A damaged file is renamed, and its notes are
then empty.
"""

import itertools
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from ovi_studio.core.errors import JobError
from ovi_studio.library.search import parse_search
from ovi_studio.library.text import fold
from ovi_studio.media.small_files import folder_errors, write_atomically

MAX_TAG_LENGTH = 40
MAX_TAGS = 20
"""Tags of one clip."""
MAX_COLLECTIONS = 100
_MAX_NAME_LENGTH = 60


class Marks:
    """The notes of one studio; they are on the disk when a change returns. Methods may raise `JobError`.

    Not thread-safe: `Library` serialises its changes.
    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self.favourites: frozenset[str] = frozenset(_read(state / "favourites.json", _is_texts) or ())
        stored = _read(state / "tags.json", _is_tags) or {}
        self.tags: Mapping[str, tuple[str, ...]] = {recipe: tuple(tags) for recipe, tags in stored.items()}
        """Recipe -> its tags in alphabetical order; only recipes that have some."""
        self.collections: Mapping[str, str] = _read(state / "collections.json", _is_collections) or {}
        """Name -> search."""

    def set_favourite(self, recipes: Collection[str], favourite: bool) -> None:
        """Mark or unmark recipes."""
        changed = self.favourites | set(recipes) if favourite else self.favourites - set(recipes)
        self._write("favourites.json", sorted(changed))
        self.favourites = frozenset(changed)

    def set_tags(self, changed: Mapping[str, Collection[str]]) -> None:
        """Replace the tags of these recipes."""
        if any(len(tags) > MAX_TAGS for tags in changed.values()):
            raise JobError(f"A clip can have at most {MAX_TAGS} tags; remove some first.")
        merged = {**self.tags} | {recipe: tuple(sorted(tags, key=fold)) for recipe, tags in changed.items()}
        kept = {recipe: tags for recipe, tags in merged.items() if tags}
        self._write("tags.json", kept)
        self.tags = kept

    def save_collection(self, name: str, search: str) -> str:
        """Save a search, replacing one of the same name; returns the name as it is stored."""
        name, search = " ".join(name.split()), " ".join(search.split())
        if not 0 < len(name) <= _MAX_NAME_LENGTH:
            raise JobError(f"Name the collection with 1 to {_MAX_NAME_LENGTH} characters.")
        if not parse_search(search):
            raise JobError("Search for something first; a collection is a search with a name.")
        changed = {**self.collections, name: search}
        if len(changed) > MAX_COLLECTIONS:
            raise JobError(f"There are {MAX_COLLECTIONS} collections; delete some first.")
        self._set_collections(changed)
        return name

    def delete_collection(self, name: str) -> None:
        """Delete a collection and none of its clips."""
        self._set_collections({known: search for known, search in self.collections.items() if known != name})

    def _set_collections(self, changed: Mapping[str, str]) -> None:
        self._write("collections.json", changed)
        self.collections = changed

    def _write(self, name: str, value: Any) -> None:
        write_atomically(self._state / name, json.dumps(value, indent=0, ensure_ascii=False).encode())


def parse_tags(text: str) -> list[str]:
    """Split tags at commas; raises `JobError` for one that cannot be stored."""
    tags = [" ".join(tag.split()) for tag in text.split(",")]
    found = {fold(tag): tag for tag in tags if tag}
    for tag in found.values():
        if len(tag) > MAX_TAG_LENGTH:
            raise JobError(f"The tag {tag[:30]}… is too long; use at most {MAX_TAG_LENGTH} characters.")
        if '"' in tag or not tag.isprintable():
            raise JobError(f"The tag {tag!r} contains a quotation mark or a control character; remove it.")
    return list(found.values())


def _read(path: Path, is_valid: Callable[[Any], bool]) -> Any:
    with folder_errors(path.parent):
        try:
            stored = json.loads(path.read_bytes())
            if is_valid(stored):
                return stored
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError):
            pass
        _set_aside(path)
    return None


def _is_texts(stored: Any) -> bool:
    return isinstance(stored, list) and all(isinstance(text, str) for text in stored)


def _is_tags(stored: Any) -> bool:
    return isinstance(stored, dict) and all(map(_is_texts, stored.values()))


def _is_collections(stored: Any) -> bool:
    return isinstance(stored, dict) and _is_texts(list(stored.values()))


def _set_aside(path: Path) -> None:
    for number in itertools.count(1):
        aside = path.with_name(f"{path.name}.damaged-{number}")
        if not aside.exists():
            path.replace(aside)
            return
