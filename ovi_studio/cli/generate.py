"""`python -m ovi_studio generate`: make clips from prompts, a table, an official configuration, or another clip."""

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ovi_studio.cli.command import Command
from ovi_studio.cli.made_again import add_source_options
from ovi_studio.cli.progress_bar import step_bar
from ovi_studio.cli.sources import OUTSIDE_CONFIG, as_recorded, collect, report
from ovi_studio.core.adapter_stack import parse_use
from ovi_studio.core.compiler_cache import keep_compiled_code
from ovi_studio.core.drawing import OFFICIAL_GUIDANCE, OFFICIAL_MODEL
from ovi_studio.core.errors import JobError
from ovi_studio.core.log_lines import one_line
from ovi_studio.core.sizes import parse_size
from ovi_studio.core.solvers import SOLVERS
from ovi_studio.core.spec import ClipSpec, parse_timesteps
from ovi_studio.core.step_caches import STEP_CACHES
from ovi_studio.distributed.launch import launch_if_several
from ovi_studio.distributed.ranks import join_ranks
from ovi_studio.engine.command import DEFAULT_OUTPUT_DIRECTORY
from ovi_studio.media.clip_names import check_name_free
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.runtime.clip_runner import ClipRunner
from ovi_studio.runtime.options import OptionGroup, RuntimeOptions
from ovi_studio.runtime.progress import StepSink
from ovi_studio.services.prompt_files import read_official_config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ovi_studio.runtime.step_down import StepDown


_OTHER_FILMS = {".mov", ".m4v", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".ts", ".3gp"}
"""Suffixes that nobody gives a folder; a folder such as `v1.5` is fine."""


def _add_options(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--prompt",
        help="speech in <S>...<E>, audio description in the variant's tag; {red|blue} makes a clip of each",
    )
    source.add_argument(
        "--prompts", type=Path, metavar="FILE.csv", help="table with columns text_prompt, image_path and settings"
    )
    source.add_argument("--config-file", type=Path, metavar="FILE.yaml", help="the official inference_fusion.yaml")
    source.add_argument(
        "--from", type=Path, dest="clip", metavar="FILE", help="make this clip again, from its mp4 or its poster"
    )
    parser.add_argument(
        "--shot", type=int, metavar="N", help="with --from FILM.mp4: the number of the shot to make again"
    )
    add_source_options(parser)
    parser.add_argument("--image", type=Path, help="first frame")
    parser.add_argument(
        "--raw-colours",
        action=argparse.BooleanOptionalAction,
        help="ignore the first frame's colour profile and transparency, as the official code does (default: off)",
    )
    _add_drawing(parser)
    parser.add_argument("--variant", help="model variant (default: the best one that is complete)")
    parser.add_argument("--size", type=parse_size, metavar="HEIGHTxWIDTH", help="scaled to the variant's pixel area")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--solver", choices=SOLVERS)
    parser.add_argument("--shift", type=float)
    parser.add_argument(
        "--timesteps", type=parse_timesteps, metavar="T,T,...", help="instead of --steps, such as 1000,750,500,250"
    )
    parser.add_argument(
        "--lora",
        action="append",
        type=parse_use,
        dest="adapters",
        metavar="NAME[=VIDEO[:AUDIO]]",
        help="LoRA file with its strengths, such as film=0.8:0; repeatable",
    )
    parser.add_argument("--preset", help="named settings, such as draft or lightning-5s; other options override them")
    parser.add_argument("--video-guidance", type=float)
    parser.add_argument("--audio-guidance", type=float)
    parser.add_argument("--slg-layer", type=int, help="block skipped in the negative pass; 0: none")
    parser.add_argument("--step-cache", choices=STEP_CACHES, help="what steps with guidance leave out (default: off)")
    parser.add_argument("--video-negative-prompt")
    parser.add_argument("--audio-negative-prompt")
    parser.add_argument("--count", type=int, default=1, help="clips for each prompt, with consecutive seeds")
    parser.add_argument("--out", type=Path, help="folder for the clips, or the mp4 of a single one (default: outputs)")
    parser.add_argument(
        "--no-step-down",
        action="store_true",
        help="fail when memory runs out, instead of retrying in the next smaller memory tier",
    )
    RuntimeOptions.add_to(parser, *OptionGroup)


def _add_drawing(parser: argparse.ArgumentParser) -> None:
    section = parser.add_argument_group("drawing the first frame")
    section.add_argument(
        "--draw-first-frame",
        action=argparse.BooleanOptionalAction,
        help="let an image model draw the first frame of every clip that has none (default: off)",
    )
    section.add_argument(
        "--image-model",
        type=_image_model,
        metavar="MODEL",
        help=f"folder or hub name of a text-to-image pipeline of diffusers (default: {OFFICIAL_MODEL})",
    )
    section.add_argument("--image-prompt", help="what is drawn (default: the prompt without speech and sound)")
    section.add_argument("--image-negative-prompt", help="what is not")
    section.add_argument("--image-steps", type=int, metavar="N", help="(default: the model's own)")
    section.add_argument(
        "--image-guidance", type=float, help=f"(default: {OFFICIAL_GUIDANCE}; of other models, their own)"
    )
    section.add_argument("--image-seed", type=int, help="(default: the clip's)")


def _image_model(text: str) -> str:
    """A folder may be named from here; another process may run elsewhere."""
    return str(Path(text).expanduser().absolute()) if Path(text).expanduser().is_dir() else text


def _run(options: argparse.Namespace) -> int:
    runtime = RuntimeOptions.of(options)
    if file := _named_file(options.out):
        options.out = file.parent
    run = None
    if options.config_file:
        run = read_official_config(
            options.config_file,
            options.count,
            runtime.checkpoint_directory,
            **{name: value for name in OUTSIDE_CONFIG if (value := getattr(options, name)) is not None},
        )
        runtime, options.out = runtime.over(run.runtime), options.out or run.output_directory
    if options.clip:
        runtime = as_recorded(runtime, options)
    with suppress(JobError):  # a folder without a place for a studio's state: torch keeps the code where it likes
        keep_compiled_code(StudioPaths.of(options.out or DEFAULT_OUTPUT_DIRECTORY).compiled)
    if not join_ranks().is_leader:
        ClipRunner(runtime, ranks=join_ranks()).follow()
        return 0
    clips = collect(options, runtime, run)
    if file:
        _check_file(file, len(clips.specs))
    launch_if_several(runtime.ranks, "ovi_studio", ["generate", *options.arguments], to_terminal=True)
    report(clips)
    if not clips.specs:
        raise JobError("There are no clips to make.")
    directory = options.out or DEFAULT_OUTPUT_DIRECTORY
    failures = _make_all(clips.specs, runtime, directory, file, retry=not options.no_step_down)
    return 1 if failures or clips.bad_rows else 0


def _named_file(out: Path | None) -> Path | None:
    """Return the mp4 that `--out` names, None if it names a folder; raises `JobError` for another kind of film."""
    if out is None or out.is_dir():
        return None
    if out.suffix.lower() in _OTHER_FILMS:
        raise JobError(f"Clips are written as mp4; use --out {out.with_suffix('.mp4')}, or name a folder.")
    return out if out.suffix.lower() == ".mp4" else None


def _check_file(file: Path, count: int) -> None:
    """Raise `JobError` if the clips cannot have the one name that was given, before any is made."""
    if count > 1:
        raise JobError(f"--out {file} is one file, but there are {count} clips; name a folder instead.")
    check_name_free(file)


def _make_all(
    specs: "Sequence[ClipSpec]", runtime: RuntimeOptions, directory: Path, file: Path | None, *, retry: bool
) -> int:
    """Make the clips one after the other, continuing after failures; return the number of failures."""
    runner = ClipRunner(runtime, ranks=join_ranks())
    failures = 0
    for spec in specs:
        try:
            path = runner.make(
                spec,
                directory,
                StepSink(step_bar(), step_bar("first frame")),
                _report_retry if retry else None,
                file=file,
            )
        except JobError as error:
            failures += 1
            print(f"error: {one_line(str(error))}", file=sys.stderr)
        else:
            print(path, flush=True)
    runner.close()
    return failures


def _report_retry(step: "StepDown") -> None:
    print(f"Memory ran out {step.before}; retrying the clip {step.after}.", file=sys.stderr)


COMMAND = Command("generate", "make clips", _add_options, _run, description="Make clips and write them as mp4 files.")
