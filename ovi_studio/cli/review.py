"""`python -m ovi_studio review`: measure clips, and whether their words are right."""

import argparse
import json
from pathlib import Path

from ovi_studio.cli.command import Command
from ovi_studio.runtime.options import OptionGroup, RuntimeOptions


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="clips")
    parser.add_argument(
        "--listener", metavar="NAME", help="compare the words: `pocketsphinx`, `whisper`, or a Whisper model's folder"
    )
    parser.add_argument("--after", type=Path, metavar="FILE", help="the clip that the first one continues")
    RuntimeOptions.add_to(parser, OptionGroup.FOLDERS)


def _run(options: argparse.Namespace) -> int:
    from ovi_studio.core.prompt_check import parse_prompt
    from ovi_studio.media.clip_files import read_record
    from ovi_studio.takes.check import check_take
    from ovi_studio.takes.listeners import find_listener

    checkpoints = RuntimeOptions.of(options).checkpoints
    listener = find_listener(options.listener, checkpoints) if options.listener else None
    faults, before = 0, options.after
    for path in options.files:
        speech = parse_prompt(str(read_record(path)["spec"].get("prompt", ""))).speech
        scores = check_take(path, speech, listener, before)
        print(json.dumps({"clip": str(path), "said": list(speech), **scores.to_dict()}, ensure_ascii=False), flush=True)
        faults += len(scores.faults)
        before = None
    return 1 if faults else 0


COMMAND = Command("review", "measure clips, and whether their words are right", _add_options, _run)
