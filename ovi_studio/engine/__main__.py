"""`python -m ovi_studio engine`: the engine alone, without a page."""

import argparse
import faulthandler
import sys
from collections.abc import Sequence

from ovi_studio.core.errors import JobError
from ovi_studio.distributed.ending import end_with
from ovi_studio.distributed.launch import launch_if_several
from ovi_studio.engine.loop import run
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.runtime.options import add_engine_options, maker_options
from ovi_studio.runtime.runner import DEFAULT_MAKER


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a queue; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m ovi_studio engine", description="Make the clips of a queue.")
    add_engine_options(parser)
    # For the supervisor and for tests.
    parser.add_argument("--owner", help=argparse.SUPPRESS)
    parser.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--maker", default=DEFAULT_MAKER, help=argparse.SUPPRESS)
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(arguments)
    faulthandler.enable()
    try:
        launch_if_several(options.gpus, "ovi_studio.engine", arguments)
        run(
            StudioPaths.of(options.out, options.state),
            maker_options(options),
            maker=options.maker,
            owner=options.owner,
            supervised=options.supervised,
        )
    except JobError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    end_with(main)
