"""Where the models of a variant are while a clip is made: the plan, and each model's way to the device and back."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from ovi_studio.memory.formats import Weights
from ovi_studio.memory.gpu import usable_memory
from ovi_studio.memory.streaming import HostedModel
from ovi_studio.memory.tiers import AUTO, TIERS, MemoryPlan, find_tier, fitting_tier, plan_memory
from ovi_studio.parallel.plan import Demand
from ovi_studio.parallel.shards import is_sharded
from ovi_studio.sizes import SIDE
from ovi_studio.variants import LATENT_STRIDE, Variant

if TYPE_CHECKING:
    from ovi_studio.checkpoints.load import Models


def choose_plan(variant: Variant, device: torch.device, memory: str = AUTO, weights: str = AUTO) -> MemoryPlan:
    """The plan of a tier, or of the one that the free memory is enough for; raises `JobError` for unknown names.

    A CPU has one memory: nothing is moved there unless a tier is asked for by name.
    """
    if memory != AUTO:
        tier = find_tier(memory)
    elif device.type == "cuda":
        tier = fitting_tier(usable_memory(device))
    else:
        tier = TIERS[-1]
    # The largest clip of the variant is a square.
    side = int(variant.pixel_area**0.5) // SIDE * SIDE
    latent_size = side // LATENT_STRIDE, side // LATENT_STRIDE
    return plan_memory(tier, Demand.of(variant, (side, side)), latent_size, _weights(variant, device, weights))


def _weights(variant: Variant, device: torch.device, weights: str) -> Weights | None:
    if weights != AUTO:
        return Weights(weights)
    if device.type != "cuda":
        return Weights.BF16
    # Kept as the file has them: the same numbers as converted when loaded, in half of the memory.
    return Weights.FP8 if variant.name.endswith("_fp8") else None


class Placement:
    """Brings models to the device and back, by a plan.

    Args:
        offloaded: models wait in host memory while they are not used, also if the plan could do without.
    """

    def __init__(self, models: "Models", device: torch.device, plan: MemoryPlan, *, offloaded: bool) -> None:
        self._hosted: dict[nn.Module, HostedModel] = {}
        if not (offloaded or plan.tier.offloaded):
            return
        transformer, text_encoder = models.transformer, models.text_encoder
        streamed = plan.resident < plan.blocks
        blocks = {
            transformer: (transformer.fusion_blocks, plan.resident),
            # It is used once a clip, so that its copies cost little, and none of it needs to stay.
            text_encoder: (list(text_encoder.encoder.block), 0 if streamed else None),
        }
        for model in (transformer, text_encoder, models.video_vae, models.audio_vae, models.vocoder):
            # What is sharded over ranks comes and goes by itself.
            if not is_sharded(model):
                self._hosted[model] = HostedModel(model, device, *blocks.get(model, ()))

    @contextmanager
    def in_use(self, model: nn.Module) -> Iterator[None]:
        """The model computes on the device."""
        hosted = self._hosted.get(model)
        if hosted is None:
            yield
            return
        with hosted.in_use():
            yield

    @contextmanager
    def at_rest(self, model: nn.Module) -> Iterator[None]:
        """Its weights may be changed, also while it is in use."""
        hosted = self._hosted.get(model)
        if hosted is None:
            yield
            return
        with hosted.at_rest():
            yield
