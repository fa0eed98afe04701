"""`python -m ovi_studio show`: print the settings stored in a clip or in a film."""

import argparse
import json
from pathlib import Path

from ovi_studio.cli.command import Command


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path)


def _run(options: argparse.Namespace) -> int:
    from ovi_studio.media.clip_files import read_film, read_record

    print(json.dumps(read_film(options.file) or read_record(options.file), indent=2, ensure_ascii=False))
    return 0


COMMAND = Command("show", "print the settings stored in a clip or in a film", _add_options, _run)
