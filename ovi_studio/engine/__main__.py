"""`python -m ovi_studio engine`: the engine without a page."""

import argparse
import faulthandler
import sys
from collections.abc import Sequence

from ovi_studio.core.errors import JobError
from ovi_studio.distributed.ending import end_with
from ovi_studio.distributed.launch import launch_if_several
from ovi_studio.engine.command import MODULE, add_engine_options
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.runtime.options import RuntimeOptions


def serve(parsed: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Serve a queue until asked to end, on several ranks if there are several GPUs; returns the exit status.

    Args:
        parsed: the engine's parsed options.
        arguments: the command-line arguments that were parsed, for the other ranks.
    """
    faulthandler.enable()
    options = RuntimeOptions.of(parsed)
    launch_if_several(options.ranks, MODULE, arguments)
    from ovi_studio.engine.loop import run  # only now, since the launcher of several ranks does not need it

    paths = StudioPaths.of(parsed.out, parsed.state)
    run(paths, options, models=parsed.models, owner=parsed.owner, supervised=parsed.supervised, shared=parsed.shared)
    return 0


def main() -> int:
    """Entry point of `python -m ovi_studio.engine`, which the supervisor and the launcher of several ranks start."""
    parser = argparse.ArgumentParser(prog="python -m ovi_studio engine", description="Make the clips of a queue.")
    add_engine_options(parser)
    try:
        return serve(parser.parse_args(), sys.argv[1:])
    except JobError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    end_with(main)
