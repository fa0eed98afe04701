"""`Command`: what each command file in this folder declares.

Imports no torch: a command imports slow libraries when it runs.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A command of `python -m ovi_studio`."""

    name: str
    help: str
    """One line for the list of commands."""
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    """Returns the exit status; raises `JobError`. `options.arguments`: the raw arguments after the command's name."""
    description: str | None = None
    """Text above the options in the command's own help."""
