"""Options of `generate` for clips that keep a part of another: one half, all but a span of time, or only a likeness.

`--again`, `--keep-picture` and `--keep-sound` name a clip, a video or a sound. A clip of this app brings its settings
with it; its prompt and everything else can be overridden, and other files need a `--prompt`.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ovi_studio.core.errors import JobError
from ovi_studio.core.spans import ALL, NOTHING, Spans, format_spans, kept_around
from ovi_studio.core.spec import MAX_SEED, SOURCE_FIELDS

_HALVES = ("picture", "sound")
_PROMPTS = ("prompt", "prompts", "config_file", "clip")


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Add the options; `settle_source` then gives `kept`, `starts_anew` and `clip` their values."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--keep-picture", type=Path, metavar="FILE", help="make new sound for the picture of this file")
    group.add_argument("--keep-sound", type=Path, metavar="FILE", help="make a new picture for the sound of this file")
    group.add_argument(
        "--again", type=Path, metavar="FILE", help="make a part of this clip again: a span of time, or a likeness"
    )
    parser.add_argument("--from-second", type=float, metavar="SECONDS", help="start of what --again makes (default: 0)")
    parser.add_argument("--to-second", type=float, metavar="SECONDS", help="end of what --again makes (default: end)")
    parser.add_argument("--only", choices=_HALVES, help="the half that --again makes in its span (default: both)")
    parser.add_argument(
        "--strength", type=float, help="fraction of the steps; below 1 the clip starts from the file (default: 1)"
    )
    parser.add_argument(
        "--resample", type=int, dest="resamples", metavar="N", help="make each step N times more, for a better fit"
    )
    parser.add_argument(
        "--source", type=Path, metavar="FILE", help="where the file is now of which --from keeps a part"
    )


def settle_source(options: argparse.Namespace) -> None:
    """Turn the options into `kept` (fields of a clip), `starts_anew`, and `clip` if the file has settings of its own.

    Raises `JobError` for options that do not go together.
    """
    file = options.keep_picture or options.keep_sound or options.again
    options.kept = {} if file is None else _kept(options, file)
    options.starts_anew = file is not None
    _refuse_idle(options)
    if file is None and all(getattr(options, name) is None for name in _PROMPTS):
        raise JobError("Nothing says what to make; give --prompt, --prompts, --config-file, --from or --again.")
    if file is not None and options.clip is not None:
        raise JobError("--from makes a clip again as it was; use --again, or leave out what is to be kept.")
    if file is not None and not (options.prompts or options.config_file) and _has_recipe(file, options.prompt):
        options.clip = file


def anew(recipe: Mapping[str, Any], prompt: str | None) -> dict[str, Any]:
    """Return the settings of a clip for another take: the next seed, a given prompt, and nothing of its own source."""
    values = {name: value for name, value in recipe.items() if name not in SOURCE_FIELDS}
    values["seed"] = min(recipe["seed"] + 1, MAX_SEED)
    return values if prompt is None else values | {"prompt": prompt, "typed_prompt": ""}


def _kept(options: argparse.Namespace, file: Path) -> dict[str, Any]:
    picture, sound = _spans(options)
    kept = {"source": str(file), "keep_picture": format_spans(picture), "keep_sound": format_spans(sound)}
    # The source has its own first frame, which is kept, or replaced by a picture that is given.
    return kept | {"image": None}


def _spans(options: argparse.Namespace) -> tuple[Spans, Spans]:
    if options.keep_picture:
        return ALL, NOTHING
    if options.keep_sound:
        return NOTHING, ALL
    return kept_around(options.from_second or 0.0, options.to_second, options.only)


def _refuse_idle(options: argparse.Namespace) -> None:
    """Raise `JobError` for an option that would change nothing."""
    names = {"from_second": "--from-second", "to_second": "--to-second", "only": "--only"}
    if idle := [option for name, option in names.items() if getattr(options, name) is not None and not options.again]:
        raise JobError(f"{', '.join(idle)} needs --again FILE, the clip of which a part is made again.")
    if options.source and (options.kept or not options.clip):
        raise JobError("--source goes with --from, for a clip that keeps a part of another file.")
    if options.again and not (options.kept["keep_picture"] or options.kept["keep_sound"] or options.strength):
        raise JobError(
            "--again would make the whole clip anew; add --from-second and --to-second, --only, or --strength."
        )


def _has_recipe(file: Path, prompt: str | None) -> bool:
    from ovi_studio.media.clip_files import read_record

    try:
        read_record(file)
    except JobError as error:
        if prompt is not None and file.is_file():
            return False
        if not file.is_file():
            raise JobError(f"There is no file {file}; check its path.") from error
        raise JobError(f"{file.name} does not say what it shows; describe the clip with --prompt.") from error
    return True
