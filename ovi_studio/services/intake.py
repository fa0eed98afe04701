"""Files that people drop on the page: what each one is, and what becomes of it.

| file | becomes |
|---|---|
| clip (mp4) | its settings in the form; in the Library tab, or one of several: a clip of the library |
| poster (jpg with settings) in the Library tab | its settings in the form |
| picture | the first frame |
| .safetensors | a LoRA file, after the checks of the adapter folder |
| preset or templates (yaml) | one of the user's own |
| table of prompts (csv, tsv, txt) | the table of the form |

A file is received under its own name in a folder of its own below the uploads, within the limit of its kind, and is
then taken by its ticket. What is neither taken nor asked about is deleted. Thread-safe. Imports no torch.
"""

import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ovi_studio.adapters.addition import add_adapter
from ovi_studio.adapters.header import PICKLE_SUFFIXES
from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.adapters.model_names import model_names
from ovi_studio.core.errors import JobError, NameTaken
from ovi_studio.core.requests import MAX_QUEUED
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import Variant, published_variants
from ovi_studio.library import Library
from ovi_studio.media.clip_files import FirstFrameMissing, read_record
from ovi_studio.media.pictures import MAX_FILE_SIZE as MAX_PICTURE
from ovi_studio.media.pictures import decode_picture
from ovi_studio.media.small_files import MAX_FILE_SIZE as MAX_YAML
from ovi_studio.media.small_files import folder_errors, move_file, read_yaml
from ovi_studio.services.presets import Presets
from ovi_studio.services.prompt_tables import MAX_TABLE_SIZE, read_table
from ovi_studio.services.prompt_tables import SUFFIXES as TABLES
from ovi_studio.services.templates import Templates

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff")
LIMITS: Mapping[str, int] = {
    ".mp4": 500 * 2**20,
    ".safetensors": 2 * 2**30,
    **dict.fromkeys(PICTURES, MAX_PICTURE),
    **dict.fromkeys((".yaml", ".yml"), MAX_YAML),
    **dict.fromkeys(TABLES, MAX_TABLE_SIZE),
}
"""Suffix -> bytes of the largest file of that kind."""
_KEPT = (".safetensors", ".yaml", ".yml")
"""Kinds of files that are only of use among the owner's own."""
KEPT_SECONDS = 3600.0
"""How long a file waits to be taken."""
FREE_BYTES = 2**30
"""What has to stay free on the disk."""
_TICKET = re.compile(r"[0-9a-f]{32}")


class IntakeServices(Protocol):
    """The part of `Studio` that takes files."""

    library: Library
    adapters: AdapterLibrary
    presets: Presets
    templates: Templates

    def variants(self) -> list[Variant]: ...


@dataclass(frozen=True)
class Outcome:
    """What became of a file."""

    name: str
    sentence: str
    kind: str = "done"
    """`done`, `refused` or `question`: whether to replace what has its name, which `take` does when told so."""
    ticket: str = ""
    """Of a file that is asked about."""
    spec: ClipSpec | None = None
    """The settings for the form."""
    picture: Path | None = None
    """The first frame for the form."""
    table: Path | None = None
    """The table of prompts for the form."""
    undo: Callable[[], None] | None = None
    """Takes a replacement back; its file is kept for as long as one that waits."""


class Intake:
    """The files that one studio receives.

    Args:
        folder: where files wait; a subfolder of the uploads.
        keeps: whether clips, LoRA files, presets and templates are taken in; otherwise a file only fills the form.
    """

    def __init__(self, studio: IntakeServices, folder: Path, *, keeps: bool = True) -> None:
        self._studio = studio
        self._folder = folder
        self._keeps = keeps
        self._lock = threading.Lock()

    def begin(self, name: str, size: int) -> tuple[Path, str, int]:
        """Prepare to receive a file of `size` bytes; returns the path to write it to, its ticket, and its limit.

        Raises `JobError` for a kind of file that nothing can be made of, and for one that is too large.
        """
        name = _safe(name)
        suffix = Path(name).suffix.lower()
        if suffix in PICKLE_SUFFIXES:
            raise JobError(f"{name} is a pickle, which can run code and is never loaded; save it as .safetensors.")
        limit = LIMITS.get(suffix)
        if limit is None:
            raise JobError(f"{name} is no clip, picture, LoRA file, preset, template or table of prompts.")
        if suffix in _KEPT and not self._keeps:
            raise JobError(f"{name} was not added: this page is open to everyone, so only its owner adds such files.")
        if size > limit:
            raise JobError(too_large(name, limit))
        with folder_errors(self._folder):
            self._forget_old()
            ticket = secrets.token_hex(16)
            path = self._folder / ticket / name
            path.parent.mkdir(parents=True)
            if shutil.disk_usage(path.parent).free < size + FREE_BYTES:
                self.discard(ticket)
                raise JobError(f"There is no space for {name}; free up some space on the disk.")
        return path, ticket, limit

    def discard(self, ticket: str) -> None:
        """Delete a file that was received, or whose arrival broke off."""
        if _TICKET.fullmatch(ticket):
            shutil.rmtree(self._folder / ticket, ignore_errors=True)

    def take(self, tickets: Sequence[str], *, in_library: bool, replace: bool = False) -> list[Outcome]:
        """Do with each file what its kind asks for; a file that is refused does not keep the others out."""
        files = [(ticket, self._find(ticket)) for ticket in dict.fromkeys(tickets)]
        clips = sum(path is not None and path.suffix.lower() == ".mp4" for _, path in files)
        in_library = in_library and self._keeps
        to_library = in_library or (clips > 1 and self._keeps)
        visit = _Visit(self._studio, to_library=to_library, in_library=in_library, replace=replace)
        outcomes = []
        for ticket, path in files:
            if path is None:
                outcomes.append(Outcome("", "A file is no longer on the server; add it again.", "refused"))
                continue
            with self._lock:
                outcome = visit.take(path, ticket)
            if outcome.kind == "refused" or not (outcome.ticket or outcome.picture or outcome.table or outcome.undo):
                self.discard(ticket)
            outcomes.append(outcome)
        return outcomes

    def _find(self, ticket: str) -> Path | None:
        if not isinstance(ticket, str) or not _TICKET.fullmatch(ticket):
            return None
        folder = self._folder / ticket
        return next(iter(folder.iterdir()), None) if folder.is_dir() else None

    def _forget_old(self) -> None:
        for folder in self._folder.iterdir() if self._folder.is_dir() else ():
            if time.time() - folder.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


class _Visit:
    """Takes the files of one drop, of which the form can use one of each kind."""

    def __init__(self, studio: IntakeServices, *, to_library: bool, in_library: bool, replace: bool) -> None:
        self._studio = studio
        self._to_library = to_library
        self._in_library = in_library
        self._replace = replace
        self._filled: dict[str, Path] = {}
        """Part of the form -> the file that fills it."""

    def take(self, path: Path, ticket: str) -> Outcome:
        """Take one file; never raises `JobError`."""
        try:
            return self._action(path.suffix.lower())(path)
        except NameTaken as error:
            return Outcome(path.name, str(error), "question", ticket)
        except JobError as error:
            return Outcome(path.name, str(error).replace(f"{path.parent}{os.sep}", ""), "refused")

    def _action(self, suffix: str) -> Callable[[Path], Outcome]:
        if suffix == ".mp4":
            return self._add_clip if self._to_library else self._use_settings
        if suffix in PICTURES:
            return self._picture
        if suffix in TABLES:
            return self._table
        return self._adapter if suffix == ".safetensors" else self._yaml

    def _add_clip(self, path: Path) -> Outcome:
        _, new = self._studio.library.add(path, path.name)
        return Outcome(path.name, f"{path.name} {'was added to' if new else 'is already in'} the library.")

    def _use_settings(self, path: Path) -> Outcome:
        self._claim("settings", path)
        try:
            return Outcome(
                path.name, f"The form has the settings of {path.name}.", spec=self._studio.library.adopt(path)
            )
        except FirstFrameMissing as error:
            sentence = f"The form has the settings of {path.name}, but its first frame is not in the file."
            return Outcome(path.name, sentence, spec=error.spec)

    def _picture(self, path: Path) -> Outcome:
        if self._in_library and _has_settings(path):
            return self._use_settings(path)
        self._claim("first frame", path)
        decode_picture(path.read_bytes(), path.name, raw_colours=False)
        return Outcome(path.name, f"{path.name} is the first frame.", picture=path)

    def _table(self, path: Path) -> Outcome:
        self._claim("table", path)
        read_table(path, MAX_QUEUED)
        return Outcome(path.name, f"{path.name} is the table of prompts.", table=path)

    def _adapter(self, path: Path) -> Outcome:
        variants = [*self._studio.variants(), *published_variants().values()]
        models = (model_names(variant) for variant in variants)
        before = path.with_name(f"{path.name}.replaced") if self._replace else None
        target, new = add_adapter(path, self._studio.adapters, models, replaced=before)

        def undo() -> None:
            if before is None or not before.exists():
                raise JobError("It is too late to undo this.")
            move_file(before, target)

        sentence = f"{target.name} {'was added to' if new else 'is already among'} the LoRA files."
        replaced = new and before is not None and before.exists()
        return Outcome(path.name, sentence, undo=undo if replaced else None)

    def _yaml(self, path: Path) -> Outcome:
        content = read_yaml(path)
        if isinstance(content, dict) and "templates" in content:
            added, known = self._studio.templates.add_file(path)
            return Outcome(path.name, f"{_count(added, 'template')} added, {known} known already.")
        presets = self._studio.presets
        preset, new, before = presets.add(path, replace=self._replace)

        def undo() -> None:
            presets.delete(preset.name)
            presets.restore(preset.name, before or b"")

        sentence = f"The preset {preset.title} {'was added' if new else 'is there already'}."
        return Outcome(path.name, sentence, undo=undo if before else None)

    def _claim(self, part: str, path: Path) -> None:
        other = self._filled.setdefault(part, path)
        if other is not path:
            raise JobError(f"{path.name} was left out: {other.name} already fills the {part}; drop it alone to use it.")


def too_large(name: str, limit: int) -> str:
    """The sentence about a file above the limit of its kind."""
    return f"{name} is larger than {limit / 2**20:g} MB, the limit for such a file; copy it into its folder instead."


def _has_settings(poster: Path) -> bool:
    try:
        read_record(poster)
    except JobError:
        return False
    return True


def _safe(name: str) -> str:
    """The last part of a name from elsewhere, without what a file system or a page cannot show."""
    last = Path(re.split(r"[\\/]", name)[-1])
    stem, suffix = ("".join(c if c.isprintable() else "_" for c in part) for part in (last.stem, last.suffix))
    return f"{stem.strip(' .')[:100] or 'file'}{suffix[:20]}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
