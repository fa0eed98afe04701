"""What `generate` is asked to make: the clips of its options, a table, the official configuration, or another clip."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovi_studio.cli import adapters
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec, merge_settings
from ovi_studio.runtime.options import RuntimeOptions

if TYPE_CHECKING:
    from ovi_studio.services.prompt_files import OfficialRun

_SPEC_OPTIONS = (
    "image",
    "variant",
    "size",
    "steps",
    "seed",
    "solver",
    "shift",
    "video_guidance",
    "audio_guidance",
    "slg_layer",
    "video_negative_prompt",
    "audio_negative_prompt",
    "timesteps",
    "adapters",
)
_OPTION_NAMES = {"adapters": "--lora"}


def collect(
    options: argparse.Namespace, runtime: RuntimeOptions, run: "OfficialRun | None"
) -> tuple[list[ClipSpec], list[Any]]:
    """The clips to make, and the rows that make none."""
    from ovi_studio.services.prompt_files import read_prompt_file

    if options.count < 1:
        raise JobError(f"The count must be 1 or more, not {options.count}.")
    given = {name: value for name in _SPEC_OPTIONS if (value := getattr(options, name)) is not None}
    if run is not None:
        _refuse_settings(given | ({"preset": options.preset} if options.preset else {}), "the configuration file")
        return _repeated(run.specs, options.count), list(run.bad_rows)
    preset = adapters.chosen_preset(options.preset, runtime, options.out)
    given = merge_settings(preset.settings if preset else {}, given)
    if options.clip:
        from ovi_studio.media.clip_files import PICTURES_FOLDER, read_spec

        spec = read_spec(options.clip, (options.out or Path("outputs")) / PICTURES_FOLDER)
        specs, bad_rows = [spec.with_settings(given)], []
    else:
        if "variant" not in given:
            given["variant"] = adapters.chosen_variant(preset, runtime.checkpoints)
        if options.prompts:
            specs, bad_rows = read_prompt_file(options.prompts, given)
        else:
            specs, bad_rows = [ClipSpec.from_dict({**given, "prompt": options.prompt})], []
    for spec in specs if preset else ():
        preset.check(spec.variant)
    return _repeated(specs, options.count), bad_rows


def _repeated(specs: Sequence[ClipSpec], count: int) -> list[ClipSpec]:
    return [replace(spec, seed=spec.seed + index) for spec in specs for index in range(count)]


def _refuse_settings(given: dict[str, Any], source: str) -> None:
    if given:
        names = ", ".join(_OPTION_NAMES.get(name, f"--{name.replace('_', '-')}") for name in given)
        raise JobError(f"{names} cannot be combined with {source}, which holds these settings; change them there.")
