import gc

from gpu.check import Findings, Rig, require
from gpu.device import GIB, allocator_limit, measured, require_host_memory
from gpu.plans import step_plan
from gpu.random_models import CPU, fusion_dimensions, meta_transformer, random_transformer
from gpu.steps import StepInputs, all_finite, guided_step
from ovi_studio.bench.steps import BenchShape, shapes
from ovi_studio.capacity.tiers import MemoryPlan
from ovi_studio.models.device import usable_memory
from ovi_studio.runtime.streaming import HostedModel

_TIERS = ("12", "24")
_SLOW = 15.0
"""Seconds from which the first step is measured: its overhead is then negligible."""


def check(rig: Rig, found: Findings) -> None:
    """The 12 GB and 24 GB tiers make a guided step at 960x960, 10 s, within their limit and their plan."""
    shape = BenchShape(fusion_dimensions(rig, layers=4), (5, 4, 4), 22) if rig.small else shapes()["960x960_10s"]
    for name in _TIERS:
        plan = step_plan(name, shape)
        free = usable_memory(rig.device) if rig.on_gpu else plan.step_bytes
        size = sum(each.nbytes for each in meta_transformer(shape.fusion, rig.dtype, plan.weights).parameters())
        if free < plan.step_bytes:
            found.leave_out(f"tier {name}", f"{free / GIB:.1f} GiB of the GPU are free.")
            continue
        require_host_memory(size)
        _measure(rig, found, shape, plan)


def _measure(rig: Rig, found: Findings, shape: BenchShape, plan: MemoryPlan) -> None:
    resident = plan.blocks // 2 if rig.small else plan.resident
    model = random_transformer(rig, shape.fusion, CPU, plan.weights)
    hosted = HostedModel(model, rig.device, model.fusion_blocks, resident)
    inputs = StepInputs.random(shape.fusion, shape.video, shape.audio, rig.device, rig.dtype)
    gc.collect()
    with allocator_limit(rig.device, plan.tier.memory), hosted.in_use():
        guidance = inputs.guidance(model)
        with measured(rig.device) as work:
            velocities = guided_step(model, inputs, guidance)
        if work.seconds < _SLOW:
            with measured(rig.device) as work:
                velocities = guided_step(model, inputs, guidance)
        require(all_finite(*velocities), f"In tier {plan.tier.name} the velocities are not finite.")
    name = f"tier {plan.tier.name}, {plan.weights}"
    work.note(found, name)
    found.note(f"{name}, streamed", hosted.streamed, f"of {plan.blocks} blocks")
    if rig.on_gpu:
        found.note(f"{name}, planned", plan.step_bytes / GIB, "GiB")
        require(
            work.peak <= plan.step_bytes,
            f"Tier {plan.tier.name} took {work.peak / GIB:.2f} GiB, more than the planned {plan.step_bytes / GIB:.2f}.",
        )
