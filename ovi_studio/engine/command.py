"""The engine's command line: its options, and the command that starts an engine."""

import argparse
import sys
from pathlib import Path

from ovi_studio.queue.paths import StudioPaths
from ovi_studio.runtime.clip_runner import OVI_MODELS
from ovi_studio.runtime.options import OptionGroup, RuntimeOptions

MODULE = "ovi_studio.engine"
DEFAULT_OUTPUT_DIRECTORY = Path("outputs")


def add_studio_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that serves a queue: folders, and how clips are made."""
    parser.add_argument(
        "--out", type=Path, default=DEFAULT_OUTPUT_DIRECTORY, help="folder for the clips (default: %(default)s)"
    )
    parser.add_argument(
        "--state", type=Path, help="folder of the queue (default: .studio/ in the folder for the clips)"
    )
    # For tests: `module:class` of the model source.
    parser.add_argument("--models", default=OVI_MODELS, help=argparse.SUPPRESS)
    RuntimeOptions.add_to(parser, *OptionGroup)


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `python -m ovi_studio engine`."""
    add_studio_options(parser)
    # For the supervisor and for tests.
    parser.add_argument("--owner", help=argparse.SUPPRESS)
    parser.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--shared", action="store_true", help=argparse.SUPPRESS)


def engine_command(
    paths: StudioPaths, options: RuntimeOptions, models: str = OVI_MODELS, *, shared: bool = False
) -> list[str]:
    """Return the command that starts an engine for a studio; `shared`: see `engine.loop.run`."""
    command = [sys.executable, "-m", MODULE, "--out", str(paths.outputs), "--state", str(paths.state)]
    return [*command, "--models", models, *(["--shared"] if shared else []), *options.arguments()]
