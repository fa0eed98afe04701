"""`python -m ovi_studio download`: find or download the missing files of a model variant or preset."""

import argparse
import sys
from pathlib import Path

from ovi_studio.cli.command import Command
from ovi_studio.core.errors import JobError
from ovi_studio.runtime.options import OptionGroup, RuntimeOptions


def add_look_in(parser: argparse.ArgumentParser) -> None:
    """Add the option that names folders of other applications."""
    parser.add_argument(
        "--look-in",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="look for files in this folder too, such as ComfyUI/models; repeatable",
    )


def existing_folders(folders: list[Path]) -> list[Path]:
    """The folders with `~` expanded; raises `JobError` if one does not exist."""
    folders = [folder.expanduser() for folder in folders]
    for folder in folders:
        if not folder.is_dir():
            raise JobError(f"--look-in {folder} is not a folder; name one that exists.")
    return folders


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        help="a model variant, a preset whose LoRA files are missing, an image model as `owner/name`, or `whisper`",
    )
    parser.add_argument("--dry-run", action="store_true", help="only show what would be linked and downloaded")
    add_look_in(parser)
    RuntimeOptions.add_to(parser, OptionGroup.FOLDERS)


def _run(options: argparse.Namespace) -> int:
    from ovi_studio.adapters.sources import fetch_adapters
    from ovi_studio.checkpoints import download
    from ovi_studio.checkpoints.adopt import adopt, find, format_findings
    from ovi_studio.checkpoints.image_model import plan_image_model, require_image_model
    from ovi_studio.checkpoints.layout import take_inventory
    from ovi_studio.checkpoints.whisper_files import plan_whisper
    from ovi_studio.cli import adapters
    from ovi_studio.core.variants import known_variants
    from ovi_studio.takes.listeners import WHISPER

    runtime = RuntimeOptions.of(options)
    variant = known_variants(runtime.checkpoints).get(options.name)
    folders = existing_folders(options.look_in)
    if options.name == WHISPER:
        plan = plan_whisper(runtime.checkpoints)
    elif "/" in options.name:
        plan = plan_image_model(options.name, runtime.checkpoints)
    elif variant is None:
        if folders:
            raise JobError(f"--look-in finds files of model variants; {options.name} is none.")
        plan = adapters.plan_download(options.name, runtime)
    else:
        inventory = take_inventory(variant, runtime.checkpoints)
        findings = find(inventory, folders) if options.dry_run else adopt(variant, runtime.checkpoints, folders)
        if text := format_findings(findings):
            print(text, flush=True)
        plan = download.plan(variant, runtime.checkpoints, without=[found.part for found in findings.found])
    print(download.format_plan(plan), flush=True)
    if options.dry_run or not plan.files:
        return 0

    def report(progress: download.DownloadProgress) -> None:
        print(f"\r\033[K{download.format_progress(progress)}", end="", file=sys.stderr, flush=True)

    plain = options.name == WHISPER or "/" in options.name
    fetch = download.fetch if variant else download.fetch_files if plain else fetch_adapters
    try:
        fetch(plan, report)
    finally:
        print(file=sys.stderr)
    if "/" in options.name:
        require_image_model(options.name, runtime.checkpoints)
    kinds = {WHISPER: "Listener"} | ({options.name: "Image model"} if "/" in options.name else {})
    kind = "Variant" if variant else kinds.get(options.name, "Preset")
    print(f"{kind} {options.name} is complete in {plan.directory}.")
    return 0


COMMAND = Command("download", "find or download the missing files of a model variant or preset", _add_options, _run)
