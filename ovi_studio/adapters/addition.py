"""Adds an uploaded file to the adapter folder, after the checks of a file that lies in it. Imports no torch."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from ovi_studio.adapters.contents import read_contents
from ovi_studio.adapters.header import locate, read_header
from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.adapters.match import match_header
from ovi_studio.adapters.names import NameMap
from ovi_studio.checkpoints.hashes import file_sha256
from ovi_studio.core.errors import JobError, NameTaken
from ovi_studio.media.small_files import folder_errors, is_windows_device, move_file

_MAX_STEM = 120
"""Characters; file systems allow 255 bytes, and a letter has up to four."""


def add_adapter(
    upload: Path, library: AdapterLibrary, models: Iterable[NameMap], *, replaced: Path | None = None
) -> tuple[Path, bool]:
    """Move an uploaded adapter into the library's folder; returns its path, and whether it was not there before.

    Raises `JobError` for a pickle, a damaged file, one with values that are not finite, and one that fits no model, and
    `NameTaken` if another file has its name, also a shipped one, unless it may be replaced.

    Args:
        models: the layers of the models that adapters are used with, the likeliest first.
        replaced: where a file of this name is moved, which may be replaced then.
    """
    _check(upload, models)
    target = library.directory / adapter_name(upload.name)
    known = next((entry.path for entry in library.scan() if entry.name == target.name), target)
    with folder_errors(library.directory):
        library.directory.mkdir(parents=True, exist_ok=True)
        if known.is_file() and file_sha256(known) == file_sha256(upload):
            return known, False
        if replaced is None and (os.path.lexists(known) or os.path.lexists(target)):
            raise NameTaken(f"There is another {target.name} among the LoRA files.")
        if replaced is not None and os.path.lexists(target):
            move_file(target, replaced)
        move_file(upload, target)
    return target, True


def adapter_name(name: str) -> str:
    """A file name that is safe on every system and can be shown, as close as possible to the given one."""
    stem = re.sub(r"[^\w.+()-]+", "_", Path(name).stem).strip("._-")[:_MAX_STEM]
    return f"{'adapter' if not stem or is_windows_device(stem) else stem}.safetensors"


def _check(upload: Path, models: Iterable[NameMap]) -> None:
    header = read_header(locate(upload).weights)
    misfit: JobError | None = None
    for names in models:
        try:
            match = match_header(upload.name, header, names, None)
        except JobError as error:
            misfit = misfit or error
            continue
        try:
            match.examined(read_contents(upload))
        except OSError as error:
            raise JobError(f"{upload.name} cannot be read ({error.strerror}); add it again.") from error
        return
    raise misfit or JobError("No model is known that could use an adapter.")
