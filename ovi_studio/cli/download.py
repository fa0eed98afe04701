"""`python -m ovi_studio download`: download the missing files of a model variant or preset."""

import argparse
import sys

from ovi_studio.cli.command import Command
from ovi_studio.runtime.options import OptionGroup, RuntimeOptions


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="a model variant, or a preset whose LoRA files are missing")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be downloaded")
    RuntimeOptions.add_to(parser, OptionGroup.FOLDERS)


def _run(options: argparse.Namespace) -> int:
    from ovi_studio.adapters.sources import fetch_adapters
    from ovi_studio.checkpoints import download
    from ovi_studio.cli import adapters
    from ovi_studio.core.variants import known_variants

    runtime = RuntimeOptions.of(options)
    variant = known_variants(runtime.checkpoints).get(options.name)
    if variant is None:
        plan = adapters.plan_download(options.name, runtime)
    else:
        plan = download.plan(variant, runtime.checkpoints)
    print(download.format_plan(plan), flush=True)
    if options.dry_run or not plan.files:
        return 0

    def report(progress: download.DownloadProgress) -> None:
        print(f"\r\033[K{download.format_progress(progress)}", end="", file=sys.stderr, flush=True)

    fetch = download.fetch if variant else fetch_adapters
    try:
        fetch(plan, report)
    finally:
        print(file=sys.stderr)
    print(f"{'Variant' if variant else 'Preset'} {options.name} is complete in {plan.directory}.")
    return 0


COMMAND = Command("download", "download the missing files of a model variant or preset", _add_options, _run)
