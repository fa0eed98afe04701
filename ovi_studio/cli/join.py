"""`python -m ovi_studio join`: let this machine make clips of another machine's queue."""

import argparse

from ovi_studio.cli.command import Command
from ovi_studio.runtime.options import RuntimeOptions


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="ADDRESS", help="the head's address, as its join line names it")
    parser.add_argument("--name", help="what this machine is called (default: its host name)")
    parser.add_argument("--download", metavar="VARIANT", help="fetch this variant first if it is not complete here")
    RuntimeOptions.add_to(parser, only=["checkpoint_directory"])


def _run(options: argparse.Namespace) -> int:
    from ovi_studio.farm.join import join

    return join(options.address, RuntimeOptions.of(options).checkpoints, name=options.name, download=options.download)


COMMAND = Command("join", "make clips of another machine's queue on this one", _add_options, _run)
