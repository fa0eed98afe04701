"""Where the models of a variant are while a clip is made: the plan, and each model's way to the device and back."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from ovi_studio.capacity.host import require_host_memory
from ovi_studio.capacity.memory import Demand, own_host_bytes
from ovi_studio.capacity.tiers import (
    AUTO,
    TIERS,
    MemoryPlan,
    Tier,
    default_weights,
    find_tier,
    fitting_tier,
    plan_memory,
)
from ovi_studio.core.variants import Variant
from ovi_studio.core.weight_formats import Weights
from ovi_studio.distributed.shards import is_sharded
from ovi_studio.models.device import usable_memory
from ovi_studio.runtime.streaming import HostedModel, Pinning

if TYPE_CHECKING:
    from ovi_studio.checkpoints.load import Models


def choose_plan(variant: Variant, device: torch.device, memory: str = AUTO, weights: str = AUTO) -> MemoryPlan:
    """The plan of a tier, or of the one that the free memory is enough for; raises `JobError` for unknown names.

    On a GPU what is free decides, not what is written on it; a tier that was asked for by name takes no more than a GPU
    of its size has free. A CPU has one memory: nothing is moved there unless a tier is asked for by name.
    """
    asked = None if memory == AUTO else find_tier(memory)
    if device.type == "cuda":
        usable = usable_memory(device)
        tier = asked or fitting_tier(usable)
        free = usable if asked is None else min(usable, asked.free)
    else:
        tier, free = asked or TIERS[-1], None
    return plan_memory(tier, Demand.largest(variant), _weights(variant, device, tier, weights), free=free)


def check_host_memory(variant: Variant, plan: MemoryPlan, device: torch.device, *, offloaded: bool) -> None:
    """Before models are loaded: raises `JobError` if host memory is too small for those that are to be at home there.

    Args:
        offloaded: as for `Placement`.
    """
    if device.type == "cuda" and not (offloaded or plan.tier.offloaded):
        return
    needed = own_host_bytes(variant, plan.weights, streamed=plan.streamed, on_gpu=device.type == "cuda")
    require_host_memory(needed, variant.name, "or use a GPU with more memory, of which less has to wait")


def _weights(variant: Variant, device: torch.device, tier: Tier, weights: str) -> Weights:
    if weights != AUTO:
        return Weights(weights)
    return default_weights(variant, tier) if device.type == "cuda" else Weights.BF16


class Placement:
    """Brings models to the device and back, by a plan.

    Args:
        offloaded: models wait in host memory while they are not used, also if the plan could do without.
    """

    def __init__(self, models: "Models", device: torch.device, plan: MemoryPlan, *, offloaded: bool) -> None:
        self._hosted: dict[nn.Module, HostedModel] = {}
        self._transformer = models.transformer
        if not (offloaded or plan.tier.offloaded):
            return
        transformer, text_encoder = models.transformer, models.text_encoder
        pinning = Pinning(device)
        streamed = plan.resident < plan.blocks
        blocks = {
            transformer: (transformer.fusion_blocks, plan.resident),
            # It is used once a clip, so that its copies cost little, and none of it needs to stay.
            text_encoder: (list(text_encoder.encoder.block), 0 if streamed else None),
        }
        for model in (transformer, text_encoder, models.video_vae, models.audio_vae, models.vocoder):
            # What is sharded over ranks comes and goes by itself.
            if not is_sharded(model):
                self._hosted[model] = HostedModel(model, device, *blocks.get(model, ()), pinning=pinning)

    def follow(self, plan: MemoryPlan) -> None:
        """Keep as many of the transformer's blocks on the device from now on as a plan says."""
        if hosted := self._hosted.get(self._transformer):
            hosted.keep(plan.resident)

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
