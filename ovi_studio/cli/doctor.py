"""`python -m ovi_studio doctor`: what this machine has, what it can run and what is missing."""

import argparse

from ovi_studio.cli.command import Command
from ovi_studio.cli.download import add_look_in, existing_folders
from ovi_studio.runtime.options import RuntimeOptions


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_look_in(parser)
    RuntimeOptions.add_to(parser, only=["checkpoint_directory"])


def _run(options: argparse.Namespace) -> int:
    from ovi_studio.services import doctor

    folders = existing_folders(options.look_in)
    print(doctor.format_report(doctor.examine(RuntimeOptions.of(options).checkpoints, folders=folders)))
    return 0


COMMAND = Command("doctor", "check what this machine has, what it can run and what is missing", _add_options, _run)
