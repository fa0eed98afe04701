"""`python -m ovi_studio COMMAND`: see `cli.registry` for the commands."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from ovi_studio.cli.registry import COMMANDS
from ovi_studio.core.errors import JobError
from ovi_studio.core.log_lines import keep_lines_whole, one_line
from ovi_studio.core.terminal import use_forgiving_output
from ovi_studio.distributed.ending import end_with

INTERRUPTED = 130
"""Exit status after Ctrl+C, as in shells."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        options = build_parser().parse_args(arguments)
        # The arguments after the command's name, with which other ranks are started.
        options.arguments = list(arguments)[1:]
        return options.run(options)
    except JobError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. Finished files are kept; no partial files are left.", file=sys.stderr)
        return INTERRUPTED


def build_parser() -> argparse.ArgumentParser:
    """Build the parser with all commands."""
    parser = argparse.ArgumentParser(prog="python -m ovi_studio", description="Clips with picture and sound.")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        child = commands.add_parser(command.name, help=command.help, description=command.description)
        command.add_options(child)
        child.set_defaults(run=command.run)
    return parser


def run() -> NoReturn:
    """Entry point of the command `ovi-studio`: run `main` and exit with its status."""
    use_forgiving_output()
    keep_lines_whole()
    end_with(main)


if __name__ == "__main__":
    run()
