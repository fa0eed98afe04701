"""`python -m ovi_studio show`: print the settings stored in a clip or in a film, and verify its marks."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from ovi_studio.cli.command import Command
from ovi_studio.core.errors import JobError


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
    """Sentences about who or what made the file, as far as it says so."""
    from ovi_studio.media.content_credentials import read_credentials
    from ovi_studio.media.xmp_mark import MADE_BY_MODEL, read_source_type

    kind = read_source_type(path)
    if kind is None:
        yield "mark: none; the file does not say that it was made by a model"
    else:
        yield f"mark: {'made by a model' if kind == MADE_BY_MODEL else 'another source'} ({kind})"
    try:
        found = read_credentials(path)
    except JobError as error:
        yield f"Content Credentials: not verified. {error}"
        return
    if found is not None:
        state = "unchanged since it was signed" if found.intact else f"INVALID ({', '.join(found.faults)})"
        trust = "" if found.trusted else ", whom no trusted list names"
        yield f"Content Credentials: {state}; signed by {found.signer}{trust}"


COMMAND = Command("show", "print the settings stored in a clip or in a film, and verify its marks", _add_options, _run)
