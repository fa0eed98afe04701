"""`python -m ovi_studio distil`: train a lightning adapter for a variant from prompts alone."""

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ovi_studio.cli.command import Command
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import format_timesteps, parse_timesteps
from ovi_studio.core.variants import Part
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.training.out_of_memory import explain_out_of_memory, memory_advice

if TYPE_CHECKING:
    from ovi_studio.training.prepare import TrainingContext
    from ovi_studio.training.trajectories import Teacher

HELD_OUT = 16
"""Trajectories held out of training for evaluation; at most a fifth of all."""


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--variant", required=True)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.safetensors")
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE.txt", help="one prompt per line (default for demo: its own)"
    )
    parser.add_argument(
        "--trajectories",
        type=int,
        default=300,
        help="number of trajectories, cycling through the prompts (default: 300)",
    )
    parser.add_argument("--timesteps", default="1000,937.5,833.3333,625", help="timesteps of the student")
    parser.add_argument("--teacher-steps", type=int, default=24)
    parser.add_argument("--shift", type=float, default=5.0)
    parser.add_argument("--video-guidance", type=float, default=4.0)
    parser.add_argument("--audio-guidance", type=float, default=3.0)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--from", dest="start", type=Path, metavar="FILE", help="start from this adapter's weights")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="training time, after the trajectories (default: 6)")
    length.add_argument("--steps", type=int)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--licence", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", metavar="I/N", help="only compute trajectories: part I of N, one part per process")
    parser.add_argument(
        "--work", type=Path, help="folder for trajectories and checkpoints (default: outputs/training/NAME)"
    )
    RuntimeOptions.add_to(parser, only=["checkpoint_directory"])


def _run(options: argparse.Namespace) -> int:
    """Compute trajectories, train on them, write the adapter, and report its distance from the teacher."""
    if options.out.suffix != ".safetensors":
        raise JobError("The name of an adapter file must end in .safetensors.")
    if options.trajectories < 5:
        raise JobError("At least 5 trajectories are needed; a good adapter needs several hundred.")
    part = _parse_part(options.part)

    from ovi_studio.training.lora import LoraSettings
    from ovi_studio.training.prepare import TrainingContext, TrainingRequest, claim_folder
    from ovi_studio.training.trajectories import write_trajectories

    checkpoints = RuntimeOptions.of(options).checkpoints
    TrainingRequest(
        variant=options.variant,
        checkpoint_directory=checkpoints,
        lora=LoraSettings(rank=options.rank),
        batch_size=options.batch_size,
        flexible=False,
    ).require_memory()
    context = TrainingContext.load(options.variant, checkpoints)
    teacher = _teacher(options, context.variant.slg_layer)
    prompts = _prompts(options)
    work = options.work or Path("outputs") / "training" / options.out.stem
    claim_folder(
        work / "trajectories",
        dataclasses.asdict(teacher)
        | {"model": context.digest(Part.TRANSFORMER, Part.TEXT_ENCODER), "seed": options.seed}
        | {"prompts": hashlib.sha256("\n".join(prompts).encode()).hexdigest()},
    )
    with explain_out_of_memory("distilling", lambda: _what_to_change(options)):
        texts = context.embed(prompts)
        transformer = context.models.transformer.to(context.device)
        write_trajectories(
            transformer,
            teacher,
            texts,
            context.unconditional(),
            context.latent_shapes,
            work / "trajectories",
            seed=options.seed,
            part=part,
            on_done=_progress("trajectory"),
        )
        if options.part is None:
            _train(options, context, teacher, work)
    return 0


def _teacher(options: argparse.Namespace, skipped_layer: int) -> "Teacher":
    from ovi_studio.training.trajectories import Teacher

    return Teacher(
        timesteps=parse_timesteps(options.timesteps) or (),
        steps=options.teacher_steps,
        shift=options.shift,
        video_guidance=options.video_guidance,
        audio_guidance=options.audio_guidance,
        skip_block=skipped_layer if skipped_layer > 0 else None,
    )


def _train(options: argparse.Namespace, context: "TrainingContext", teacher: "Teacher", work: Path) -> None:
    from ovi_studio.training.distil import distil, distillation_error
    from ovi_studio.training.lora import LoraCard, LoraSettings, add_lora, load_lora, save_lora
    from ovi_studio.training.settings import TrainSettings
    from ovi_studio.training.trajectories import TrajectoryDataset

    transformer, sigmas = context.models.transformer, teacher.sigmas
    trajectories = TrajectoryDataset(work / "trajectories", len(sigmas))
    kept = min(HELD_OUT, len(trajectories) // 5)
    held_out = trajectories.batch(range(len(trajectories) - kept, len(trajectories)))
    trajectories.paths = trajectories.paths[:-kept]
    before = distillation_error(transformer, held_out, sigmas)
    lora = LoraSettings(rank=options.rank)
    add_lora(transformer, lora, options.seed)
    if options.start is not None:
        load_lora(transformer, options.start, lora)
    settings = TrainSettings(
        steps=options.steps,
        minutes=None if options.steps else options.minutes or 6.0,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate or context.default_rate,
        precision=context.precision,
        checkpoint_minutes=1.0,
        seed=options.seed,
    )
    steps, timesteps = len(teacher.timesteps), format_timesteps(teacher.timesteps)
    card = LoraCard(
        title=options.out.stem,
        base_model=context.variant.name,
        licence=options.licence,
        description=f"{steps} steps of one pass: solver euler, timesteps {timesteps}, both guidance scales 1.",
        settings=dataclasses.asdict(teacher) | {"trajectories": len(trajectories), **dataclasses.asdict(settings)},
    )
    distil(
        transformer, trajectories, sigmas, settings, work / "run",
        export=lambda weights, _: save_lora(weights, options.out, lora, card),
    )  # fmt: skip
    after = distillation_error(transformer, held_out, sigmas)
    print(f"Mean squared distance from the teacher on {kept} held-out trajectories:")
    for tower, old, new in zip(("video", "audio"), before, after, strict=True):
        print(f"  {tower}: {old:.4f} with {steps} passes of the model, {new:.4f} with the adapter")
    print(f"Wrote {options.out}: use it with solver euler, timesteps {timesteps} and both guidance scales 1.")
    (work / "gap.json").write_text(json.dumps({"before": before, "after": after}), encoding="utf-8")


def _what_to_change(options: argparse.Namespace) -> str:
    """Advice for a run that ran out of memory."""
    lighter = [f"--batch-size {options.batch_size // 2}"] if options.batch_size > 1 else []
    return memory_advice(lighter, "run the command again, which continues from what is already there")


def _prompts(options: argparse.Namespace) -> list[str]:
    from ovi_studio.training.prepare import read_prompts

    if options.prompts is not None:
        prompts = read_prompts(options.prompts)
        return [prompts[index % len(prompts)] for index in range(options.trajectories)]
    if options.variant != "demo":
        raise JobError("Give a text file with one prompt per line: --prompts FILE.txt.")
    return _demo_prompts(options.trajectories, options.seed)


def _demo_prompts(count: int, seed: int) -> list[str]:
    import numpy as np

    from ovi_studio.demo.phrasing import training_prompt
    from ovi_studio.demo.scenes import draw_training_scene

    random = np.random.default_rng(seed)
    return [training_prompt(draw_training_scene(random), random).text for _ in range(count)]


def _parse_part(text: str | None) -> tuple[int, int]:
    which, _, of = (text or "1/1").partition("/")
    if not (which.isdecimal() and of.isdecimal() and 1 <= int(which) <= int(of)):
        raise JobError(f"Part {text!r} is not I/N, for example 1/2 in one process and 2/2 in another.")
    return int(which), int(of)


def _progress(what: str) -> Callable[[int, int], None]:
    """Return a callback that shows a progress bar on the terminal."""
    from tqdm import tqdm

    bar: list[tqdm] = []

    def on_done(done: int, of: int) -> None:
        if not bar:
            bar.append(tqdm(total=of, unit=what))
        bar[0].update(done - bar[0].n)
        if done == of:
            bar[0].close()

    return on_done


COMMAND = Command(
    "distil",
    "train a lightning adapter: few steps of one pass each",
    _add_options,
    _run,
    description="The teacher is the model with guidance and many steps; the same model with an adapter learns to "
    "follow it in few steps of one pass each. First the teacher's trajectories are computed, then the adapter is "
    "trained on them.",
)
