"""Clips from prompt tables (`prompt_tables`) and from the official code's `inference_fusion.yaml`.

Both are accepted in the official format and become requests (`core.requests`), so their prompts may be patterns. A bad
row of a table is reported with its line number and the others are used; a file that is invalid as a whole raises
`JobError`. A setting that is not supported is refused, never ignored.
"""

import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml

from ovi_studio.capacity.layouts import MAX_GPUS, Strategy
from ovi_studio.capacity.tiers import AUTO
from ovi_studio.core.drawing import DRAWS, without_drawing
from ovi_studio.core.errors import JobError
from ovi_studio.core.requests import (
    MAX_RUN,
    Context,
    Expansion,
    Request,
    Row,
    SeedMode,
    expand_request,
    expand_rows,
)
from ovi_studio.core.spec import ClipSpec, merge_settings
from ovi_studio.core.variants import find_variant
from ovi_studio.core.weight_formats import Weights
from ovi_studio.media.pictures import read_recent
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.prompt_tables import (
    PICTURE,
    SOURCE,
    SUFFIXES,
    PromptTable,
    TableRow,
    find_file,
    read_table,
    read_text,
)

MAX_CONFIG_SIZE = 2**18
_DRAWS = "t2i2v"
"""The mode of the official code in which an image model draws the first frame."""


@dataclass(frozen=True)
class OfficialRun:
    """What the official code would make with a configuration."""

    runtime: RuntimeOptions
    output_directory: Path
    clips: Expansion
    """In the official order: all seeds of a prompt, then the next prompt."""


def expand_table(table: PromptTable, request: Request, context: Context, *, pictures: bool = True) -> Expansion:
    """Expand a table to its clips; each row is `request` with the values of its cells.

    An empty cell keeps the request's value, but an empty `image_path` means no picture; the seed -1 means a random one.
    Picture paths are resolved from the table's folder, then from the working directory. Raises `JobError` if a row
    names a picture or a source although `pictures` is False.
    """
    if not pictures:
        _refuse_files(table.rows)
    rows = (Row(row.line, _row_request(row, table.path, request)) for row in table.rows)
    return expand_rows(rows, context, table.notes)


def read_official_config(
    path: str | Path, count: int = 1, checkpoint_directory: Path | None = None, **others: Any
) -> OfficialRun:
    """Read an unchanged configuration file of the official code.

    Its paths are relative to the working directory, as in the official code; a table of prompts is also looked for in
    the file's own folder. Raises `JobError` for unknown settings, wrong types, and settings that are not supported.

    Args:
        count: multiplies the number of clips in the file; the extra ones use the following seeds.
        checkpoint_directory: used instead of the one in the file.
        others: settings of the clips for which the file has no name.
    """
    path = Path(path)
    config = _load_config(path)
    _refuse_unsupported(config, path)
    known = partial(find_variant, checkpoint_directory=checkpoint_directory or Path(config["ckpt_dir"]))
    known(_variant(config))
    return OfficialRun(
        runtime=_runtime(config),
        output_directory=Path(config["output_dir"]),
        clips=_config_clips(config, path, Context(cache(known), check_picture, MAX_RUN), count=count, others=others),
    )


# Tables


def check_picture(spec: ClipSpec) -> tuple[str, ...]:
    """Return notes about a clip's first frame; raises `JobError` for a file that cannot be one."""
    return () if spec.image is None else _picture_notes(spec.image, spec.raw_colours)


@cache
def _picture_notes(path: Path, raw_colours: bool) -> tuple[str, ...]:
    # Cached, since the rows of a table repeat the same pictures.
    return read_recent(path, raw_colours=raw_colours).notes


def _refuse_files(rows: Iterable[TableRow]) -> None:
    for row in rows:
        if row.cells.get(PICTURE, "").strip():
            raise JobError(
                f"Line {row.line} names a picture, which uploaded tables cannot do; use the command line for a table "
                "with pictures, or queue those clips one by one."
            )
        if row.cells.get(SOURCE, "").strip():
            raise JobError(
                f"Line {row.line} names a source, which uploaded tables cannot do; use the command line for a table "
                "with sources."
            )


def _row_request(row: TableRow, table: Path, request: Request, *, with_picture: bool = True) -> Request | JobError:
    """Return the request of a row, or the error that makes the row invalid."""
    if row.problem:
        return JobError(row.problem)
    given = {field: text for field, text in row.cells.items() if text.strip()}
    values = merge_settings({name: value for name, value in request.values.items() if name != "prompt"}, given)
    try:
        if not with_picture:
            values["image"] = None
        elif PICTURE in row.cells:
            values["image"] = _find_picture(row.cells[PICTURE], table.parent)
            if values["image"] is not None and DRAWS not in given:  # the request's wish is for rows without a picture
                values = without_drawing(values)
        if given.get(SOURCE):
            values[SOURCE] = _find_source(given[SOURCE], table.parent)
    except JobError as error:
        return error
    return replace(request, values=values, seed_mode=SeedMode.FIXED if "seed" in given else request.seed_mode)


def _find_source(text: str, folder: Path) -> Path:
    source = find_file(text, folder)
    if source is None:
        raise JobError(f"There is no file {text.strip()}, which the column source names; check its path.")
    return source


def _find_picture(text: str, folder: Path) -> Path | None:
    """Find the picture that a cell names; None for an empty cell."""
    if not text.strip():
        return None
    picture = find_file(text, folder)
    if picture is None:
        raise JobError(f"There is no picture {text.strip()}; correct the path, or leave the cell empty for no picture.")
    return picture


# The official configuration


@dataclass(frozen=True)
class _Setting:
    kind: str
    """A key of `_KINDS`."""
    default: Any = None
    """What the official code uses if the setting is missing."""
    required: bool = False


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "true or false": lambda value: isinstance(value, bool),
    "a whole number": _is_integer,
    "a number": lambda value: _is_integer(value) or isinstance(value, float),
    "a list of height and width": lambda value: isinstance(value, list) and [*map(_is_integer, value)] == [True, True],
}
_SETTINGS = {
    "ckpt_dir": _Setting("text", required=True),
    "output_dir": _Setting("text", "./outputs"),
    "sample_steps": _Setting("a whole number", 50),
    "solver_name": _Setting("text", "unipc"),
    "model_name": _Setting("text", "960x960_5s"),
    "shift": _Setting("a number", 5.0),
    "sp_size": _Setting("a whole number", 1),
    "audio_guidance_scale": _Setting("a number", 3.0),
    "video_guidance_scale": _Setting("a number", 4.0),
    "mode": _Setting("text", required=True),
    "fp8": _Setting("true or false", False),
    "qint8": _Setting("true or false", False),
    "cpu_offload": _Setting("true or false", False),
    "seed": _Setting("a whole number", 100),
    "video_negative_prompt": _Setting("text", ""),
    "audio_negative_prompt": _Setting("text", ""),
    "video_frame_height_width": _Setting("a list of height and width"),
    "text_prompt": _Setting("text", required=True),
    "image_path": _Setting("text"),
    "slg_layer": _Setting("a whole number", 11),
    "each_example_n_times": _Setting("a whole number", 1),
    "shard_text_model": _Setting("true or false", False),
    "use_fsdp": _Setting("true or false", False),
    "fsdp_sharding_strategy": _Setting("text", "FULL_SHARD"),
    "fsdp_cpu_offload": _Setting("true or false", False),
    # Tokens are always exchanged in the cheapest way available, so there is nothing to turn on or off.
    "use_optimized_comms": _Setting("true or false", False),
    "use_tensor_cores": _Setting("true or false", False),
}


def _load_config(path: Path) -> dict[str, Any]:
    """Load all settings, type-checked; missing and null ones get the official default."""
    text, _ = read_text(path, MAX_CONFIG_SIZE)
    try:
        # `safe_load` would silently take the last value of a repeated key.
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        given = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise JobError(f"{path} is not valid YAML ({reason}); correct it.") from error
    if not isinstance(given, dict) or not isinstance(node, yaml.MappingNode):
        raise JobError(f"{path} has no settings; it must consist of lines `name: value`.")
    counts = Counter(str(key.value) for key, _ in node.value)
    if repeated := [name for name, count in counts.items() if count > 1]:
        raise JobError(f"{path} sets {', '.join(repeated)} more than once; remove one.")
    if unknown := [str(name) for name in given if name not in _SETTINGS]:
        raise JobError(f"{path} has the unknown setting {', '.join(unknown)}; remove it.")
    return {name: _setting(name, given.get(name), path) for name in _SETTINGS}


def _setting(name: str, value: Any, path: Path) -> Any:
    setting = _SETTINGS[name]
    if value is None:
        if setting.required:
            raise JobError(f"{path} does not set {name}; add it.")
        return setting.default
    if not _KINDS[setting.kind](value):
        raise JobError(f"{path} sets {name} to {reprlib.repr(value)}; it must be {setting.kind}.")
    return value


def _refuse_unsupported(config: Mapping[str, Any], path: Path) -> None:
    if config["mode"] not in ("t2v", "i2v", _DRAWS):
        raise JobError(f"{path} sets mode to {config['mode']!r}; it must be t2v, i2v or {_DRAWS}.")
    if config["fsdp_sharding_strategy"] not in [*Strategy]:
        raise JobError(f"{path} must set fsdp_sharding_strategy to one of {', '.join(Strategy)}.")
    if not 1 <= config["sp_size"] <= MAX_GPUS:
        raise JobError(f"{path} must set sp_size to the number of GPUs that share a clip, from 1 to {MAX_GPUS}.")
    if config["shard_text_model"] and not config["use_fsdp"]:
        raise JobError(f"{path} sets shard_text_model, which needs use_fsdp; set both, or neither.")
    if config["fp8"] and config["model_name"] != "720x720_5s":
        raise JobError(f"{path} sets fp8, which exists for 720x720_5s only; change model_name or set fp8 to False.")
    if not 1 <= config["each_example_n_times"] <= MAX_RUN:
        raise JobError(f"{path} must set each_example_n_times to a number from 1 to {MAX_RUN}.")


def _runtime(config: Mapping[str, Any]) -> RuntimeOptions:
    options = RuntimeOptions(
        checkpoint_directory=Path(config["ckpt_dir"]),
        offloaded=config["cpu_offload"],
        weights=Weights.INT8 if config["qint8"] else AUTO,
        # bf16 always uses tensor cores; the setting applies to float32 layers.
        tf32=config["use_tensor_cores"],
        gpus=None if config["use_fsdp"] and config["sp_size"] == 1 else config["sp_size"],
    )
    # Without FSDP every GPU holds all weights, as in the official code; with FSDP the text encoder is sharded too.
    if not config["use_fsdp"]:
        return replace(options, fsdp_strategy=Strategy.NO_SHARD) if config["sp_size"] > 1 else options
    strategy, offloaded = config["fsdp_sharding_strategy"], config["fsdp_cpu_offload"]
    return replace(options, fsdp_strategy=strategy, fsdp_offload=offloaded)


def _variant(config: Mapping[str, Any]) -> str:
    return config["model_name"] + ("_fp8" if config["fp8"] else "")


def _prompt_table(prompt: str, config_path: Path) -> Path | None:
    """Find the table that `text_prompt` names; None if it is the prompt itself."""
    prompt = prompt.strip()
    table = find_file(prompt, config_path.parent)
    # The official code would use the file's name as the prompt.
    if table is None and prompt.lower().endswith(SUFFIXES):
        raise JobError(
            f"There is no table {prompt}; correct text_prompt in {config_path}, or run the command in its folder."
        )
    return table


def _config_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """Field of `ClipSpec` -> value, for everything except prompt and picture."""
    return {
        "variant": _variant(config),
        "size": config["video_frame_height_width"],
        "steps": config["sample_steps"],
        "solver": config["solver_name"],
        "shift": config["shift"],
        "seed": config["seed"],
        "video_guidance": config["video_guidance_scale"],
        "audio_guidance": config["audio_guidance_scale"],
        "slg_layer": config["slg_layer"],
        "video_negative_prompt": config["video_negative_prompt"],
        "audio_negative_prompt": config["audio_negative_prompt"],
        DRAWS: config["mode"] == _DRAWS or None,
    }


def _config_clips(
    config: Mapping[str, Any], path: Path, context: Context, *, count: int, others: Mapping[str, Any]
) -> Expansion:
    """Expand a configuration to its clips, each prompt `count` times as often as the file says."""
    times = config["each_example_n_times"] * count
    values = {**_config_values(config), **others}
    request = Request(values, seed_mode=SeedMode.FIXED, count=times)
    table = _prompt_table(config["text_prompt"], path)
    if table is not None:
        found = read_table(table, context.max_clips)
        rows = (_config_row(row, table, request, config) for row in found.rows)
        return expand_rows(rows, context, found.notes)
    values["prompt"] = config["text_prompt"].strip()
    if config["mode"] == "i2v":
        values["image"] = _find_picture(config["image_path"] or "", path.parent)
        if values["image"] is None:
            raise JobError(f"{path} sets mode to i2v but no image_path; add it or use t2v.")
    return expand_request(replace(request, values=values), context)


def _config_row(row: TableRow, table: Path, request: Request, config: Mapping[str, Any]) -> Row:
    with_picture = config["mode"] == "i2v"
    if with_picture and not row.problem and not row.cells.get(PICTURE, "").strip():
        return Row(row.line, JobError("There is no image_path, which mode i2v needs; add it or use t2v."))
    return Row(row.line, _row_request(row, table, request, with_picture=with_picture))
