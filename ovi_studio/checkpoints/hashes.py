"""SHA-256 of checkpoint files, cached between runs, since reading a 23 GB file takes a minute. Imports no torch.

The cache is a small JSON file in the user's cache folder, keyed by path, size and modification time. Losing it only
costs time, so a damaged or unwritable cache is ignored.
"""

import hashlib
import json
import os
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

CACHE_VARIABLE = "OVI_CACHE_DIR"
_lock = threading.Lock()


def cache_directory() -> Path:
    """The folder for data that can be recomputed; `OVI_CACHE_DIR` overrides it."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    return Path(os.environ.get(variable) or Path.home() / ".cache") / "ovi-studio"


def file_sha256(path: Path) -> str:
    """The file's SHA-256 in hex, cached while path, size and modification time are unchanged; raises `OSError`."""
    key, stamp = _identity(path)
    match _cached().get(key):
        case [*known, str(digest)] if known == stamp:
            return digest
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if _identity(path) == (key, stamp):  # otherwise the file changed while it was read
        _store(key, stamp, digest)
    return digest


def remember(path: Path, digest: str) -> None:
    """Cache the SHA-256 of a complete file that was computed elsewhere, for example during its download."""
    with suppress(OSError):
        _store(*_identity(path), digest)


def _store(key: str, stamp: list[int], digest: str) -> None:
    """Cache the hash of a file as it was at `stamp`; it may have changed since."""
    with suppress(OSError), _lock:
        entries = {known: entry for known, entry in _cached().items() if Path(known).is_file()}
        entries[key] = [*stamp, digest]
        target = _cache_file()
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        part.write_text(json.dumps(entries, indent=1), encoding="utf-8")
        part.replace(target)


class BackgroundHash:
    """Hashes files in a daemon thread, sequentially, which is fastest for disks."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._digests: dict[Path, Future[str]] = {path: Future() for path in paths}
        threading.Thread(target=self._read, name="hash", daemon=True).start()

    def result(self) -> dict[Path, str]:
        """SHA-256 of every file in hex; waits until all are read and raises the `OSError` of an unreadable file."""
        return {path: digest.result() for path, digest in self._digests.items()}

    def _read(self) -> None:
        for path, digest in self._digests.items():
            try:
                digest.set_result(file_sha256(path))
            except Exception as error:  # raised again by `result`
                digest.set_exception(error)


def _cache_file() -> Path:
    return cache_directory() / "sha256.json"


def _identity(path: Path) -> tuple[str, list[int]]:
    stat = path.stat()
    return str(path.resolve()), [stat.st_size, stat.st_mtime_ns]


def _cached() -> dict[str, object]:
    try:
        entries = json.loads(_cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}
