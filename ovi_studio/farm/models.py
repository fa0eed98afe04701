"""Checkpoints that a machine copies from the head: `ModelShelf` offers them there, `copy_models` fetches them.

`python -m ovi_studio.farm.models` does that in a process of its own, since Ray ends one that loses the head.

A file comes in pieces through Ray's object store into a part file whose name contains its hash, is checked, and then
renamed: an interrupted copy resumes where it stopped, and a name never refers to a damaged file. Imports no ray.
"""

import argparse
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovi_studio.checkpoints.disk import RESUMES, exclusive, format_bytes, free_space, writing
from ovi_studio.checkpoints.download import MARGIN, DownloadProgress, format_progress
from ovi_studio.checkpoints.hashes import file_sha256, remember
from ovi_studio.checkpoints.layout import complete_variants, take_inventory
from ovi_studio.checkpoints.meter import Meter
from ovi_studio.checkpoints.partial_file import PartialFile
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import EMBEDDED_BUNDLE, Variant
from ovi_studio.distributed.ending import end_with
from ovi_studio.farm.command import FarmAddress, ray_environment
from ovi_studio.farm.files import PIECE_BYTES


@dataclass(frozen=True)
class ModelFile:
    """A file of a variant on the head."""

    location: str
    """Path below the folder of checkpoints, with `/`."""
    size: int
    """Bytes."""
    sha256: str

    def part(self, folder: Path) -> Path:
        """Return the path of the file's part in a folder of checkpoints."""
        target = folder / self.location
        return target.with_name(f"{target.name}.{self.sha256[:12]}.part")


class ModelShelf:
    """Offers the complete variants of a folder of checkpoints, and nothing else of this machine.

    The embedded variant, which every machine has, is not among them.
    """

    def __init__(self, checkpoints: Path) -> None:
        self._folder = checkpoints
        self._offered: set[str] = set()

    def variants(self) -> list[str]:
        """Return the names of the variants."""
        return [variant.name for variant in self._complete()]

    def files(self, variant: str) -> list[ModelFile]:
        """Return the files of a variant; takes minutes if they were never hashed."""
        found = next(one for one in self._complete() if one.name == variant)
        files = [self._file(path) for path in _paths(found, self._folder)]
        self._offered |= {file.location for file in files}
        return files

    def piece(self, location: str, offset: int) -> bytes:
        """Return a piece of a file that `files` has named."""
        if location not in self._offered:
            raise ValueError(f"{location} is not offered")
        with (self._folder / location).open("rb") as file:
            file.seek(offset)
            return file.read(PIECE_BYTES)

    def _complete(self) -> list[Variant]:
        return [variant for variant in complete_variants(self._folder) if variant.root != EMBEDDED_BUNDLE]

    def _file(self, path: Path) -> ModelFile:
        return ModelFile(path.relative_to(self._folder).as_posix(), path.stat().st_size, file_sha256(path))


Ask = Callable[..., Any]
"""Calls a method of the shelf by its name; raises `JobError` if the head does not answer."""


def copy_models(
    ask: Ask, checkpoints: Path, variants: Sequence[str], report: Callable[[DownloadProgress], None]
) -> None:
    """Copy variants from the head to a folder of checkpoints, as far as they are not there.

    Args:
        variants: their names; empty: all that the head has.
        report: called a few times per second.

    Raises `JobError` if the head does not have them or does not answer, or if there is no room.
    """
    offered: Collection[str] = ask("variants")
    if unknown := [name for name in variants if name not in offered]:
        known = f"it has {', '.join(offered)}" if offered else "it has none but the embedded one"
        raise JobError(f"The head does not have {', '.join(unknown)}; {known}.")
    files = {file.location: file for name in variants or offered for file in ask("files", name)}
    missing = [file for file in files.values() if not _is_here(file, checkpoints)]
    already = {file: _size(file.part(checkpoints)) for file in missing}
    _check_room(missing, already, checkpoints)
    with exclusive(checkpoints):
        meter = Meter(report, sum(file.size for file in missing), sum(already.values()))
        for file in missing:
            meter.begin(file.location, already[file])
            _copy(ask, file, checkpoints, meter)
            meter.end(file.size)


def _copy(ask: Ask, file: ModelFile, checkpoints: Path, meter: Meter) -> None:
    target, place = checkpoints / file.location, file.part(checkpoints)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with closing(PartialFile(place, meter)) as part:
        while part.size < file.size:
            piece = ask("piece", file.location, part.size)
            if not piece:
                break  # the head's file was replaced by a shorter one
            part.write(piece)
        digest = part.digest
    if digest != file.sha256:
        place.unlink()
        raise JobError(
            f"{file.location} was damaged on the way from the head, or was replaced there, and was removed; repeat "
            "the command."
        )
    with writing(target):
        place.replace(target)
    remember(target, digest)


def _check_room(missing: Sequence[ModelFile], already: Mapping[ModelFile, int], checkpoints: Path) -> None:
    needed = sum(file.size - already[file] for file in missing)
    free = free_space(checkpoints)
    if missing and free < needed + MARGIN:
        raise JobError(
            f"The models need {format_bytes(needed)} plus a reserve of {format_bytes(MARGIN)}, but the disk of "
            f"{checkpoints} has {format_bytes(free)} free; free up {format_bytes(needed + MARGIN - free)} there or "
            f"choose another directory with --ckpt-dir, {RESUMES}."
        )


def _is_here(file: ModelFile, checkpoints: Path) -> bool:
    path = checkpoints / file.location
    return _size(path) == file.size and file_sha256(path) == file.sha256


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _paths(variant: Variant, checkpoints: Path) -> list[Path]:
    """Return the files that make a variant complete, with what names them: the index of shards, a bundle's own file."""
    found = list(dict.fromkeys(path for paths in take_inventory(variant, checkpoints).files.values() for path in paths))
    # An index of shards, and whatever a tokenizer has in its folder.
    beside = {other for path in found for other in path.parent.glob("*.json")} - {*found}
    own = [] if variant.root is None else [variant.root / "bundle.json"]
    return [*found, *sorted(beside - {*own}), *own]


def copy_command(head: str, checkpoints: Path, variants: Sequence[str]) -> list[str]:
    """Return the command that copies models from a head; see `copy_models`."""
    return [sys.executable, "-m", __spec__.name, head, str(checkpoints), *variants]


def main() -> int:
    """Copy models from a head, with a node that makes no clips."""
    parser = argparse.ArgumentParser(prog="python -m ovi_studio.farm.models")
    parser.add_argument("head")
    parser.add_argument("checkpoints", type=Path)
    parser.add_argument("variants", nargs="*")
    options = parser.parse_args()
    os.environ.update(ray_environment(None))
    # Only now, since Ray reads these variables when it is imported.
    from ovi_studio.farm.cluster import model_shelf

    def report(progress: DownloadProgress) -> None:
        print(f"\r\033[K{format_progress(progress)}", end="", file=sys.stderr, flush=True)

    try:
        with model_shelf(FarmAddress.parse(options.head)) as ask:
            copy_models(ask, options.checkpoints, options.variants, report)
    except JobError as error:
        print(f"\rerror: {error}", file=sys.stderr)
        return 1
    finally:
        print(file=sys.stderr)
    return 0


if __name__ == "__main__":
    end_with(main)
