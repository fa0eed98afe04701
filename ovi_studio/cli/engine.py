"""`python -m ovi_studio engine`: work through the page's queue without the page."""

import argparse

from ovi_studio.cli.command import Command
from ovi_studio.engine.command import add_engine_options


def _run(options: argparse.Namespace) -> int:
    from ovi_studio.engine.__main__ import serve

    return serve(options, options.arguments)


COMMAND = Command(
    "engine",
    "work through the page's queue without the page",
    add_engine_options,
    _run,
    description="Make the clips in a queue.",
)
