"""The engine's command line: its options, and what starts an engine with them."""

import argparse
import sys
from pathlib import Path

from ovi_studio.queue.paths import StudioPaths
from ovi_studio.runtime.clip_runner import OVI_MODELS
from ovi_studio.runtime.options import Group, RuntimeOptions

MODULE = "ovi_studio.engine"
DEFAULT_OUTPUT_DIRECTORY = Path("outputs")


def add_studio_options(parser: argparse.ArgumentParser) -> None:
    """Where clips, queue and models are, and how clips are made: of everything that serves a queue."""
    parser.add_argument(
        "--out", type=Path, default=DEFAULT_OUTPUT_DIRECTORY, help="folder for the clips (default: %(default)s)"
    )
    parser.add_argument("--state", type=Path, help="folder of the queue (default: .studio/ beside the clips)")
    # For tests: `module:class` of where models come from.
    parser.add_argument("--models", default=OVI_MODELS, help=argparse.SUPPRESS)
    RuntimeOptions.add_to(parser, *Group)


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Of `python -m ovi_studio engine`."""
    add_studio_options(parser)
    # For the supervisor and for tests.
    parser.add_argument("--owner", help=argparse.SUPPRESS)
    parser.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)


def engine_command(paths: StudioPaths, options: RuntimeOptions, models: str = OVI_MODELS) -> list[str]:
    """What starts an engine for a studio."""
    command = [sys.executable, "-m", MODULE, "--out", str(paths.outputs), "--state", str(paths.state)]
    return [*command, "--models", models, *options.arguments()]
