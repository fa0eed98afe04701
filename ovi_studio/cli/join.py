"""`python -m ovi_studio join`: let this machine make clips of another machine's queue."""

import argparse

from ovi_studio.cli.command import Command
from ovi_studio.runtime.options import RuntimeOptions


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="ADDRESS", help="the head's address, as its join line names it")
    parser.add_argument("--name", help="what this machine is called (default: its host name)")
    parser.add_argument(
        "--gpus", type=int, default=1, metavar="N", help="how many GPUs share a clip (default: each makes its own)"
    )
    parser.add_argument("--download", metavar="VARIANT", help="fetch this variant first if it is not complete here")
    parser.add_argument(
        "--models-from",
        metavar="HEAD",
        help="copy that variant, or all of them, from a head and not from the hub: its address, or `head` for ADDRESS",
    )
    RuntimeOptions.add_to(parser, only=["checkpoint_directory"])


def _run(options: argparse.Namespace) -> int:
    from ovi_studio.farm.join import join

    return join(
        options.address,
        RuntimeOptions.of(options).checkpoints,
        name=options.name,
        gpus=options.gpus,
        download=options.download,
        models_from=options.models_from,
    )


COMMAND = Command("join", "make clips of another machine's queue on this one", _add_options, _run)
