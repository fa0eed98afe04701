import torch

from gpu.check import Findings, Rig, require
from gpu.random_models import CPU, fusion_dimensions, random_transformer
from gpu.steps import StepInputs, all_finite, guided_step
from ovi_studio.core.weight_formats import Weights
from ovi_studio.runtime.streaming import HostedModel

_LAYERS = 6
_RESIDENT = 2


def check(rig: Rig, found: Findings) -> None:
    """A guided step with streamed blocks equals one with resident blocks bit for bit, in bf16 and in int8."""
    fusion = fusion_dimensions(rig, _LAYERS)
    latents = ((5, 4, 4), 22) if rig.small else ((31, 44, 44), 157)
    inputs = StepInputs.random(fusion, *latents, rig.device, rig.dtype)
    for weights in (Weights.BF16, Weights.INT8):
        # Two models with equal weights; all their blocks differ, so that a mix-up of blocks changes the result.
        resident = random_transformer(rig, fusion, rig.device, weights)
        guidance = inputs.guidance(resident)
        expected = {clean: guided_step(resident, inputs, guidance, clean_first_frame=clean) for clean in (False, True)}
        del resident, guidance
        require(all(all_finite(*each) for each in expected.values()), "The velocities are not finite.")

        model = random_transformer(rig, fusion, CPU, weights)
        hosted = HostedModel(model, rig.device, model.fusion_blocks, _RESIDENT)
        with hosted.in_use():
            guidance = inputs.guidance(model)
            # Repeated, so that slots are also refilled.
            for clean in (False, True, False):
                streamed = guided_step(model, inputs, guidance, clean_first_frame=clean)
                same = all(torch.equal(*pair) for pair in zip(streamed, expected[clean], strict=True))
                frame = " with a first frame" if clean else ""
                require(same, f"In {weights}{frame}, streamed blocks give other velocities than resident ones.")
        found.note(f"streamed, {weights}", hosted.streamed, f"of {_LAYERS} blocks")
