"""What `train-lora` and `train` share: their options, and the steps from a folder of clips to new weights."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ovi_studio.core.errors import JobError
from ovi_studio.core.sizes import parse_size
from ovi_studio.core.spec import ClipSpec
from ovi_studio.distributed.launch import launch_if_several
from ovi_studio.distributed.ranks import launched
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.training.out_of_memory import explain_out_of_memory, memory_advice
from ovi_studio.training.settings import FlowSettings, TrainSettings

if TYPE_CHECKING:
    from ovi_studio.training.lora import LoraSettings
    from ovi_studio.training.prepare import TrainingContext, TrainingRequest

DEFAULT_MINUTES = 60.0


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that both kinds of training have."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of clips and captions")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.safetensors")
    parser.add_argument("--variant", required=True)
    parser.add_argument("--trigger", default="", help="words prepended to captions that do not contain them")
    parser.add_argument("--size", type=parse_size, metavar="HEIGHTxWIDTH", help="scaled to the variant's pixel area")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help=f"training time (default: {DEFAULT_MINUTES:g})")
    length.add_argument("--steps", type=int)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--accumulation", type=int, default=1, help="forward passes per step")
    parser.add_argument("--learning-rate", type=float, help="learning rate of AdamW (default: by the model's width)")
    parser.add_argument("--shift", type=float, default=5.0, help="shift of the noise levels, as in sampling")
    parser.add_argument("--first-frame", type=float, default=0.1, help="fraction of batches with a given first frame")
    parser.add_argument("--caption-dropout", type=float, default=0.1)
    parser.add_argument("--gradient-checkpointing", action="store_true", help="less memory, a third slower")
    parser.add_argument("--compile", action="store_true", help="compile the blocks: slower start, then faster steps")
    parser.add_argument(
        "--gpus", type=int, default=1, help="shard weights and optimizer state over this many GPUs (FSDP)"
    )
    parser.add_argument(
        "--sample-prompt",
        action="append",
        default=[],
        help="make a clip of this prompt at every checkpoint; repeatable",
    )
    parser.add_argument("--sample-steps", type=int, default=20)
    parser.add_argument("--checkpoint-minutes", type=float, default=10.0)
    parser.add_argument("--encode-only", action="store_true", help="stop after encoding the clips")
    parser.add_argument("--resume", action="store_true", help="continue the run in the work folder")
    parser.add_argument(
        "--work", type=Path, help="folder for encoded clips and checkpoints (default: outputs/training/NAME)"
    )
    parser.add_argument("--seed", type=int, default=0)
    RuntimeOptions.add_to(parser, only=["checkpoint_directory"])


def run_training(
    options: argparse.Namespace,
    start: Callable[..., Callable[..., None]],
    lora: "LoraSettings | None",
    rate: float,
) -> int:
    """Encode the clips, train, and write the result.

    `start` makes the transformer trainable and returns the function that writes the result.
    """
    if options.out.suffix != ".safetensors":
        raise JobError("The name of the output file must end in .safetensors.")
    work = options.work or Path("outputs") / "training" / options.out.stem

    from ovi_studio.models.compilation import choose_compilation
    from ovi_studio.models.device import compute_device
    from ovi_studio.training.cache import SELECTION, LatentDataset, read_selection, write_selection
    from ovi_studio.training.prepare import TrainingContext, is_leader
    from ovi_studio.training.trainer import CHECKPOINT, train

    if (work / "run" / CHECKPOINT).is_file() and not options.resume:
        raise JobError(f"{work} already holds a run; continue it with --resume, choose another --work, or delete it.")
    if options.gpus > 1 and options.sample_prompt:
        raise JobError(
            "Sample clips cannot be made while the model is sharded over several GPUs; leave out --sample-prompt."
        )
    checkpoints = RuntimeOptions.of(options).checkpoints
    if not launched():
        _wanted(options, lora, checkpoints).require_memory(encode_only=options.encode_only)
        choose_compilation(options.compile or False, compute_device())
    context = TrainingContext.load(options.variant, checkpoints)
    if not launched():
        with explain_out_of_memory(
            "clips were encoded", lambda: "close other programs that use it; clips that are already encoded are kept"
        ):
            names = _encode(options, context, work / "clips")
            write_selection(work / SELECTION, names, context.unconditional())
        if options.encode_only:
            return 0
        # Starts the same command on every rank; the training data is encoded by then.
        launch_if_several(options.gpus, "ovi_studio", [options.command, *options.arguments], to_terminal=True)
    names, unconditional = read_selection(work / SELECTION)
    settings = _settings(options, context, rate)
    dataset = LatentDataset(work / "clips", names)
    with explain_out_of_memory("training", lambda: _what_to_change(options, work / "run" / CHECKPOINT)):
        export = start(context, dataset, settings)
        train(
            context.models.transformer,
            dataset,
            unconditional,
            settings,
            work / "run",
            export=export,
            on_checkpoint=_sampler(options, context, work / "samples") if options.sample_prompt else None,
        )
    if is_leader():
        print(f"Wrote {options.out}.")
    return 0


def _what_to_change(options: argparse.Namespace, checkpoint: Path) -> str:
    """Advice for a run that ran out of memory."""
    from ovi_studio.training.prepare import find_machine

    lighter = [] if options.gradient_checkpointing else ["--gradient-checkpointing"]
    if options.batch_size > 1:
        lighter.append(f"--batch-size {options.batch_size // 2}")
    more = [count for count in find_machine(options.gpus).gpu_counts if count > options.gpus]
    lighter += [f"--gpus {count}" for count in more[:1]]
    kept = checkpoint.is_file()
    return memory_advice(lighter, "continue from the last checkpoint with --resume" if kept else "start again")


def _wanted(options: argparse.Namespace, lora: "LoraSettings | None", checkpoints: Path) -> "TrainingRequest":
    from ovi_studio.training.prepare import TrainingRequest

    return TrainingRequest(
        variant=options.variant,
        checkpoint_directory=checkpoints,
        lora=lora,
        batch_size=options.batch_size,
        size=options.size,
        checkpointed=options.gradient_checkpointing,
        gpus=options.gpus,
        sampled=bool(options.sample_prompt),
    )


def _encode(options: argparse.Namespace, context: "TrainingContext", cache: Path) -> list[str]:
    """Encode the clips and return the names of the samples; print which clips are skipped and why."""
    from tqdm import tqdm

    from ovi_studio.core.sizes import snap_size
    from ovi_studio.training.clips import encode_folder

    height, width = options.size or context.variant.default_size
    size = snap_size(height, width, context.variant.pixel_area, context.variant.size_unit)
    with tqdm(unit="clip", disable=None) as bar:

        def on_done(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        encoded = encode_folder(options.folder, cache, context, size, options.trigger, on_done)
    for skipped in encoded.skipped:
        print(f"skipped: {skipped.reason}")
    print(f"{len(encoded.names)} clips, {encoded.reused} of them already encoded, {len(encoded.skipped)} skipped.")
    return list(encoded.names)


def _settings(options: argparse.Namespace, context: "TrainingContext", rate: float) -> TrainSettings:
    return TrainSettings(
        steps=options.steps,
        minutes=None if options.steps is not None else options.minutes or DEFAULT_MINUTES,
        batch_size=options.batch_size,
        accumulation=options.accumulation,
        learning_rate=options.learning_rate or rate * context.default_rate,
        muon_learning_rate=getattr(options, "muon", None),
        flow=FlowSettings(
            shift=options.shift, first_frame=options.first_frame, caption_dropout=options.caption_dropout
        ),
        precision=context.precision,
        gradient_checkpointing=options.gradient_checkpointing,
        compiled=options.compile,
        sharded=options.gpus > 1,
        checkpoint_minutes=options.checkpoint_minutes,
        seed=options.seed,
    )


def _sampler(options: argparse.Namespace, context: "TrainingContext", folder: Path) -> Callable[[int], None]:
    """Return a callback that makes a clip of each sample prompt with the current weights; files are named by step."""
    from ovi_studio.media.clip_files import write_clip
    from ovi_studio.runtime.pipeline import Pipeline

    def sample(step: int) -> None:
        transformer = context.models.transformer
        # In host memory like the other models. The optimizer refers to the parameters, not to where their data is.
        transformer.to("cpu")
        try:
            pipeline = Pipeline(context.variant, context.models, context.sampling_compute())
            for number, prompt in enumerate(options.sample_prompt):
                spec = ClipSpec(
                    prompt=prompt, variant=context.variant.name, steps=options.sample_steps, seed=options.seed
                )
                print(f"sample: {write_clip(pipeline(spec), folder, f'step_{step:06}_{number}')}", flush=True)
        finally:
            transformer.to(context.device).train()

    return sample
