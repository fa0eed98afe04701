"""`python -m ovi_studio export`: clips in other formats, and many of them as one zip."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ovi_studio.cli.command import Command
from ovi_studio.core.errors import JobError
from ovi_studio.core.log_lines import one_line

if TYPE_CHECKING:
    from ovi_studio.media.exports import ExportOptions

ZIP = "zip"
_KINDS = ("wav", "png", "gif", "webp", ZIP)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="a clip of this app; it is not changed")
    parser.add_argument(
        "--as",
        dest="kind",
        choices=_KINDS,
        required=True,
        help="wav: the sound; png: one frame; gif, webp: a loop without sound; zip: all clips and their settings",
    )
    parser.add_argument("--frame", type=int, default=0, help="which frame, from 0; -1: the last (default: %(default)s)")
    parser.add_argument(
        "--side", type=int, default=480, help="pixels of a loop's longer side at most (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, metavar="PATH", help="folder (default: beside each clip); the .zip itself")


def _run(options: argparse.Namespace) -> int:
    if options.kind == ZIP:
        print(_write_zip(options.files, options.out or Path("clips.zip")))
        return 0
    from ovi_studio.media.exports import ExportOptions

    chosen = ExportOptions(options.frame, options.side)
    failures = 0
    for file in options.files:
        try:
            path = _export(file, options.kind, chosen, options.out or file.parent)
        except JobError as error:
            failures += 1
            print(f"error: {one_line(str(error))}", file=sys.stderr)
        else:
            print(path, flush=True)
    return 1 if failures else 0


def _export(file: Path, kind: str, options: "ExportOptions", folder: Path) -> Path:
    from ovi_studio.media.clip_files import read_record
    from ovi_studio.media.exports import export
    from ovi_studio.media.small_files import write_new

    read_record(file)  # of a file that is no clip, the reason is more than that it cannot be decoded
    target = folder / f"{file.stem}.{kind}"
    if kind == "png":
        target = target.with_stem(f"{file.stem}_{options.frame}")
    write_new(target, [export(file, kind, options)])
    return target


def _write_zip(files: Iterable[Path], target: Path) -> Path:
    from ovi_studio.core.spec import ClipSpec
    from ovi_studio.media.clip_files import read_record
    from ovi_studio.media.small_files import write_new
    from ovi_studio.services.clip_bundle import zip_clips

    paths = list(dict.fromkeys(files))
    names = [path.name for path in paths]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise JobError(f"Two of the clips are called {twice[0]}; rename one, or make two zips.")
    write_new(target, zip_clips([(path, ClipSpec.from_record(read_record(path)["spec"])) for path in paths]))
    return target


COMMAND = Command(
    "export",
    "write clips in other formats, or as one zip",
    _add_options,
    _run,
    description="Write the sound of clips, a frame, a loop without sound, or a zip of clips with their settings.",
)
