"""`python -m ovi_studio plan`: how several GPUs would make a clip; no GPU is needed. Imports no torch."""

import argparse

from ovi_studio.capacity.arithmetic import LINKS
from ovi_studio.capacity.budget import GIB
from ovi_studio.capacity.layouts import Gpus, Objective, choose
from ovi_studio.capacity.memory import Demand
from ovi_studio.capacity.plan_text import describe, format_gpus, title
from ovi_studio.cli.command import Command
from ovi_studio.core.errors import JobError
from ovi_studio.core.sizes import parse_size, snap_size
from ovi_studio.core.variants import find_variant
from ovi_studio.core.weight_formats import Weights
from ovi_studio.runtime.options import RuntimeOptions

_HEADINGS = {Objective.LATENCY: "Shortest time for one clip", Objective.THROUGHPUT: "Shortest time for the queue"}


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gpus", type=int, required=True, help="how many GPUs")
    parser.add_argument("--vram", type=float, default=24, help="memory of each GPU in GB (default: %(default)s)")
    parser.add_argument("--link", choices=LINKS, default="pcie4", help="link between the GPUs (default: %(default)s)")
    parser.add_argument(
        "--tflops", type=float, default=71, help="rated bf16 TFLOP/s of each GPU (default: %(default)s, an RTX 3090)"
    )
    parser.add_argument("--variant", default="960x960_5s", help="model variant (default: %(default)s)")
    parser.add_argument("--size", type=parse_size, metavar="HEIGHTxWIDTH", help="(default: the variant's own)")
    parser.add_argument(
        "--weights", choices=[weights.value for weights in Weights], default="bf16", help="(default: %(default)s)"
    )
    parser.add_argument("--no-guidance", action="store_true", help="one pass per step, as with lightning adapters")
    parser.add_argument("--wish", choices=[*Objective], help="what to optimise for (default: show both)")
    RuntimeOptions.add_to(parser, only=["checkpoint_directory"])


def _run(options: argparse.Namespace) -> int:
    if options.vram <= 0 or options.tflops <= 0:
        raise JobError("The memory and the TFLOP/s of a GPU must be more than 0.")
    variant = find_variant(options.variant, RuntimeOptions.of(options).checkpoints)
    height, width = options.size or variant.default_size
    size = snap_size(height, width, variant.pixel_area, variant.size_unit)
    demand = Demand.of(variant, size, guided=not options.no_guidance, weights=options.weights)
    gpus = Gpus.with_nominal_memory(
        options.gpus, options.vram * GIB, link=LINKS[options.link], rate=options.tflops * 1e12
    )
    plans = {
        objective: choose(demand, gpus, objective)
        for objective in ([Objective(options.wish)] if options.wish else Objective)
    }
    guidance = "without guidance" if options.no_guidance else "with guidance"
    print(f"{variant.name}, {size[0]}x{size[1]}, {guidance}, on {format_gpus(next(iter(plans.values())))}")
    for objective, plan in plans.items():
        print(f"\n{_HEADINGS[objective]}: {title(plan)}")
        for sentence in describe(plan):
            print(f"  {sentence}")
    return 0


COMMAND = Command("plan", "show how several GPUs would make a clip, and what it would cost", _add_options, _run)
