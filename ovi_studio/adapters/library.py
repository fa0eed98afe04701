"""The adapters in a folder: found without a restart, described without being loaded. Imports no torch.

Every `.safetensors` file and PEFT folder at any depth is an adapter. Adapters are addressed by an id or by a name that
is looked up among those found, never by a path from outside, and links never lead out of the folder. A file that is
still being copied is not shown until it is complete; a damaged one is shown with the reason. A scan reads headers only;
hashes and what the numbers of a file show (`contents`) are read in the background and cached.
"""

import hashlib
import os
import threading
import time
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ovi_studio.adapters.contents import Contents, read_contents
from ovi_studio.adapters.describe import Description, describe, find_preview, read_sidecar, sidecar_path
from ovi_studio.adapters.header import (
    PEFT_CONFIG,
    PICKLE_SUFFIXES,
    AdapterFiles,
    Header,
    locate,
    read_header,
)
from ovi_studio.adapters.match import match_header
from ovi_studio.adapters.match_report import MatchReport
from ovi_studio.adapters.names import NameMap
from ovi_studio.adapters.scaling import PeftConfig, read_peft_config
from ovi_studio.checkpoints.hashes import file_sha256
from ovi_studio.core.adapter_stack import AdapterUse, Stack, combined_sha256
from ovi_studio.core.errors import JobError
from ovi_studio.core.shipped import ADAPTERS

ADAPTERS_VARIABLE = "OVI_LORA_DIR"
SETTLE_SECONDS = 10.0
"""A damaged file that changed more recently than this counts as still being copied."""
MAX_ADAPTERS = 10_000

_Stamp = tuple[int, int, int, int]
"""Size and modification time of the weights and of the PEFT configuration."""
_NO_STAMP: _Stamp = (0, 0, 0, 0)


def default_adapter_directory() -> Path:
    """Return `loras/` in the working directory, unless the environment names another folder."""
    return Path(os.environ.get(ADAPTERS_VARIABLE) or "loras")


@dataclass(frozen=True)
class AdapterEntry:
    """One adapter of the folder."""

    id: str
    name: str
    """Path below the folder, with `/`; the name in a clip's settings."""
    path: Path
    size: int
    """Bytes of the weights."""
    modified: float
    """Seconds since the epoch."""
    description: Description
    preview: Path | None
    problem: str | None
    """Why the adapter cannot be used, as a sentence; None if its header is valid."""
    contents: Contents | None = None
    """What the file's numbers show; None until they were read."""

    @property
    def title(self) -> str:
        return self.description.title or Path(self.name).stem


@dataclass(frozen=True)
class _Scanned:
    """What the last scan found out about an adapter."""

    stamp: _Stamp
    header: Header | None
    problem: str | None
    config: PeftConfig | None = None


class AdapterLibrary:
    """The adapters below one folder, which need not exist yet, and the shipped ones. Thread-safe.

    Args:
        shipped: folder of shipped adapters; an adapter of the same name in `directory` replaces a shipped one.
    """

    def __init__(self, directory: Path, shipped: Path | None = ADAPTERS) -> None:
        self.directory = directory
        self._shipped = shipped
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._seen: dict[str, _Scanned] = {}
        self._entries: dict[str, AdapterEntry] = {}
        self._contents: dict[tuple[str, _Stamp], Contents] = {}

    def scan(self) -> Sequence[AdapterEntry]:
        """Return all current adapters by name, shipped ones last; unchanged adapters are not read again."""
        with self._lock:
            return self._scan()

    def _scan(self) -> Sequence[AdapterEntry]:
        seen: dict[str, _Scanned] = {}
        entries = []
        for root, path in self._candidates():
            name = path.relative_to(root).as_posix()
            if name in seen:
                continue
            scanned = self._inspect(root, path, self._seen.get(name))
            if scanned is None:
                continue
            seen[name] = scanned
            if not _unfinished(scanned, self._seen.get(name)):
                entries.append(_entry(name, path, scanned, self._contents.get((name, scanned.stamp))))
        new = [entry for entry in entries if entry.problem is None and self._is_new(entry, seen)]
        self._seen, self._entries = seen, {entry.id: entry for entry in entries}
        if new:
            BackgroundReader(self, new)
        return entries

    def _candidates(self) -> Iterator[tuple[Path, Path]]:
        """Yield the folder and the path of everything that may be an adapter."""
        for folder in filter(None, (self.directory, self._shipped)):
            root = folder.resolve()
            for path in _candidates(root):
                yield root, path

    def get(self, adapter_id: str) -> AdapterEntry:
        """Return the adapter with an id; raises `JobError` if there is none."""
        if adapter_id not in self._entries:
            self.scan()
        if adapter_id not in self._entries:
            raise JobError("This adapter no longer exists; refresh the list and choose again.")
        return self._entries[adapter_id]

    def find(self, name: str) -> AdapterEntry:
        """Find an adapter by its name in settings: its path below the folder, or its file name if that is unique.

        Raises `JobError` if there is no such adapter, if there are several, or if it cannot be used.
        """
        found = _of_name(self.scan(), name)
        if not found:
            raise JobError(f"There is no adapter {name[:200]!r} in {self.directory}; put its file there.")
        if len(found) > 1:
            raise JobError(
                f"Adapter {name!r} could be {' or '.join(entry.name for entry in found[:4])}; give its full name."
            )
        if found[0].problem:
            raise JobError(f"Adapter {found[0].name} cannot be used: {found[0].problem}")
        return found[0]

    def path(self, name: str) -> Path:
        """Return the path of the adapter called `name`; raises `JobError` as `find` does."""
        return self.find(name).path

    def sha256(self, entry: AdapterEntry) -> str:
        """Return the adapter's hash; computes it if it is not cached. Raises `JobError` if the file is missing."""
        try:
            digests = [file_sha256(path) for path in _files(entry.path)]
        except OSError as error:
            raise JobError(f"Adapter {entry.name} cannot be read ({error.strerror}); refresh the list.") from error
        return combined_sha256(digests[0], digests[1] if len(digests) > 1 else None)

    def pin(self, stack: Stack) -> Stack:
        """Return a stack with the hash of every file that it uses.

        Raises `JobError` if a file is missing or cannot be used, is named twice, or is not the one whose hash the stack
        already has.
        """
        pinned: list[AdapterUse] = []
        seen: dict[str, str] = {}
        for use in stack:
            if use.zero:  # its file is not even read
                pinned.append(use)
                continue
            entry = self.find(use.name)
            if other := seen.get(entry.id):
                raise JobError(f"{other} and {use.name} are the same adapter; remove one of them.")
            seen[entry.id] = use.name
            pinned.append(use.pinned(self.sha256(entry)))
        return tuple(pinned)

    def match(self, entry: AdapterEntry, names: NameMap) -> MatchReport:
        """Match an adapter with a model, from its header and as far as its numbers were read.

        Raises `JobError` if it does not fit at all, or contains NaN or infinite values.
        """
        seen, header = self._readable(entry)
        match = match_header(entry.name, header, names, seen.config)
        return (match if entry.contents is None else match.examined(entry.contents)).report

    def examined(self, entry: AdapterEntry) -> AdapterEntry:
        """Return an entry after reading its file's numbers, which are cached; raises `JobError`."""
        key = (entry.name, self._readable(entry)[0].stamp)
        with self._reading:  # nobody reads what another thread is reading
            if key not in self._contents:
                try:
                    self._contents[key] = read_contents(locate(entry.path).weights)
                except OSError as error:
                    reason = f"Adapter {entry.name} cannot be read ({error.strerror}); refresh the list."
                    raise JobError(reason) from error
        return replace(entry, contents=self._contents[key])

    def _readable(self, entry: AdapterEntry) -> tuple[_Scanned, Header]:
        seen = self._seen.get(entry.name)
        if entry.problem or seen is None or seen.header is None:
            raise JobError(entry.problem or f"Adapter {entry.name} no longer exists; refresh the list.")
        return seen, seen.header

    def _inspect(self, root: Path, path: Path, before: _Scanned | None) -> _Scanned | None:
        """Read an adapter's header unless it is unchanged; None if the adapter vanished meanwhile."""
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            return _Scanned(_NO_STAMP, None, _link_problem(path))
        try:
            files = locate(path)
            stamp = _stamp(files)
            # A damaged file is read again each time: the problem may change while it is copied.
            if before is not None and before.stamp == stamp and before.problem is None:
                return before
            for file in (files.weights, files.config):
                if file is not None and not file.resolve().is_relative_to(root):
                    return _Scanned(stamp, None, _link_problem(path))
            config = None if files.config is None else read_peft_config(files.config)
            return _Scanned(stamp, read_header(files.weights), None, config)
        except JobError as error:
            return _Scanned(_stamp_of(path), None, str(error)) if path.exists() else None
        except OSError:
            return None

    def _is_new(self, entry: AdapterEntry, seen: dict[str, _Scanned]) -> bool:
        before = self._seen.get(entry.name)
        return before is None or before.stamp != seen[entry.name].stamp


class BackgroundReader:
    """Hashes adapters and reads their numbers in a daemon thread, sequentially, which is fastest for disks."""

    def __init__(self, library: AdapterLibrary, entries: Iterable[AdapterEntry]) -> None:
        self._library = library
        self._entries = tuple(entries)
        threading.Thread(target=self._read, name="adapters", daemon=True).start()

    def _read(self) -> None:
        for entry in self._entries:
            # Whoever uses the adapter gets the reason.
            with suppress(JobError):
                self._library.examined(entry)
                self._library.sha256(entry)


def _of_name(entries: Sequence[AdapterEntry], name: str) -> list[AdapterEntry]:
    """Return the adapters that a name means: the whole name before its end, and the same case before another one.

    Systems write one name in different ways: with composed or separate accents, with `/` or a backslash.
    """

    def comparable(text: str) -> str:
        return unicodedata.normalize("NFC", text.replace("\\", "/")).removesuffix(".safetensors")

    def folded(text: str) -> str:
        return comparable(comparable(text).casefold())

    for form in (comparable, folded):
        wanted = form(name)
        whole = [entry for entry in entries if form(entry.name) == wanted]
        if found := whole or [entry for entry in entries if form(Path(entry.name).name) == wanted]:
            return found
    return []


def _candidates(root: Path) -> Iterator[Path]:
    """Yield PEFT folders and adapter files at any depth, sorted by name; hidden ones are skipped."""
    found = 0
    for folder, subfolders, files in os.walk(root, followlinks=False):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        here = Path(folder)
        if PEFT_CONFIG in files and here != root:
            subfolders.clear()
            candidates = [here]
        else:
            suffixes = PICKLE_SUFFIXES | {".safetensors"}
            candidates = [
                here / name
                for name in sorted(files)
                if not name.startswith(".") and Path(name).suffix.lower() in suffixes
            ]
        for path in candidates:
            # An unprintable name could neither be shown nor stored with a clip.
            if not path.name.isprintable():
                continue
            yield path
            found += 1
            if found >= MAX_ADAPTERS:
                return


def _link_problem(path: Path) -> str:
    return f"{path.name} is a link to another place; copy the file itself into this folder."


def _unfinished(scanned: _Scanned, before: _Scanned | None) -> bool:
    """Whether a damaged file is probably still being written."""
    if scanned.problem is None or scanned.stamp == _NO_STAMP:
        return False
    growing = before is not None and before.stamp != scanned.stamp
    age = time.time() - scanned.stamp[1] / 1e9
    return growing or abs(age) < SETTLE_SECONDS


def _entry(name: str, path: Path, scanned: _Scanned, contents: Contents | None) -> AdapterEntry:
    metadata = {} if scanned.header is None else scanned.header.metadata
    preview, sidecar = find_preview(path), sidecar_path(path, ".json")
    return AdapterEntry(
        id=hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16],
        name=name,
        path=path,
        size=scanned.stamp[0],
        modified=scanned.stamp[1] / 1e9,
        description=describe(metadata, read_sidecar(sidecar) if _in_same_folder(sidecar, path) else {}),
        preview=preview if preview is not None and _in_same_folder(preview, path) else None,
        problem=scanned.problem,
        contents=contents,
    )


def _files(path: Path) -> list[Path]:
    files = locate(path)
    return [files.weights] if files.config is None else [files.weights, files.config]


def _stamp(files: AdapterFiles) -> _Stamp:
    weights = files.weights.stat()
    if files.config is None:
        return weights.st_size, weights.st_mtime_ns, 0, 0
    config = files.config.stat()
    return weights.st_size, weights.st_mtime_ns, config.st_size, config.st_mtime_ns


def _stamp_of(path: Path) -> _Stamp:
    """Return a stamp for a path that is not a valid adapter."""
    try:
        stat = path.stat()
    except OSError:
        return _NO_STAMP
    return (stat.st_size if path.is_file() else 0), stat.st_mtime_ns, 0, 0


def _in_same_folder(file: Path, adapter: Path) -> bool:
    """Whether a file is really in the adapter's folder, not a link to another place."""
    return file.resolve().parent == adapter.parent.resolve()
