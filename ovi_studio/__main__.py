"""`python -m ovi_studio COMMAND`: each command is a few lines over a service.

Imports of services stand inside the commands, because torch takes seconds and `show` or `download` need none of it.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ovi_studio.capacity.tiers import AUTO
from ovi_studio.checkpoints.layout import default_checkpoint_directory
from ovi_studio.cli import bench
from ovi_studio.cli import plan as plan_command
from ovi_studio.cli.distil import add_parser as add_distil
from ovi_studio.cli.train_lora import add_parsers as add_training
from ovi_studio.core.adapter_stack import parse_use
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import SOLVERS, ClipSpec, merge_settings, parse_size, parse_timesteps
from ovi_studio.core.weight_formats import Weights
from ovi_studio.distributed import launch
from ovi_studio.distributed.ending import end_with
from ovi_studio.distributed.ranks import join_ranks, launched
from ovi_studio.runtime.memory_options import add_compute_options

if TYPE_CHECKING:
    from ovi_studio.runtime.generate import Failure, Generator
    from ovi_studio.runtime.pipeline import Compute
    from ovi_studio.runtime.runner import ModelMaker
    from ovi_studio.sampling.denoise import OnStep, Step
    from ovi_studio.services.prompt_files import OfficialRun

INTERRUPTED = 130
"""Exit status after Ctrl+C, as shells have it."""

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments and arguments[0] == "engine":
            return _engine(arguments[1:])
        options = _parser().parse_args(arguments)
        options.arguments = list(arguments)
        return options.run(options)
    except JobError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; what was finished is kept, nothing half-written is left.", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ovi_studio", description="Clips with picture and sound.")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_generate(commands)

    show = commands.add_parser("show", help="print the recipe inside a clip")
    show.add_argument("file", type=Path)
    show.set_defaults(run=_show)

    download = commands.add_parser("download", help="fetch the missing files of a model variant or preset")
    download.add_argument("name", help="a model variant, or a preset whose LoRA files are missing")
    _add_checkpoint_directory(download)
    _add_adapter_directory(download)
    download.add_argument("--dry-run", action="store_true", help="only say what would be fetched")
    download.set_defaults(run=_download)

    loras = commands.add_parser("loras", help="list the LoRA files and how well they fit the model")
    loras.add_argument("--variant", default="960x960_5s", help="model to match with (default: %(default)s)")
    _add_checkpoint_directory(loras)
    _add_adapter_directory(loras)
    loras.set_defaults(run=_loras)

    doctor = commands.add_parser("doctor", help="say what this machine has, can do and lacks")
    _add_checkpoint_directory(doctor)
    doctor.set_defaults(run=_doctor)

    _add_bench(commands)
    _add_plan(commands)
    add_training(commands)
    add_distil(commands)
    # Its options are read by the engine itself, which the page's supervisor starts too.
    commands.add_parser("engine", help="make the clips of the page's queue, without the page", add_help=False)
    return parser


def _add_generate(commands: Any) -> None:
    parser = commands.add_parser("generate", help="make clips", description="Make clips and write them as mp4 files.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--prompt", help="speech in <S>...<E>, the audio description in the variant's tag")
    source.add_argument("--prompts", type=Path, metavar="FILE.csv", help="columns text_prompt, image_path and settings")
    source.add_argument("--config-file", type=Path, metavar="FILE.yaml", help="the official inference_fusion.yaml")
    source.add_argument("--from", type=Path, dest="clip", metavar="FILE.mp4", help="make this clip again")
    parser.add_argument("--image", type=Path, help="first frame")
    parser.add_argument("--variant", help="model variant (default: the best one that is complete)")
    parser.add_argument("--size", type=parse_size, metavar="HEIGHTxWIDTH", help="scaled to the variant's pixel area")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--solver", choices=SOLVERS)
    parser.add_argument("--shift", type=float)
    parser.add_argument(
        "--timesteps", type=parse_timesteps, metavar="T,T,...", help="in place of --steps, such as 1000,750,500,250"
    )
    parser.add_argument(
        "--lora",
        action="append",
        type=parse_use,
        dest="adapters",
        metavar="NAME[=VIDEO[:AUDIO]]",
        help="LoRA file with its strengths, such as film=0.8:0; may be repeated",
    )
    parser.add_argument("--preset", help="settings by name, such as draft or lightning-5s; other options replace them")
    parser.add_argument("--video-guidance", type=float)
    parser.add_argument("--audio-guidance", type=float)
    parser.add_argument("--slg-layer", type=int, help="block left out in the negative pass; 0: none")
    parser.add_argument("--video-negative-prompt")
    parser.add_argument("--audio-negative-prompt")
    parser.add_argument("--count", type=int, default=1, help="clips for each prompt, with seeds that follow")
    parser.add_argument("--out", type=Path, help="folder for the clips (default: outputs)")
    _add_checkpoint_directory(parser)
    _add_adapter_directory(parser)
    add_compute_options(parser)
    launch.add_options(parser)
    parser.add_argument(
        "--no-step-down",
        action="store_true",
        help="fail when memory runs out; otherwise the clip is made again in the next smaller memory tier",
    )
    parser.set_defaults(run=_generate)


def _add_bench(commands: Any) -> None:
    parser = commands.add_parser("bench", help="measure a forward pass of a named shape, or a whole clip")
    bench.add_options(parser)
    _add_checkpoint_directory(parser)
    add_compute_options(parser)
    parser.set_defaults(run=_bench)


def _add_plan(commands: Any) -> None:
    parser = commands.add_parser("plan", help="say how several GPUs would make a clip, and what it would cost")
    plan_command.add_options(parser)
    _add_checkpoint_directory(parser)
    parser.set_defaults(run=_plan)


def _add_checkpoint_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ckpt-dir", type=Path, help="checkpoints (default: $OVI_CKPT_DIR or ckpts)")


def _add_adapter_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lora-dir", type=Path, help="LoRA files (default: $OVI_LORA_DIR or loras)")


# Commands


def _generate(options: argparse.Namespace) -> int:
    if launched() and not join_ranks().leads:
        return _follow(options)
    specs, bad_rows, options = _collect(options)
    launch.launch_if_several(options.gpus, "ovi_studio", options.arguments)
    for row in bad_rows:
        print(f"line {row.line}: {row.reason}", file=sys.stderr)
    if not specs:
        raise JobError("There is no clip to make.")
    from ovi_studio.runtime.generate import Failure

    failures = 0

    def report(result: "Path | Failure") -> None:
        nonlocal failures
        if isinstance(result, Failure):
            failures += 1
            print(f"error: {result.reason}", file=sys.stderr)
        else:
            print(result, flush=True)

    with _generator(options) as generator:
        generator.make_all(specs, options.out or Path("outputs"), lambda _: _progress_bar(), report)
    return 1 if failures or bad_rows else 0


@contextmanager
def _generator(options: argparse.Namespace) -> "Iterator[Generator]":
    """Makes the clips in this process, or leads others that make them too."""
    from ovi_studio.runtime.generate import Generator

    if not launched():

        def tell(sentence: str) -> None:
            print(sentence, file=sys.stderr)

        on_step_down = None if options.no_step_down else tell
        yield Generator(_checkpoints(options), _compute(options), options.lora_dir, on_step_down=on_step_down)
        return
    from ovi_studio.distributed.ranks import join_ranks
    from ovi_studio.runtime.leader import StepReport, run_leader

    maker = run_leader(_maker(options))
    yield Generator(
        _checkpoints(options),
        replace(_compute(options), sharding=launch.sharding_wish(options)),
        options.lora_dir,
        ranks=join_ranks(),
        make=lambda spec, on_step: maker(spec, StepReport(on_step)),
    )
    maker.close()


def _follow(options: argparse.Namespace) -> int:
    from ovi_studio.runtime.leader import run_follower
    from ovi_studio.services.prompt_files import read_official_config

    if options.config_file:
        _adopt(read_official_config(options.config_file), options)
    run_follower(_maker(options))
    return 0


def _maker(options: argparse.Namespace) -> "ModelMaker":
    from ovi_studio.runtime.runner import MakerOptions, ModelMaker

    return ModelMaker(
        MakerOptions(
            _checkpoints(options),
            options.attention,
            options.compile,
            options.cpu_offload,
            options.lora_dir,
            sharding=launch.sharding_wish(options),
            weights=options.weights,
            memory=options.memory,
            tf32=bool(options.tf32),
        )
    )


def _collect(options: argparse.Namespace) -> tuple[list[ClipSpec], list[Any], argparse.Namespace]:
    """The clips to make, the rows that make none, and the options with what a configuration file adds to them."""
    from ovi_studio.cli import adapters
    from ovi_studio.services.prompt_files import read_official_config, read_prompt_file

    if options.count < 1:
        raise JobError(f"The count must be 1 or more, not {options.count}.")
    given = {name: value for name in _SPEC_OPTIONS if (value := getattr(options, name)) is not None}
    if options.config_file:
        run = read_official_config(options.config_file)
        _refuse_settings(given | ({"preset": options.preset} if options.preset else {}), "the configuration file")
        _adopt(run, options)
        return _repeated(run.specs, options.count), list(run.bad_rows), options
    preset = adapters.chosen_preset(options.preset, options.lora_dir, options.out)
    given = merge_settings(preset.settings if preset else {}, given)
    if options.clip:
        from ovi_studio.media.clip_files import read_spec
        from ovi_studio.runtime.generate import PICTURES_FOLDER

        spec = read_spec(options.clip, (options.out or Path("outputs")) / PICTURES_FOLDER)
        specs, bad_rows = [spec.with_settings(given)], []
    else:
        if "variant" not in given:
            given["variant"] = adapters.chosen_variant(preset, _checkpoints(options))
        if options.prompts:
            specs, bad_rows = read_prompt_file(options.prompts, given)
        else:
            specs, bad_rows = [ClipSpec.from_dict({**given, "prompt": options.prompt})], []
    for spec in specs if preset else ():
        preset.check(spec.variant)
    return _repeated(specs, options.count), bad_rows, options


def _adopt(run: "OfficialRun", options: argparse.Namespace) -> None:
    """What a configuration file decides unless the command does."""
    options.ckpt_dir = options.ckpt_dir or run.checkpoint_directory
    options.out = options.out or run.output_directory
    options.cpu_offload = options.cpu_offload or run.cpu_offload
    if run.qint8 and options.weights == AUTO:
        options.weights = Weights.INT8
    options.gpus = options.gpus or run.gpus
    options.fsdp_strategy = options.fsdp_strategy or run.sharding.strategy
    options.fsdp_offload = options.fsdp_offload or run.sharding.offloaded
    options.tf32 = run.tensor_cores if options.tf32 is None else options.tf32


def _repeated(specs: Sequence[ClipSpec], count: int) -> list[ClipSpec]:
    return [replace(spec, seed=spec.seed + index) for spec in specs for index in range(count)]


def _refuse_settings(given: dict[str, Any], source: str) -> None:
    if given:
        names = ", ".join(_OPTION_NAMES.get(name, f"--{name.replace('_', '-')}") for name in given)
        raise JobError(f"{names} cannot be combined with {source}, which holds these settings; change them there.")


def _show(options: argparse.Namespace) -> int:
    from ovi_studio.media.clip_files import read_record

    print(json.dumps(read_record(options.file), indent=2, ensure_ascii=False))
    return 0


def _download(options: argparse.Namespace) -> int:
    from ovi_studio.checkpoints import download
    from ovi_studio.cli import adapters
    from ovi_studio.core.variants import known_variants

    directory = _checkpoints(options)
    variant = known_variants(directory).get(options.name)
    if variant is None:
        plan = adapters.plan_download(options.name, options.lora_dir, directory)
    else:
        plan = download.plan(variant, directory)
    print(download.format_plan(plan), flush=True)
    if options.dry_run or not plan.files:
        return 0

    def report(progress: download.Progress) -> None:
        print(f"\r\033[K{download.format_progress(progress)}", end="", file=sys.stderr, flush=True)

    fetch = download.fetch if variant else adapters.fetch_adapters
    try:
        fetch(plan, report)
    finally:
        print(file=sys.stderr)
    print(f"{'Variant' if variant else 'Preset'} {options.name} is complete in {plan.directory}.")
    return 0


def _loras(options: argparse.Namespace) -> int:
    from ovi_studio.cli import adapters

    print(adapters.library_report(options.lora_dir, options.variant, _checkpoints(options)))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from ovi_studio.services import doctor

    print(doctor.format_report(doctor.examine(_checkpoints(options))))
    return 0


def _plan(options: argparse.Namespace) -> int:
    return plan_command.run(options, _checkpoints(options))


def _engine(arguments: Sequence[str]) -> int:
    from ovi_studio.engine.__main__ import main as serve

    return serve(arguments)


def _bench(options: argparse.Namespace) -> int:
    return bench.run(options, _checkpoints(options), _compute(options), _progress_bar)


# Shared by the commands


def _checkpoints(options: argparse.Namespace) -> Path:
    return options.ckpt_dir or default_checkpoint_directory()


def _compute(options: argparse.Namespace) -> "Compute":
    from ovi_studio.runtime.pipeline import Compute

    return Compute.default(
        attention=options.attention,
        compiled=options.compile,
        offloaded=options.cpu_offload,
        weights=options.weights,
        memory=options.memory,
        tf32=bool(options.tf32),
    )


def _progress_bar() -> "OnStep":
    """A bar in the terminal with seconds a step and the time left."""
    from tqdm import tqdm

    bar: Any = None

    def on_step(step: "Step") -> None:
        nonlocal bar
        if step.index == 1:
            if bar is not None:  # memory ran out, and the clip is made again
                bar.close()
            # Begins with the first step done, so that loading does not count as one.
            form = "{percentage:3.0f}%|{bar}| step {n_fmt} of {total_fmt}, {rate_inv_fmt}, {remaining} left"
            bar = tqdm(total=step.total, initial=1, unit="step", bar_format=form, leave=False)
        else:
            bar.update()
        if step.index == step.total:
            bar.close()

    return on_step


def run() -> NoReturn:
    """The command `ovi-studio`: `main`, whose exit status this process ends with."""
    end_with(main)


if __name__ == "__main__":
    run()
