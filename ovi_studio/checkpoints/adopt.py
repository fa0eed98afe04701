"""Puts files that were found elsewhere into the checkpoint directory, as links: nothing is downloaded or stored twice.

A link is a symbolic one; where the system allows none (Windows without developer mode), a hard link, or a copy as the
last resort. From then on the part is found where all code looks for it. Imports no torch.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from ovi_studio.checkpoints.disk import writing
from ovi_studio.checkpoints.file_check import holds, read_header
from ovi_studio.checkpoints.layout import Inventory, take_inventory
from ovi_studio.checkpoints.search import Findings, FoundPart, cache_folders, search
from ovi_studio.core.variants import Variant


def find(inventory: Inventory, folders: Sequence[Path] = ()) -> Findings:
    """Look for what an inventory lacks: in `folders`, in the checkpoint directory, and in the Hugging Face cache."""
    variant = inventory.variant
    if variant.root is not None or inventory.complete:
        return Findings((), ())
    # A damaged file is the user's to remove: no other file of the part would be used beside it.
    lacking = [problem.part for problem in inventory.problems if not holds(problem.path.is_file)]
    here = [inventory.directory] if holds(inventory.directory.is_dir) else []
    return search(variant, lacking, [*folders, *here, *cache_folders(variant)])


def adopt(variant: Variant, directory: Path, folders: Sequence[Path] = ()) -> Findings:
    """Link what `find` finds; raises `JobError` if that is impossible."""
    findings = find(take_inventory(variant, directory), folders)
    for found in findings.found:
        for target, create in _targets(variant, directory, found):
            if not holds(target.is_file):
                _place(target, create)
    return findings


def _place(target: Path, create: Callable[[Path], object]) -> None:
    part = target.with_name(f"{target.name}.part")
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.unlink(missing_ok=True)
            create(part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def format_findings(findings: Findings) -> str:
    """Text for a terminal: one line per file, then the remarks; empty if there is nothing to tell."""
    lines = [
        f"{'found':>9}  {found.part}: {path}{f' ({found.dtype})' if found.dtype else ''}"
        for found in findings.found
        for path in found.files
    ]
    return "\n".join([*lines, *(f"{'note':>9}  {remark}" for remark in findings.remarks)])


def _targets(variant: Variant, directory: Path, found: FoundPart) -> Iterator[tuple[Path, Callable[[Path], object]]]:
    """Where the files of a part belong, each with the function that creates it."""
    official = [directory / file.location for file in variant.files[found.part]]
    if found.files[0].suffix != ".safetensors":
        for target, file in zip(official, found.files, strict=True):
            yield target, partial(_link, file)
        return
    target = official[0].with_suffix(".safetensors")
    count = len(found.files)
    if count == 1:
        yield target, partial(_link, found.files[0])
        return
    names = [f"{target.stem}-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
    for file, name in zip(found.files, names, strict=True):
        yield target.with_name(name), partial(_link, file)
    # Last, so that there is no index without its shards.
    yield target.with_name(f"{target.name}.index.json"), partial(_write_index, found.files, names)


def _write_index(files: Sequence[Path], names: Sequence[str], place: Path) -> None:
    """Write an index that makes files, linked under other names, the shards of one model."""
    weights = {tensor: name for file, name in zip(files, names, strict=True) for tensor in read_header(file)}
    place.write_text(json.dumps({"metadata": {}, "weight_map": weights}, indent=1), encoding="utf-8")


def _link(file: Path, place: Path) -> None:
    for attempt in (os.symlink, os.link):
        try:
            attempt(file, place)
        except OSError:  # no right to make links, or another disk
            continue
        return
    shutil.copyfile(file, place)
