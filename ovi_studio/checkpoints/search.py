"""Finds a variant's files in folders of other applications: ComfyUI's models, a Hugging Face cache, official `ckpts`.

A safetensors file is recognised by its header, whatever its name. A `.pth` or `.pt` file is taken only if it is the
published one: by its SHA-256 where that is known, else by its place in the official layout. Nothing is changed here,
and no more than headers and the hashes of likely files are read. Imports no torch.

Folders may be huge, on a slow disk, unreadable or linked in a circle: depth and number of entries are limited, and what
was left out is reported.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ovi_studio.checkpoints.file_check import damage, holds, read_header
from ovi_studio.checkpoints.hashes import file_sha256
from ovi_studio.checkpoints.identify import Identity, identify
from ovi_studio.checkpoints.layout import as_safetensors
from ovi_studio.core.variants import HubFile, Part, Variant

MAX_DEPTH = 8
MAX_ENTRIES = 50_000
"""Files and folders that are looked at in one folder of the user's and everything below."""
_DIFFUSERS = "Wan-AI/Wan2.2-TI2V-5B-Diffusers"
_INDEX = ".safetensors.index.json"
_SUFFIXES = {".safetensors", ".pth", ".pt", ".json"}
_PRECISION = {"": 0, "F32": 0, "BF16": 1, "F16": 2}
"""Order of preference; a published file has no dtype here."""


@dataclass(frozen=True)
class FoundPart:
    """A part of a variant that is on this machine outside of its official place."""

    part: Part
    files: tuple[Path, ...]
    """In the order of the part's files, or of its shards."""
    dtype: str = ""


@dataclass(frozen=True)
class Findings:
    """What a search has found."""

    found: tuple[FoundPart, ...]
    remarks: tuple[str, ...]
    """Sentences about files that look right but cannot be used, and about what could not be searched."""


def cache_folders(variant: Variant) -> tuple[Path, ...]:
    """The folders of the variant's repositories in the Hugging Face cache, as far as they exist."""
    cache = Path(os.environ.get("HF_HUB_CACHE") or _hub_home() / "hub")
    names = dict.fromkeys([*(file.repository for files in variant.files.values() for file in files), _DIFFUSERS])
    return tuple(folder for name in names if holds((folder := cache / _cache_name(name)).is_dir))


def search(variant: Variant, parts: Iterable[Part], folders: Iterable[Path]) -> Findings:
    """Look for parts of a variant in folders and everything below; the first and most precise file wins."""
    wanted, seen = tuple(parts), _Seen(variant)
    for folder in dict.fromkeys(folder.absolute() for folder in folders):
        for path in _files(folder, seen.remarks):
            seen.look_at(path, wanted)
    seen.remark_halves()
    best = [min(of_part, key=_rank) for part in wanted if (of_part := [one for one in seen.found if one.part is part])]
    settled = {one.part for one in best}
    # What was not needed in the end is not worth a remark.
    faults = [fault for part, fault in seen.faults if part not in settled]
    return Findings(tuple(best), tuple(dict.fromkeys([*faults, *seen.remarks])))


def _rank(found: FoundPart) -> int:
    return _PRECISION.get(found.dtype, len(_PRECISION))


class _Seen:
    """What has been found so far."""

    def __init__(self, variant: Variant) -> None:
        self.found: list[FoundPart] = []
        self.faults: list[tuple[Part, str]] = []
        self.remarks: list[str] = []
        self._variant = variant
        self._halves: dict[tuple[Path, str], dict[str, Path]] = {}

    def look_at(self, path: Path, wanted: Sequence[Part]) -> None:
        """Add what a file is, if it is one of the wanted parts."""
        if path.name.endswith((".safetensors", _INDEX)):
            self._look_at_safetensors(path, wanted)
            return
        for part in wanted:
            if part not in {found.part for found in self.found if not found.dtype}:
                self._look_at_official(path, part)

    def _look_at_safetensors(self, path: Path, wanted: Sequence[Part]) -> None:
        try:
            files = as_safetensors(path.with_name(path.name.removesuffix(".index.json")))
            header = {name: entry for file in files for name, entry in read_header(file).items()}
            identity = identify(header, path.name.partition(".safetensors")[0], self._variant)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not a model's file, or a broken one
            return
        if identity is None or identity.part not in wanted:
            return
        if identity.fault:
            self.faults.append((identity.part, f"{path} {identity.fault}."))
        elif len(identity.towers) == 1:
            self._add_half(path, identity)
        else:
            self.found.append(FoundPart(identity.part, files, identity.dtype))

    def _add_half(self, path: Path, identity: Identity) -> None:
        halves = self._halves.setdefault((path.parent, identity.dtype), {})
        halves.setdefault(identity.towers[0], path)
        if len(halves) == 2:
            self.found.append(FoundPart(identity.part, (halves["video_model"], halves["audio_model"]), identity.dtype))

    def remark_halves(self) -> None:
        """Add a fault for each tower of a transformer whose other tower is missing."""
        for (folder, _), halves in self._halves.items():
            if len(halves) == 1:
                ((tower, path),) = halves.items()
                fault = (
                    f"{path} holds the {tower} of a transformer alone; put the file of the other tower into {folder}."
                )
                self.faults.append((Part.TRANSFORMER, fault))

    def _look_at_official(self, path: Path, part: Part) -> None:
        sources = self._variant.files[part]
        if path.name != Path(sources[0].path).name:
            return
        files = [path.with_name(Path(source.path).name) for source in sources]
        faults = [fault for file, source in zip(files, sources, strict=True) if (fault := _file_fault(file, source))]
        if not faults:
            self.found.append(FoundPart(part, tuple(files)))
        elif len(sources) == 1:  # every model has a tokenizer with files of these names
            self.faults.append((part, f"{path} {faults[0]}."))


def _file_fault(path: Path, source: HubFile) -> str | None:
    """Why a file is not the published one, as the end of a sentence."""
    if fault := damage(path):
        return fault
    if source.sha256 is None:
        official = path.as_posix().endswith(f"/{source.path}")
        official = official and not {source.folder, _cache_name(source.repository)}.isdisjoint(path.parts)
        # The small files of a tokenizer are text.
        return None if official or path.suffix == ".json" else f"is not trusted, since it is not at {source.location}"
    try:
        size = path.stat().st_size
        if size != source.size:
            return f"is not the published file: it has {size} bytes instead of {source.size}"
        # The Hugging Face cache names files after their hash, which it has checked.
        same = path.resolve().name == source.sha256 or file_sha256(path) == source.sha256
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if same else "is not the published file: it has another SHA-256"


def _files(root: Path, remarks: list[str]) -> Iterator[Path]:
    """Files below a folder that may be models, nearest first; adds what was left out to `remarks`."""
    folders, visited, entries = deque([(root, 0)]), set(), 0
    while folders:
        folder, depth = folders.popleft()
        try:
            identity = folder.stat()
            if (identity.st_dev, identity.st_ino) in visited:
                continue
            visited.add((identity.st_dev, identity.st_ino))
            with os.scandir(folder) as listing:
                inside = sorted(islice(listing, MAX_ENTRIES + 1), key=lambda entry: entry.name)
        except OSError as error:
            remarks.append(f"{folder} cannot be searched ({error.strerror}).")
            continue
        entries += len(inside)
        if entries > MAX_ENTRIES:
            remarks.append(f"{root} has more than {MAX_ENTRIES} files; name the folder of the models itself.")
            return
        for entry in inside:
            path = folder / entry.name
            if holds(entry.is_dir):
                folders.extend([(path, depth + 1)] if depth < MAX_DEPTH else [])
            elif path.suffix in _SUFFIXES and holds(entry.is_file):  # a pipe, for example, would never end
                yield path


def _cache_name(repository: str) -> str:
    return f"models--{repository.replace('/', '--')}"


def _hub_home() -> Path:
    home = os.environ.get("HF_HOME")
    return Path(home) if home else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
