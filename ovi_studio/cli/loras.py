"""`python -m ovi_studio loras`: list the LoRA files and how well they fit a model."""

import argparse

from ovi_studio.cli.command import Command
from ovi_studio.runtime.options import OptionGroup, RuntimeOptions


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--variant", help="model variant to match them with (default: the best one that is complete)")
    RuntimeOptions.add_to(parser, OptionGroup.FOLDERS)


def _run(options: argparse.Namespace) -> int:
    from ovi_studio.cli import adapters

    print(adapters.library_report(options.variant, RuntimeOptions.of(options)))
    return 0


COMMAND = Command("loras", "list the LoRA files and how well they fit the model", _add_options, _run)
