"""`python -m ovi_studio bench`: time a step of a named shape or a whole clip, or count a step's bytes.

Imports torch only when run.
"""

import argparse
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ovi_studio.capacity.budget import GIB
from ovi_studio.capacity.tiers import AUTO
from ovi_studio.cli.command import Command
from ovi_studio.cli.progress_bar import step_bar
from ovi_studio.core.errors import JobError, is_out_of_memory
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.weight_formats import Weights
from ovi_studio.runtime.options import OptionGroup, RuntimeOptions

if TYPE_CHECKING:
    from ovi_studio.bench.steps import BenchShape
    from ovi_studio.runtime.compute import Compute


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shape", nargs="?", default="small", help="small, demo, 704x704_5s, 960x960_5s, 960x960_10s, clip"
    )
    parser.add_argument("--guided", action="store_true", help="include the negative pass, as in a step with guidance")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--traffic",
        action="store_true",
        help="run nothing: count the bytes and operations of a step with guidance (with --compile: of compiled blocks) "
        "and of a decoded latent frame, and the least time that they take on some GPUs",
    )
    parser.add_argument("--limit-gb", type=float, metavar="N", help="limit on GPU memory (GiB), as on a smaller card")
    parser.add_argument("--resident", type=int, metavar="N", help="blocks that are not streamed (default: the tier's)")
    parser.add_argument("--variant", help="model variant of the clip")
    parser.add_argument("--steps", type=int, default=50, help="steps of the clip")
    RuntimeOptions.add_to(parser, OptionGroup.COMPUTING, only=["checkpoint_directory"])


def _run(options: argparse.Namespace) -> int:
    from ovi_studio.runtime.compute import Compute

    runtime = RuntimeOptions.of(options)
    try:
        if options.traffic:
            return _count_shape(options.shape, runtime)
        if options.shape == "clip":
            return _run_clip(options, runtime)
        return _run_shape(options, Compute.of(runtime))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise JobError(
            f"There is not enough memory to time {options.shape} like this; choose a smaller tier with --memory, use "
            f"--weights int8, or a smaller shape."
        ) from error


def _run_shape(options: argparse.Namespace, compute: "Compute") -> int:
    from ovi_studio.bench import steps

    shape, limit = _shape(options.shape), options.limit_gb and options.limit_gb * GIB
    if options.repeats < 1:
        raise JobError(f"The number of repeats must be 1 or more, not {options.repeats}.")
    if options.limit_gb is not None and options.limit_gb <= 0:
        raise JobError(f"The limit must be more than 0 GB, not {options.limit_gb:g}.")
    setup = steps.Setup.of(shape, compute, guided=options.guided, limit=limit)
    if options.resident is not None:
        setup = replace(setup, resident=max(0, options.resident))
    measurement = steps.measure_forward(shape, compute, options.repeats, guided=options.guided, setup=setup)
    what = "step with guidance" if options.guided else "forward pass"
    print(f"{options.shape}, {what}, {compute.dtype} on {compute.device}: {measurement}")
    return 0


def _count_shape(name: str, runtime: RuntimeOptions) -> int:
    from ovi_studio.bench.roofline import frame_traffic, report, step_traffic

    shape = _shape(name)
    weights = Weights.BF16 if runtime.weights == AUTO else Weights(runtime.weights)
    blocks = "compiled" if runtime.compilation else "eager"
    print(f"{name}, step with guidance, bfloat16, {weights} weights, {blocks} blocks; ms: at least / expected")
    step = step_traffic(shape, guided=True, compiled=bool(runtime.compilation), weights=weights)
    print(*report(step), sep="\n")
    if frame := frame_traffic(shape):
        print(f"{name}, decoding of a latent frame, bfloat16", *report(frame), sep="\n")
    return 0


def _shape(name: str) -> "BenchShape":
    from ovi_studio.bench.steps import shapes

    known = shapes()
    if name not in known:
        raise JobError(f"There is no shape {name!r}; choose one of {', '.join(known)}, or clip without --traffic.")
    return known[name]


def _run_clip(options: argparse.Namespace, runtime: RuntimeOptions) -> int:
    from ovi_studio.bench.steps import peak_memory
    from ovi_studio.checkpoints.layout import default_variant, require
    from ovi_studio.runtime.compute import Compute
    from ovi_studio.runtime.pipeline import Pipeline

    compute = Compute.of(runtime)
    variant = options.variant or default_variant(runtime.checkpoints)
    start = time.perf_counter()
    pipeline = Pipeline.load(require(variant, runtime.checkpoints), compute)
    loaded = time.perf_counter()
    spec = ClipSpec(prompt="a red ball bounces on a green floor", variant=variant, steps=options.steps)
    bar = step_bar()
    clip = pipeline(spec, lambda step: bar(step.index, step.total))
    seconds = {"load": round(loaded - start, 3), **clip.record["seconds"]}
    phases = ", ".join(f"{name.replace('_', ' ')} {value:.2f} s" for name, value in seconds.items())
    total = sum(seconds.values())
    peak = peak_memory(compute.device) / GIB
    print(f"{variant}, {options.steps} steps, {compute.dtype} on {compute.device}: {total:.2f} s ({phases}), ", end="")
    print(f"{seconds['denoise'] / options.steps:.3f} s a step, peak memory {peak:.2f} GiB")
    return 0


COMMAND = Command("bench", "time a forward pass of a named shape, or a whole clip", _add_options, _run)
