import torch

from gpu.check import Findings, Rig, require
from gpu.device import measured
from gpu.random_models import CPU, fusion_dimensions, random_transformer
from gpu.steps import StepInputs, guided_step
from ovi_studio.core.weight_formats import Weights
from ovi_studio.runtime.streaming import HostedModel

_LAYERS = 6
_RESIDENT, _KEPT = 4, 3


def check(rig: Rig, found: Findings) -> None:
    """Blocks that stay on the device between clips, and that arrive beside other work, compute what they did before."""
    fusion = fusion_dimensions(rig, _LAYERS)
    latents = ((5, 4, 4), 22) if rig.small else ((31, 44, 44), 157)
    inputs = StepInputs.random(fusion, *latents, rig.device, rig.dtype)
    model = random_transformer(rig, fusion, CPU, Weights.BF16)
    hosted = HostedModel(model, rig.device, model.fusion_blocks, _RESIDENT, kept=_KEPT)
    expected = None
    hosted.fetch_kept()
    side = 64 if rig.small else 8192
    busy = torch.ones(side, side, device=rig.device)
    _ = busy @ busy  # while the blocks arrive
    for name in ("first clip", "second clip"):
        with measured(rig.device) as arrival, hosted.in_use():
            pass
        arrival.note(found, f"{name}, models to the device")
        with hosted.in_use():
            velocities = guided_step(model, inputs, inputs.guidance(model))
        expected = expected or velocities
        same = all(torch.equal(*pair) for pair in zip(velocities, expected, strict=True))
        require(same, f"The {name} has other velocities than the first one.")
    with hosted.writable():
        model.fusion_blocks[0].load_state_dict(
            {name: tensor * 1.5 for name, tensor in model.fusion_blocks[0].state_dict().items()}
        )
    with hosted.in_use():
        changed = guided_step(model, inputs, inputs.guidance(model))
    same = all(torch.equal(*pair) for pair in zip(changed, expected, strict=True))
    require(not same, "A weight was changed, but a block that had stayed kept the old one.")
    found.note("blocks that stay", hosted.kept, f"of {_LAYERS}")
