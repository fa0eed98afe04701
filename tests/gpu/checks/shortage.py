import torch
from torch import Tensor

from gpu.bundles import SAME_NUMBERS, bundle, clip_spec, load_pipeline, require_near, require_whole
from gpu.check import CheckFailure, Findings, Rig, require
from gpu.device import GIB, allocator_limit
from ovi_studio.core.errors import is_out_of_memory
from ovi_studio.core.spec import ClipSpec
from ovi_studio.runtime.pipeline import Pipeline
from ovi_studio.sampling.denoise import Step

_AT_STEP = 2


def check(rig: Rig, found: Findings) -> None:
    """Running out of memory during a clip is recognised, and the next clip in the same process is unchanged."""
    inventory = bundle(rig)
    spec = clip_spec(rig, inventory.variant, steps=3)
    for memory in ("max", "24"):
        pipeline = load_pipeline(rig, inventory, memory=memory, weights="bf16")
        expected = pipeline(spec)
        error, steps = _failure(rig, pipeline, spec)
        require(is_out_of_memory(error), f"Out of memory is not recognised: {type(error).__name__}: {error}")
        found.note(f"tier {memory}, memory ran out after", steps, "steps")
        del error
        clip = pipeline(spec)
        require_whole(clip, inventory.variant)
        require_near(found, f"tier {memory}, afterwards", [clip], [expected], SAME_NUMBERS)


def _failure(rig: Rig, pipeline: Pipeline, spec: ClipSpec) -> tuple[Exception, int]:
    """Return the error of a clip that runs out of memory, and the number of steps before it."""
    hogs: list[Tensor] = []
    done: list[Step] = []

    def on_step(step: Step) -> None:
        done.append(step)
        if step.index == _AT_STEP:
            hogs.extend(_everything(rig))

    with allocator_limit(rig.device, _room(rig)):
        try:
            pipeline(spec, on_step)
        except Exception as error:
            # The traceback's frames hold the hogs and the model's activations.
            return error.with_traceback(None), len(done)
    raise CheckFailure("A clip was made although memory had run out.")


def _room(rig: Rig) -> float:
    """Return the process's memory limit in bytes during the clip, so that little has to be allocated to reach it."""
    return torch.cuda.memory_allocated(rig.device) + 4 * GIB if rig.on_gpu else 0


def _everything(rig: Rig) -> list[Tensor]:
    """Allocate all remaining GPU memory, so that the model's next tensor fails; on a CPU this fails at once."""
    if not rig.on_gpu:
        return [torch.empty(2**60, dtype=torch.uint8)]
    torch.cuda.empty_cache()
    taken, size = [], GIB
    while size >= 512:
        try:
            taken.append(torch.empty(size, dtype=torch.uint8, device=rig.device))
        except torch.OutOfMemoryError:
            size //= 2
    return taken
