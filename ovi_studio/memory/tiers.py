"""Memory tiers: what a GPU of a size keeps where. Pure functions over data; imports no torch.

Within a tier as many blocks of the transformer are resident as the longest step leaves room for. Predicted peaks, in
bytes, with d the width, L the video tokens, p the passes (2 with guidance) and 2 bytes a value:

    step   = embeddings and heads + (resident + 2 slots) * block + p * text + 2 d * ((9.5 + p) L + 7 min(L, 16384))
    decode = video decoder + 4.4 MB * tile^2, or 2.7 MB for each latent pixel of a whole frame
    peak   = max(step, decode), with whatever else stays on the device

The widths in `step` were counted as live tensors on the meta device (tests/test_tiers.py counts them again), with
attention that does not keep its scores; nothing of it was measured on a GPU yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ovi_studio.errors import JobError
from ovi_studio.memory.formats import Weights
from ovi_studio.parallel.plan import GIB, Demand

AUTO = "auto"
SLOTS = 2
"""Device memory for so many streamed blocks: one computes, one arrives."""

_RESERVE = 1.1e9
"""Driver, libraries and the allocator's gaps; estimated."""
_WIDTHS = 9.5
_PARTIAL_WIDTHS = 7
_TOKENS_AT_ONCE = 16_384
_VIDEO_DECODER = 1.4e9
_DECODER_PIXEL = 4.4e6
_WHOLE_FRAME_PIXEL = 2.7e6
"""Whole frames have no margins."""


@dataclass(frozen=True)
class Tier:
    """What is done on a GPU with so much memory."""

    name: str
    memory: float
    """Bytes that the GPU must have free."""
    weights: Weights
    offloaded: bool
    """Models wait in host memory while they are not used."""
    tile: int | None
    """Latent pixels a side that the video decoder takes at a time; None: as many as memory has room for."""

    @property
    def budget(self) -> float:
        """Bytes that may be used."""
        return self.memory - _RESERVE


TIERS: Sequence[Tier] = (
    Tier("8", 8 * GIB, Weights.INT8, offloaded=True, tile=24),
    Tier("12", 12 * GIB, Weights.INT8, offloaded=True, tile=30),
    Tier("16", 16 * GIB, Weights.BF16, offloaded=True, tile=30),
    Tier("24", 24 * GIB, Weights.BF16, offloaded=True, tile=None),
    Tier("32", 32 * GIB, Weights.BF16, offloaded=True, tile=None),
    Tier("max", 64 * GIB, Weights.BF16, offloaded=False, tile=None),
)
"""From small to large."""
ALL_RESIDENT = TIERS[-1].name
CHOICES = (AUTO, *(tier.name for tier in TIERS))
_MISSING = 0.94
"""Of the memory that a GPU is sold with, so much is free when nothing else runs."""


@dataclass(frozen=True)
class MemoryPlan:
    """What one variant's models do in one tier."""

    tier: Tier
    weights: Weights
    blocks: int
    resident: int
    """Blocks that stay on the device during a clip; the others are streamed."""
    tile: int | None
    step_bytes: float
    """Predicted peak on the device while denoising."""
    decode_bytes: float
    """And while decoding."""
    host_bytes: float
    """In host memory."""

    @property
    def streamed(self) -> int:
        return self.blocks - self.resident

    @property
    def peak_bytes(self) -> float:
        """Predicted, on the device."""
        return max(self.step_bytes, self.decode_bytes)

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
    return next((tier for tier in reversed(TIERS) if tier.memory * _MISSING <= free), TIERS[0])


def tier_below(name: str) -> Tier | None:
    """The next smaller one; None if there is none."""
    index = [tier.name for tier in TIERS].index(name)
    return TIERS[index - 1] if index else None


def plan_memory(tier: Tier, demand: Demand, latent_size: tuple[int, int], weights: Weights | None = None) -> MemoryPlan:
    """What stays where, for the largest clip that is to be made.

    Args:
        demand: its weights are replaced by the tier's, or by `weights`.
        latent_size: (height, width) of its video latents.
    """
    weights = weights or tier.weights
    demand = demand.with_weights(weights)
    blocks = demand.sizes.layers
    fixed = demand.other_bytes + _text_bytes(demand) + activation_bytes(demand)
    resident = blocks
    if tier.offloaded:
        room = tier.budget - fixed
        if blocks * demand.block_bytes > room:
            affordable = int((room - SLOTS * demand.block_bytes) // demand.block_bytes)
            resident = _even(blocks, max(0, affordable))
    slots = SLOTS if resident < blocks else 0
    others = 0 if tier.offloaded else demand.text_encoder + demand.codecs
    step = fixed + (resident + slots) * demand.block_bytes + others
    stays = 0 if tier.offloaded else demand.weight_bytes + demand.text_encoder
    return MemoryPlan(
        tier=tier,
        weights=weights,
        blocks=blocks,
        resident=resident,
        tile=tier.tile,
        step_bytes=step,
        decode_bytes=decode_bytes(latent_size, tier.tile) + stays,
        host_bytes=demand.weight_bytes + demand.text_encoder + demand.codecs if tier.offloaded else 0,
    )


def activation_bytes(demand: Demand) -> float:
    """Everything that lives in a step beside weights and text."""
    tokens = demand.video_tokens
    partial = _PARTIAL_WIDTHS * min(tokens, _TOKENS_AT_ONCE)
    return 2 * demand.sizes.dim * ((_WIDTHS + demand.passes) * tokens + partial)


def decode_bytes(latent_size: tuple[int, int], tile: int | None) -> float:
    """The full-size video decoder with a tile; independent of the clip's length."""
    height, width = latent_size
    if tile is None or max(height, width) <= tile:
        return _VIDEO_DECODER + _WHOLE_FRAME_PIXEL * height * width
    return _VIDEO_DECODER + _DECODER_PIXEL * min(tile, height) * min(tile, width)


def _text_bytes(demand: Demand) -> float:
    """Keys and values of both towers, which are kept for a whole clip."""
    sizes = demand.sizes
    return demand.passes * sizes.layers * 4 * sizes.text_tokens * sizes.dim * 2


def _even(blocks: int, resident: int) -> int:
    """So many that the streamed ones fill the slots in turn."""
    streamed = -(-(blocks - resident) // SLOTS) * SLOTS
    return max(0, blocks - streamed)
