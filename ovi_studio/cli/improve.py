"""`python -m ovi_studio improve`: make clips larger and smoother."""

import argparse
import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ovi_studio.cli.command import Command
from ovi_studio.cli.progress_bar import FrameBar
from ovi_studio.core.errors import JobError
from ovi_studio.core.improvement import FRAME_RATES, Improvement
from ovi_studio.core.log_lines import one_line
from ovi_studio.runtime.options import RuntimeOptions

if TYPE_CHECKING:
    from ovi_studio.improve.improver import Target


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="a clip of this app; it is not changed")
    parser.add_argument("--upscale", metavar="NAME", help="a model in the folder of the upscalers")
    parser.add_argument(
        "--fps", type=int, choices=FRAME_RATES, help="frames a second, by interpolating motion (default: as they are)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the results (default: beside each clip)")
    RuntimeOptions.add_to(parser, only=["upscaler_directory", "device", "dtype"])


def _run(options: argparse.Namespace) -> int:
    from ovi_studio.improve.improver import ClipImprover
    from ovi_studio.improve.upscaler_library import UpscalerLibrary

    runtime = RuntimeOptions.of(options)
    library = UpscalerLibrary(runtime.upscalers)
    improvement = library.pin(Improvement(options.upscale, options.fps))
    improver = ClipImprover(library, runtime.device, runtime.dtype)
    failures = 0
    for file in options.files:
        try:
            with FrameBar() as bar:
                path = improver.improve(file, improvement, _target(file, options.out, improvement), bar)
        except JobError as error:
            failures += 1
            print(f"error: {one_line(str(error))}", file=sys.stderr)
        else:
            print(path, flush=True)
    return 1 if failures else 0


def _target(file: Path, out: Path | None, improvement: Improvement) -> "Target":
    from ovi_studio.improve.improver import Target
    from ovi_studio.media.clip_names import file_stem
    from ovi_studio.queue.paths import StudioPaths

    directory = out or file.absolute().parent
    upscaled = None if improvement.upscaler is None else file_stem(Path(improvement.upscaler).name)
    faster = None if improvement.fps is None else f"{improvement.fps}fps"
    stem = "_".join(filter(None, [file.stem, upscaled, faster]))
    # The same command goes on where it was stopped.
    owner = hashlib.sha256(f"{file.resolve()}\0{(directory / stem).resolve()}".encode()).hexdigest()[:16]
    return Target(directory, stem, StudioPaths.of(directory).improving, f"cli_{owner}")


COMMAND = Command(
    "improve",
    "make clips larger and smoother",
    _add_options,
    _run,
    description="Write copies of clips with a larger picture, more frames a second, or both; sound and settings stay.",
)
