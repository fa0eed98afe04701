"""`python -m ovi_studio show`: print the settings stored in a clip or in a film, and verify its marks."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from ovi_studio.cli.command import Command


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path)


def _run(options: argparse.Namespace) -> int:
    from ovi_studio.media.clip_files import read_film, read_record
    from ovi_studio.media.score_box import read_scores

    record = read_film(options.file) or read_record(options.file)
    if isinstance(record, dict) and (scores := read_scores(options.file)) is not None:
        record["scores"] = scores
    # Beside the settings, which other programs read.
    for line in _marks(options.file):
        print(line, file=sys.stderr)
    print(json.dumps(record, indent=2, ensure_ascii=False))
    return 0


def _marks(path: Path) -> Iterator[str]:
    from ovi_studio.media.origin import describe_credentials, describe_mark

    yield f"mark: {describe_mark(path)}"
    if (credentials := describe_credentials(path)) is not None:
        yield f"Content Credentials: {credentials}"


COMMAND = Command("show", "print the settings stored in a clip or in a film, and verify its marks", _add_options, _run)
