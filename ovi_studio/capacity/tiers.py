"""Memory tiers: where the models are kept on a GPU of a given size. Pure functions over data; imports no torch.

Within a tier, as many blocks of the transformer are resident as fit during the largest step, and the decoder's tiles
are as large as fits. The bytes come from `capacity.memory`:

    step   = fixed bytes + (resident + SLOTS, if any are streamed) * block + unfused adapters
    decode = video decoder with its tile
    text   = text encoder, or what is on the device at a time while it is streamed
    peak   = max(step, kept * block + max(decode, text)), plus whatever else stays on the device

Of the resident blocks, so many are kept while text is encoded and the clip decoded as fit next to that: the next clip
does not copy them again.

The budget is the free memory less the reserve (`capacity.budget`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ovi_studio.capacity.budget import GIB, LEAST_RESERVE, free_from_nominal, usable
from ovi_studio.capacity.memory import (
    SLOTS,
    Demand,
    decode_bytes,
    fitting_tile,
    fixed_bytes,
    resident_when_streaming,
    text_encoding_bytes,
)
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import Variant
from ovi_studio.core.weight_formats import Weights

AUTO = "auto"


@dataclass(frozen=True)
class Tier:
    """The settings for a GPU with a given amount of memory."""

    name: str
    memory: float
    """Nominal bytes of the GPU that the tier is named after."""
    weights: Weights
    offloaded: bool
    """Whether models are kept in host memory while they are not used."""

    @property
    def free(self) -> float:
        """Bytes that must be free for the tier: what such a GPU has free when little else is running."""
        return free_from_nominal(self.memory)


TIERS: Sequence[Tier] = (
    Tier("8", 8 * GIB, Weights.INT8, offloaded=True),
    Tier("12", 12 * GIB, Weights.INT8, offloaded=True),
    Tier("16", 16 * GIB, Weights.BF16, offloaded=True),
    Tier("24", 24 * GIB, Weights.BF16, offloaded=True),
    Tier("32", 32 * GIB, Weights.BF16, offloaded=True),
    Tier("max", 64 * GIB, Weights.BF16, offloaded=False),
)
"""In ascending order."""
ALL_RESIDENT = TIERS[-1].name
CHOICES = (AUTO, *(tier.name for tier in TIERS))


@dataclass(frozen=True)
class MemoryPlan:
    """The placement of one variant's models in one tier."""

    tier: Tier
    weights: Weights
    blocks: int
    resident: int
    """Number of blocks that stay on the device during a clip; the others are streamed."""
    tile: int | None
    """Maximum tile of the video decoder in latent pixels per side; None: no limit."""
    budget: float
    """Bytes of the device that may be used."""
    block_bytes: float
    fixed_bytes: float
    """Predicted bytes of a step in addition to the blocks."""
    decode_bytes: float
    """Predicted peak on the device while decoding, without kept blocks."""
    text_bytes: float = 0
    """Predicted peak on the device while text is encoded, without kept blocks."""

    def with_adapters(self, adapter_bytes: float) -> "MemoryPlan":
        """A copy with this many bytes of unfused adapters, which are placed with the transformer."""
        fixed = self.fixed_bytes + adapter_bytes
        if not self.tier.offloaded:
            return replace(self, fixed_bytes=fixed, decode_bytes=self.decode_bytes + adapter_bytes)
        resident = resident_when_streaming(self.blocks, self.block_bytes, self.budget - fixed)
        return replace(self, fixed_bytes=fixed, resident=min(self.resident, resident))

    @property
    def streamed(self) -> int:
        """Number of blocks that are not resident."""
        return self.blocks - self.resident

    @property
    def kept(self) -> int:
        """Number of resident blocks that stay on the device from clip to clip, although other models are used there."""
        if not self.tier.offloaded:
            return 0
        room = self.budget - max(self.decode_bytes, self.text_bytes)
        # The room of one block is left, so that the decoder does not have to make do with tiles.
        return max(0, min(self.resident, int(room // self.block_bytes) - 1))

    @property
    def step_bytes(self) -> float:
        """Predicted peak on the device while denoising."""
        return self.fixed_bytes + (self.resident + (SLOTS if self.streamed else 0)) * self.block_bytes

    @property
    def peak_bytes(self) -> float:
        """Predicted peak on the device."""
        return max(self.step_bytes, self.kept * self.block_bytes + max(self.decode_bytes, self.text_bytes))

    @property
    def least_free(self) -> float:
        """Bytes that must be free on the device; with less, the clip counts as too large."""
        return max(self.step_bytes, self.decode_bytes) + LEAST_RESERVE

    def record(self) -> dict[str, object]:
        """The entries for the clip's record."""
        return {"tier": self.tier.name, "weights": str(self.weights), "resident_blocks": self.resident}


def find_tier(name: str) -> Tier:
    """The tier called `name`; raises `JobError` that lists the valid names."""
    for tier in TIERS:
        if tier.name == name:
            return tier
    raise JobError(f"There is no memory tier {name!r}; choose one of {', '.join(CHOICES)}.")


def fitting_tier(free: float) -> Tier:
    """The largest tier that fits in `free` bytes; the smallest one if none fits."""
    return next((tier for tier in reversed(TIERS) if tier.free <= free), TIERS[0])


def tier_below(name: str) -> Tier | None:
    """The next smaller tier; None if there is none."""
    index = [tier.name for tier in TIERS].index(name)
    return TIERS[index - 1] if index else None


def default_weights(variant: Variant, tier: Tier) -> Weights:
    """The default number format of a variant's blocks on a GPU.

    An fp8 file stays in fp8: the same values as after conversion to bf16, in half the memory.
    """
    return Weights.FP8 if variant.weights is Weights.FP8 else tier.weights


def plan_memory(tier: Tier, demand: Demand, weights: Weights | None = None, *, free: float | None = None) -> MemoryPlan:
    """Place the models for the largest clip to be made.

    Args:
        demand: the clip; its number format is replaced by `weights`, or else by the tier's.
        free: bytes of the device that this process may use; None: as many as a GPU of the tier has.
    """
    demand = demand.with_weights(weights or tier.weights)
    budget = usable(tier.free if free is None else free)
    blocks = demand.sizes.layers
    fixed = fixed_bytes(demand)
    room = budget - fixed
    # What else is on the device while denoising and while decoding.
    other_in_step = 0 if tier.offloaded else demand.text_encoder + demand.codecs
    other_in_decoding = 0 if tier.offloaded else demand.weight_bytes + demand.text_encoder + demand.audio_codec
    # If all models stay on the device, the decoder uses what is free when it runs.
    tile = fitting_tile(demand.latent_size, budget - demand.video_vae) if tier.offloaded else None
    resident = resident_when_streaming(blocks, demand.block_bytes, room) if tier.offloaded else blocks
    return MemoryPlan(
        tier=tier,
        weights=demand.weights,
        blocks=blocks,
        resident=resident,
        tile=tile,
        budget=budget,
        block_bytes=demand.block_bytes,
        fixed_bytes=fixed + other_in_step,
        decode_bytes=decode_bytes(demand, tile) + other_in_decoding,
        text_bytes=text_encoding_bytes(demand, streamed=resident < blocks) if tier.offloaded else 0,
    )
