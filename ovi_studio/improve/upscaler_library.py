"""The upscalers in a folder, by name. Imports no torch: a file is only read when it is used."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from ovi_studio.checkpoints.hashes import file_sha256
from ovi_studio.core.errors import JobError
from ovi_studio.core.improvement import Improvement
from ovi_studio.media.small_files import is_storable

UPSCALERS_VARIABLE = "OVI_UPSCALER_DIR"
SUFFIXES = (".safetensors", ".pth")
_LISTED = 10


def default_upscaler_directory() -> Path:
    """Return `upscalers/` in the working directory, unless the environment names another folder."""
    return Path(os.environ.get(UPSCALERS_VARIABLE) or "upscalers")


@dataclass(frozen=True)
class UpscalerEntry:
    """One file of the folder."""

    name: str
    """Path below the folder, with `/` and without suffix."""
    path: Path


class UpscalerLibrary:
    """The upscalers below one folder, which need not exist; links never lead out of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def scan(self) -> list[UpscalerEntry]:
        """Return all upscalers by name; of two files of one name the safetensors file."""
        root = self.directory.resolve()
        found: dict[str, UpscalerEntry] = {}
        for suffix in reversed(SUFFIXES):
            for path in root.rglob(f"*{suffix}"):
                name = path.relative_to(root).with_suffix("").as_posix()
                if path.is_file() and path.resolve().is_relative_to(root) and is_storable(name):
                    found[name] = UpscalerEntry(name, path)
        return sorted(found.values(), key=lambda entry: entry.name)

    def find(self, name: str) -> UpscalerEntry:
        """Return the upscaler of this name, which may have its suffix; raises `JobError` if there is none."""
        entries = self.scan()
        for entry in entries:
            if name in (entry.name, f"{entry.name}{entry.path.suffix}"):
                return entry
        known = ", ".join(entry.name for entry in entries[:_LISTED])
        more = " and more" if len(entries) > _LISTED else ""
        there = f"there are: {known}{more}" if known else "the folder is empty"
        raise JobError(
            f"There is no upscaler {name[:100]!r} in {self.directory}; put its .safetensors or .pth file there, or "
            f"choose another ({there})."
        )

    def pin(self, improvement: Improvement) -> Improvement:
        """Return the improvement with the hash of its upscaler; raises `JobError` if that is missing or changed."""
        if improvement.upscaler is None:
            return improvement
        entry = self.find(improvement.upscaler)
        try:
            sha256 = file_sha256(entry.path)
        except OSError as error:
            raise JobError(
                f"The upscaler {entry.name} cannot be read ({error.strerror}); check the file and its permissions."
            ) from error
        if improvement.sha256 not in (None, sha256):
            raise JobError(
                f"The upscaler {entry.name} is another file than the one that was chosen; put that one back, or choose "
                f"it anew."
            )
        return replace(improvement, upscaler=entry.name, sha256=sha256)
