"""The clips that `generate` makes, from a prompt, a table, an official configuration or another clip."""

import argparse
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.cli import adapters
from ovi_studio.cli.made_again import anew, settle_source
from ovi_studio.core.adapter_stack import Stack
from ovi_studio.core.drawing import DRAWS, FLAT_NAMES
from ovi_studio.core.errors import JobError
from ovi_studio.core.log_lines import one_line
from ovi_studio.core.prompt_patterns import escape_prompt
from ovi_studio.core.requests import MAX_RUN, Context, Expansion, Request, SeedMode, expand_request
from ovi_studio.core.spec import ClipSpec, merge_settings
from ovi_studio.core.variants import find_variant
from ovi_studio.engine.command import DEFAULT_OUTPUT_DIRECTORY
from ovi_studio.media.sources import pin_source
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.preset_offers import chosen_variant
from ovi_studio.services.prompt_files import OfficialRun, check_picture, expand_table
from ovi_studio.services.prompt_tables import read_table

_SPEC_OPTIONS = (
    "image",
    "raw_colours",
    "variant",
    "size",
    "steps",
    "seed",
    "solver",
    "shift",
    "video_guidance",
    "audio_guidance",
    "slg_layer",
    "step_cache",
    "video_negative_prompt",
    "audio_negative_prompt",
    "timesteps",
    "adapters",
    "strength",
    "resamples",
    DRAWS,
    *FLAT_NAMES,
)
OUTSIDE_CONFIG = ("raw_colours", *FLAT_NAMES)
"""Settings for which the official configuration has no name."""
_OPTION_NAMES = {"adapters": "--lora"}


def collect(options: argparse.Namespace, runtime: RuntimeOptions, run: OfficialRun | None) -> Expansion:
    """Return the clips to make, those of the official configuration if there is one; raises `JobError`.

    Seeds are reproducible: the given seed or the default of `ClipSpec`, and the following ones with `--count`.
    """
    settle_source(options)
    given = {name: value for name in _SPEC_OPTIONS if (value := getattr(options, name)) is not None}
    if run is not None:
        for name in OUTSIDE_CONFIG:
            given.pop(name, None)  # `read_official_config` applies it
        _refuse_settings(
            [*given, *(["source"] if options.kept else []), *(["preset"] if options.preset else [])],
            "the configuration file",
        )
        return _pinned(run.clips, runtime)
    preset = adapters.chosen_preset(options.preset, runtime, options.out)
    values = merge_settings(preset.settings if preset else {}, given)
    if not options.clip and "variant" not in values:
        values["variant"] = chosen_variant(preset, runtime.checkpoints)
    clips = _expand(options, values, runtime.checkpoints)
    if preset is not None:
        for variant in {spec.variant for spec in clips.specs}:
            preset.check(variant)
    return _pinned(clips, runtime)


def as_recorded(runtime: RuntimeOptions, options: argparse.Namespace) -> RuntimeOptions:
    """Return options that compute as those did which made the clip to make again, except where others are given."""
    from ovi_studio.media.clip_files import read_record

    record = read_record(options.clip, options.shot)
    machine, memory = (part if isinstance(part := record.get(name), dict) else {} for name in ("machine", "memory"))
    found: dict[str, Any] = {
        "dtype": machine.get("dtype"),
        "attention": machine.get("attention"),
        "compilation": compiled if isinstance(compiled := machine.get("compiled"), bool) else None,
        "weights": memory.get("weights"),
    }
    chosen = {name: value for name, value in found.items() if value is not None and getattr(options, name) is None}
    return replace(runtime, **chosen)


def report(clips: Expansion) -> None:
    """Print warnings about the prompts and errors in rows to stderr."""
    for note in clips.notes:
        print(f"note: {one_line(note)}", file=sys.stderr)
    for warning in clips.warnings:
        print(f"warning: {one_line(str(warning))}", file=sys.stderr)
    for row in clips.bad_rows:
        print(f"line {row.line}: {one_line(row.reason)}", file=sys.stderr)


def _expand(options: argparse.Namespace, values: Mapping[str, Any], checkpoint_directory: Path) -> Expansion:
    """Expand a prompt, a table, or the settings of an existing clip."""
    context = Context(cache(partial(find_variant, checkpoint_directory=checkpoint_directory)), check_picture, MAX_RUN)
    base = _recipe(options) if options.clip else {"prompt": options.prompt}
    base |= options.kept
    request = Request(merge_settings(base, values), seed_mode=SeedMode.FIXED, count=options.count)
    if options.prompts:
        return expand_table(read_table(options.prompts, MAX_RUN), request, context)
    return expand_request(request, context)


def _pinned(clips: Expansion, runtime: RuntimeOptions) -> Expansion:
    """Return the clips with the hash of every adapter file, so that a file that is replaced meanwhile is not used."""
    library = AdapterLibrary(runtime.adapters)

    @cache
    def pin(stack: Stack) -> Stack:
        try:
            return library.pin(stack)
        except JobError:
            return stack  # making the clip fails with the same reason, and the other clips are made

    @cache
    def pin_file(spec: ClipSpec) -> ClipSpec:
        try:
            return pin_source(spec)
        except JobError:
            return spec  # as above

    specs = tuple(pin_file(spec.with_stack(pin(spec.stack)) if spec.stack else spec) for spec in clips.specs)
    return replace(clips, specs=specs)


def _recipe(options: argparse.Namespace) -> dict[str, Any]:
    """Read the settings of the clip to make again."""
    from ovi_studio.media.clip_files import PICTURES_FOLDER, FirstFrameMissing, read_spec

    pictures = (options.out or DEFAULT_OUTPUT_DIRECTORY) / PICTURES_FOLDER
    try:
        spec = read_spec(options.clip, pictures, image=options.image, shot=options.shot, source=options.source)
    except FirstFrameMissing as error:
        if not (options.starts_anew or options.draw_first_frame):
            raise
        spec = error.spec  # the clip's own picture is there
    # A clip stores its expanded prompt, which must not be expanded as a pattern again.
    values = spec.to_dict() | {"prompt": escape_prompt(spec.prompt)}
    if options.draw_first_frame:
        values["image"] = None
    if not options.starts_anew:
        if spec.source is not None and not spec.source.is_file():
            raise JobError(f"{options.clip} keeps a part of {spec.source.name}, which is gone; name it with --source.")
        return values
    # With the same noise, what is made again would become the same again.
    return anew(values, options.prompt)


def _refuse_settings(names: Iterable[str], source: str) -> None:
    if options := [_OPTION_NAMES.get(name, f"--{name.replace('_', '-')}") for name in names]:
        raise JobError(
            f"{', '.join(options)} cannot be combined with {source}, which contains these settings; change them there."
        )
