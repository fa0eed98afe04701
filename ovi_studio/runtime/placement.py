"""Where the models of a variant are while a clip is made: the memory plan, and moving models to the device and back."""

from collections.abc import Collection, Iterator, Sequence
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
from ovi_studio.core.variants import Part, Variant
from ovi_studio.core.weight_formats import Weights
from ovi_studio.distributed.shards import is_sharded
from ovi_studio.models.device import usable_memory
from ovi_studio.models.precision import check_weights
from ovi_studio.runtime.pinning import Pinning
from ovi_studio.runtime.streaming import HostedModel

if TYPE_CHECKING:
    from ovi_studio.checkpoints.load import Models


def choose_plan(variant: Variant, device: torch.device, memory: str = AUTO, weights: str = AUTO) -> MemoryPlan:
    """Return the plan of a named tier, or of the largest tier that fits; raises `JobError` for unknown names, and for
    weights that the device cannot multiply.

    On a GPU the free memory decides, not its nominal size; a tier that is requested by name takes no more than a GPU of
    that size has free. A CPU has one memory: nothing is moved there unless a tier is requested by name.
    """
    requested = None if memory == AUTO else find_tier(memory)
    if device.type == "cuda":
        usable = usable_memory(device)
        tier = requested or fitting_tier(usable)
        free = usable if requested is None else min(usable, requested.free)
    else:
        tier, free = requested or TIERS[-1], None
    return plan_memory(tier, Demand.largest(variant), _weights(variant, device, tier, weights), free=free)


def check_host_memory(
    variant: Variant,
    plan: MemoryPlan,
    device: torch.device,
    *,
    offloaded: bool,
    converted: Collection[Part] = (),
) -> None:
    """Raise `JobError` if host memory is too small for the models that are kept there; called before they are loaded.

    Args:
        offloaded: see `Placement`.
        converted: see `own_host_bytes`.
    """
    if device.type == "cuda" and not (offloaded or plan.tier.offloaded):
        return
    needed = own_host_bytes(
        variant, plan.weights, streamed=plan.streamed, on_gpu=device.type == "cuda", converted=converted
    )
    require_host_memory(needed, variant.name, "or use a GPU with more memory, which keeps fewer weights in host memory")


def _weights(variant: Variant, device: torch.device, tier: Tier, weights: str) -> Weights:
    if weights != AUTO:
        check_weights(Weights(weights), device)
        return Weights(weights)
    return default_weights(variant, tier) if device.type == "cuda" else Weights.BF16


class Placement:
    """Moves models to the device and back, by a plan.

    Args:
        offloaded: keep models in host memory while they are not in use, even if the plan does not need it.
    """

    def __init__(self, models: "Models", device: torch.device, plan: MemoryPlan, *, offloaded: bool) -> None:
        self._hosted: dict[nn.Module, HostedModel] = {}
        self._transformer = models.transformer
        if not (offloaded or plan.tier.offloaded):
            return
        transformer, text_encoder = models.transformer, models.text_encoder
        pinning = Pinning(device)
        streamed = plan.resident < plan.blocks
        blocks: dict[nn.Module, tuple[Sequence[nn.Module], int | None, int]] = {
            transformer: (transformer.fusion_blocks, plan.resident, plan.kept),
            # It is used once per clip, so its copies cost little, and none of it needs to stay.
            text_encoder: (list(text_encoder.encoder.block), 0 if streamed else None, 0),
        }
        for model in (transformer, text_encoder, models.video_vae, models.audio_vae, models.vocoder):
            # FSDP moves the models that are sharded over ranks.
            if not is_sharded(model):
                streamable, resident, kept = blocks.get(model, ((), None, 0))
                self._hosted[model] = HostedModel(model, device, streamable, resident, pinning=pinning, kept=kept)

    def apply(self, plan: MemoryPlan) -> None:
        """Keep as many of the transformer's blocks on the device as the plan says, from the next use on."""
        if hosted := self._hosted.get(self._transformer):
            hosted.set_resident(plan.resident, plan.kept)

    def prefetch(self) -> None:
        """Start to copy those of the transformer's blocks that stay on the device, while other models compute."""
        if hosted := self._hosted.get(self._transformer):
            hosted.fetch_kept()

    @contextmanager
    def in_use(self, model: nn.Module) -> Iterator[None]:
        """Keep a model on the device within the block."""
        hosted = self._hosted.get(model)
        if hosted is None:
            yield
            return
        with hosted.in_use():
            yield

    @contextmanager
    def writable(self, model: nn.Module) -> Iterator[None]:
        """Allow changes of a model's weights within the block, even while the model is in use."""
        hosted = self._hosted.get(model)
        if hosted is None:
            yield
            return
        with hosted.writable():
            yield
