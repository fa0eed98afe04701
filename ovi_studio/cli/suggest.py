"""`python -m ovi_studio suggest`: let a chat model of your own rewrite prompts, to be read before clips are made."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ovi_studio.cli.command import Command
from ovi_studio.core.errors import JobError
from ovi_studio.runtime.options import OptionGroup, RuntimeOptions
from ovi_studio.services.prompt_helper.settings import HelperSettings

if TYPE_CHECKING:
    from ovi_studio.core.variants import Variant
    from ovi_studio.services.prompt_helper.service import PromptHelper

_MOST = 1000
"""Prompts of a table."""


def _add_options(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--prompt", help="a prompt, which may be a pattern; its tags and patterns are kept")
    source.add_argument(
        "--prompts", type=Path, metavar="FILE.csv", help="table of prompts, as for `generate`; needs --out"
    )
    parser.add_argument("--image", type=Path, help="first frame, for models that can see; --prompt may then be empty")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.csv", help="write both texts of every prompt to this new table"
    )
    parser.add_argument("--variant", help="model variant whose form the prompts take (default: the best complete one)")
    HelperSettings.add_to(parser)
    RuntimeOptions.add_to(parser, OptionGroup.FOLDERS)


def _run(options: argparse.Namespace) -> int:
    from ovi_studio.checkpoints.layout import complete_variants
    from ovi_studio.core.variants import find_variant
    from ovi_studio.services.prompt_helper.service import PromptHelper

    runtime = RuntimeOptions.of(options)
    settings = HelperSettings.of(options)
    if options.variant:
        variant = find_variant(options.variant, runtime.checkpoints)
    else:
        variant = complete_variants(runtime.checkpoints)[0]
    if (options.prompts is None) != (options.out is None):
        raise JobError("--prompts and --out belong together: the table that is read, and the one that is written.")
    helper = PromptHelper(settings)
    try:
        if options.prompts is not None:
            return _table(options.prompts, options.out, helper, variant)
        found = helper.suggest(options.prompt, variant, options.image)
    finally:
        helper.close()
    print(found.after)
    for warning in found.warnings:
        print(warning, file=sys.stderr)
    return 0


def _table(source: Path, target: Path, helper: "PromptHelper", variant: "Variant") -> int:
    """Write a table whose prompts are suggestions, with the old ones beside them; returns 1 if one has none."""
    from ovi_studio.media.small_files import write_atomically
    from ovi_studio.services.prompt_tables import PROMPT, read_table, with_prompts

    if target.exists():
        raise JobError(f"{target} exists; name a new file with --out.")
    table = read_table(source, _MOST)
    for row in table.rows:
        if row.problem:
            raise JobError(f"{source.name}, line {row.line}: {row.problem}")
    new: dict[int, str] = {}
    for number, row in enumerate(table.rows, start=1):
        try:
            new[row.line] = helper.suggest(row.cells.get(PROMPT, ""), variant).after
        except JobError as error:
            print(f"line {row.line}: {error}", file=sys.stderr)
        print(f"{number} of {len(table.rows)} prompts", file=sys.stderr)
    write_atomically(target, with_prompts(table, new))
    print(f"{target}: {len(new)} new prompts; read them, then run `generate --prompts {target}`.")
    return 0 if len(new) == len(table.rows) else 1


COMMAND = Command(
    "suggest",
    "let a chat model of your own rewrite prompts",
    _add_options,
    _run,
    "Ask a chat model for prompts in the form of a model variant. Nothing is queued, and nothing is sent anywhere but "
    "to the server that --helper names; without it, --helper-model runs on this machine's CPU.",
)
