"""Memory tiers: what a GPU of a size keeps where. Pure functions over data; imports no torch.

Within a tier as many blocks of the transformer are resident as the longest step leaves room for, and the decoder takes
tiles as large as there is room for. The bytes come from `capacity.memory`:

    step   = fixed bytes + (resident + SLOTS, if any are streamed) * block + adapters that run beside the layers
    decode = video decoder with its tile
    peak   = max(step, decode), with whatever else stays on the device

What may be used is what is free, less the reserve (`capacity.budget`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ovi_studio.capacity.budget import GIB, LEAST_RESERVE, free_of_label, spendable
from ovi_studio.capacity.memory import (
    SLOTS,
    Demand,
    decode_bytes,
    fitting_tile,
    fixed_bytes,
    streamed_resident,
)
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import Variant
from ovi_studio.core.weight_formats import Weights

AUTO = "auto"


@dataclass(frozen=True)
class Tier:
    """What is done on a GPU with so much memory."""

    name: str
    memory: float
    """Bytes of the GPU that it is named after."""
    weights: Weights
    offloaded: bool
    """Models wait in host memory while they are not used."""

    @property
    def free(self) -> float:
        """Bytes that must be free for it; as many as are on such a GPU when little else runs."""
        return free_of_label(self.memory)


TIERS: Sequence[Tier] = (
    Tier("8", 8 * GIB, Weights.INT8, offloaded=True),
    Tier("12", 12 * GIB, Weights.INT8, offloaded=True),
    Tier("16", 16 * GIB, Weights.BF16, offloaded=True),
    Tier("24", 24 * GIB, Weights.BF16, offloaded=True),
    Tier("32", 32 * GIB, Weights.BF16, offloaded=True),
    Tier("max", 64 * GIB, Weights.BF16, offloaded=False),
)
"""From small to large."""
ALL_RESIDENT = TIERS[-1].name
CHOICES = (AUTO, *(tier.name for tier in TIERS))


@dataclass(frozen=True)
class MemoryPlan:
    """What one variant's models do in one tier."""

    tier: Tier
    weights: Weights
    blocks: int
    resident: int
    """Blocks that stay on the device during a clip; the others are streamed."""
    tile: int | None
    """Latent pixels a side that the video decoder takes at a time, at most; None: no limit."""
    budget: float
    """Bytes of the device that may be used."""
    block_bytes: float
    fixed_bytes: float
    """What a step needs beside the blocks, predicted."""
    decode_bytes: float
    """Predicted peak on the device while decoding."""

    def with_adapters(self, adapter_bytes: float) -> "MemoryPlan":
        """The same with so many bytes of adapters beside the layers, which are where the transformer is."""
        fixed = self.fixed_bytes + adapter_bytes
        if not self.tier.offloaded:
            return replace(self, fixed_bytes=fixed, decode_bytes=self.decode_bytes + adapter_bytes)
        resident = streamed_resident(self.blocks, self.block_bytes, self.budget - fixed)
        return replace(self, fixed_bytes=fixed, resident=min(self.resident, resident))

    @property
    def streamed(self) -> int:
        return self.blocks - self.resident

    @property
    def step_bytes(self) -> float:
        """Predicted peak on the device while denoising."""
        return self.fixed_bytes + (self.resident + (SLOTS if self.streamed else 0)) * self.block_bytes

    @property
    def peak_bytes(self) -> float:
        """Predicted, on the device."""
        return max(self.step_bytes, self.decode_bytes)

    @property
    def least_free(self) -> float:
        """Bytes of the device that must be free, or the clip counts as too large for it."""
        return self.peak_bytes + LEAST_RESERVE

    def record(self) -> dict[str, object]:
        """For the clip's record."""
        return {"tier": self.tier.name, "weights": str(self.weights), "resident_blocks": self.resident}


def find_tier(name: str) -> Tier:
    """The tier called `name`; raises `JobError` that lists the names."""
    for tier in TIERS:
        if tier.name == name:
            return tier
    raise JobError(f"There is no memory tier {name!r}; choose one of {', '.join(CHOICES)}.")


def fitting_tier(free: float) -> Tier:
    """The largest tier for so many free bytes; the smallest one if none fits."""
    return next((tier for tier in reversed(TIERS) if tier.free <= free), TIERS[0])


def tier_below(name: str) -> Tier | None:
    """The next smaller one; None if there is none."""
    index = [tier.name for tier in TIERS].index(name)
    return TIERS[index - 1] if index else None


def default_weights(variant: Variant, tier: Tier) -> Weights:
    """The number format of a variant's blocks on a GPU, where nobody asks for another.

    A file in fp8 is kept as it is: the same numbers as converted when loaded, in half of the memory.
    """
    return Weights.FP8 if variant.weights is Weights.FP8 else tier.weights


def plan_memory(tier: Tier, demand: Demand, weights: Weights | None = None, *, free: float | None = None) -> MemoryPlan:
    """What stays where, for the largest clip that is to be made.

    Args:
        demand: its weights are replaced by the tier's, or by `weights`.
        free: bytes of the device that this process may have; None: as many as a GPU of the tier has.
    """
    demand = demand.with_weights(weights or tier.weights)
    budget = spendable(tier.free if free is None else free)
    blocks = demand.sizes.layers
    fixed = fixed_bytes(demand)
    room = budget - fixed
    # In either phase, what else is on the device.
    beside_step = 0 if tier.offloaded else demand.text_encoder + demand.codecs
    beside_decoder = 0 if tier.offloaded else demand.weight_bytes + demand.text_encoder + demand.audio_codec
    # Where all models stay the decoder takes what is free when it comes to it.
    tile = fitting_tile(demand.latent_size, budget - demand.video_vae) if tier.offloaded else None
    return MemoryPlan(
        tier=tier,
        weights=demand.weights,
        blocks=blocks,
        resident=streamed_resident(blocks, demand.block_bytes, room) if tier.offloaded else blocks,
        tile=tile,
        budget=budget,
        block_bytes=demand.block_bytes,
        fixed_bytes=fixed + beside_step,
        decode_bytes=decode_bytes(demand, tile) + beside_decoder,
    )
