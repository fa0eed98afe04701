import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch

from gpu.check import Findings, Rig, require
from gpu.device import measured, require_host_memory
from gpu.plans import step_plan
from gpu.random_models import CPU, fusion_dimensions, meta_transformer, random_transformer
from gpu.steps import StepInputs, Velocities, all_finite, guided_step, relative_error, step_flops
from ovi_studio.bench.steps import BenchShape
from ovi_studio.core.step_caches import STEP_CACHES
from ovi_studio.models.compilation import compiler_problem
from ovi_studio.models.device import usable_memory
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.runtime.streaming import HostedModel
from ovi_studio.sampling.guidance import GuidanceCache

_ROOM = 4e9
"""Bytes of activations, texts and workspaces in addition to the weights; 1.6 GiB of activations measured at 704x704."""
_COMPILED = 6e-2
"""Maximum relative error of compiled blocks, which round less often: 4% after 30 blocks on an H100. Guidance multiplies
what two passes differ by, 1% each, with 4."""


def check(rig: Rig, found: Findings) -> None:
    """A guided step at 704x704, 5 s, and one that reuses guidance: seconds, TFLOP/s, memory; compiled ones agree."""
    fusion = fusion_dimensions(rig, layers=2 if rig.small else 30)
    latents = ((5, 4, 4), 22) if rig.small else ((31, 44, 44), 157)
    flops = step_flops(fusion, *latents)
    found.note("operations", flops / 1e12, "TFLOP")
    inputs = StepInputs.random(fusion, *latents, rig.device, rig.dtype)
    with ExitStack() as clean, _model_in_use(rig, BenchShape(fusion, *latents), found) as model:
        guidance = inputs.guidance(model)
        results = {}
        for name in ("eager", "compiled"):
            if name == "compiled":
                problem = compiler_problem(rig.device) if rig.on_gpu else "compiling for a CPU takes too long"
                if problem is not None:
                    found.leave_out("compiled blocks", f"{problem}.")
                    continue
                clean.callback(torch.compiler.reset)
                model.compile_blocks()
            with measured(rig.device) as first:
                guided_step(model, inputs, guidance)
            found.note(f"{name}, first call", first.seconds, "s")
            with measured(rig.device) as work:
                results[name] = guided_step(model, inputs, guidance)
            work.note(found, name)
            found.note(f"{name}, rate", flops / work.seconds / 1e12, "TFLOP/s")
            require(all_finite(*results[name]), f"The velocities of the {name} step are not finite.")
            reusing = partial(guided_step, model, inputs, guidance)
            _check_cached_step(rig, found, name, results[name], reusing)
    if len(results) == 2:
        error = max(relative_error(*pair) for pair in zip(results["compiled"], results["eager"], strict=True))
        found.note("compiled against eager", error)
        require(
            error <= _COMPILED, f"Compiled blocks differ from eager ones by {error:.1e}; {_COMPILED:.0e} is allowed."
        )


def _check_cached_step(
    rig: Rig, found: Findings, name: str, whole: Velocities, step: Callable[..., Velocities]
) -> None:
    """Time a step that reuses the guidance of the one before, whose latents are the same: so must be its video."""
    cache = GuidanceCache(STEP_CACHES["fast"], steps=50)
    for index in (4, 5, 6):  # nothing is kept yet in the first of them, so it computes both passes
        cache.begin(index, changed=False)
        with measured(rig.device) as work:
            video, audio = step(cache=cache)
    work.note(found, f"{name}, reusing guidance")
    error = relative_error(video, whole[0])
    require(error <= _COMPILED, f"The video of a {name} step that reuses guidance differs by {error:.1e}.")
    require(all_finite(video, audio), f"The velocities of a {name} step that reuses guidance are not finite.")


@contextmanager
def _model_in_use(rig: Rig, shape: BenchShape, found: Findings) -> Iterator[OviTransformer]:
    """Yield a model that is on the device if it fits, else placed by the plan of the 24 GB tier."""
    blocks = shape.fusion["video"]["num_layers"]
    size = sum(each.nbytes for each in meta_transformer(shape.fusion, rig.dtype).parameters())
    if not rig.on_gpu or usable_memory(rig.device) >= size + _ROOM:
        found.note("resident blocks", blocks, f"of {blocks}")
        yield random_transformer(rig, shape.fusion, rig.device)
        return
    require_host_memory(size)
    plan = step_plan("24", shape)
    found.note("resident blocks", plan.resident, f"of {blocks}")
    model = random_transformer(rig, shape.fusion, CPU, plan.weights)
    gc.collect()
    torch.cuda.empty_cache()
    with HostedModel(model, rig.device, model.fusion_blocks, plan.resident).in_use():
        yield model
