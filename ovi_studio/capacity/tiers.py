"""Memory tiers: what a GPU of a size keeps where. Pure functions over data; imports no torch.

Within a tier as many blocks of the transformer are resident as the longest step leaves room for. Predicted peaks, in
bytes, with d the width, L the video tokens, p the passes (2 with guidance) and 2 bytes a value:

    step   = embeddings and heads + (resident + 2 slots) * block + p * text + 2 d * ((9.5 + p) L + 7 min(L, 16384))
    decode = video decoder + 4.4 MB * tile^2, or 3.2 MB for each latent pixel of a whole frame
    peak   = max(step, decode), with whatever else stays on the device

What may be used is what is free, less the reserve (`capacity.budget`); adapters that run beside the layers count too.

The widths in `step` were counted as live tensors on the meta device (tests/test_tiers.py counts them again), with
attention that does not keep its scores. Peaks that were measured beside the planned ones: docs/performance.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ovi_studio.capacity.budget import GIB, free_of_label, spendable
from ovi_studio.capacity.layouts import Demand
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import Variant
from ovi_studio.core.weight_formats import Weights

AUTO = "auto"
SLOTS = 2
"""Device memory for so many streamed blocks: one computes, one arrives."""

_WIDTHS = 9.5
_PARTIAL_WIDTHS = 7
_TOKENS_AT_ONCE = 16_384
_VIDEO_DECODER = 1.4e9
_DECODER_PIXEL = 4.4e6
_WHOLE_FRAME_PIXEL = 3.2e6
"""Whole frames have no margins; measured on an H200 (docs/performance.md), counted as live tensors it is 2.7e6."""


@dataclass(frozen=True)
class Tier:
    """What is done on a GPU with so much memory."""

    name: str
    memory: float
    """Bytes of the GPU that it is named after."""
    weights: Weights
    offloaded: bool
    """Models wait in host memory while they are not used."""
    tile: int | None
    """Latent pixels a side that the video decoder takes at a time; None: as many as memory has room for."""

    @property
    def free(self) -> float:
        """Bytes that must be free for it; as many as are on such a GPU when little else runs."""
        return free_of_label(self.memory)


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
_SMALLEST_TILE = 8


@dataclass(frozen=True)
class MemoryPlan:
    """What one variant's models do in one tier."""

    tier: Tier
    weights: Weights
    blocks: int
    resident: int
    """Blocks that stay on the device during a clip; the others are streamed."""
    tile: int | None
    budget: float
    """Bytes of the device that may be used."""
    block_bytes: float
    fixed_bytes: float
    """What a step needs beside the blocks, predicted."""
    decode_bytes: float
    """Predicted peak on the device while decoding."""
    host_bytes: float
    """Of host memory while models wait there, the maps of their files included."""

    def with_adapters(self, adapter_bytes: float) -> "MemoryPlan":
        """The same with so many bytes of adapters beside the layers, which are where the transformer is."""
        fixed = self.fixed_bytes + adapter_bytes
        if not self.tier.offloaded:
            return replace(self, fixed_bytes=fixed, decode_bytes=self.decode_bytes + adapter_bytes)
        resident = _resident_blocks(self.blocks, self.block_bytes, self.budget - fixed)
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


def plan_memory(
    tier: Tier,
    demand: Demand,
    latent_size: tuple[int, int],
    weights: Weights | None = None,
    *,
    free: float | None = None,
) -> MemoryPlan:
    """What stays where, for the largest clip that is to be made.

    Args:
        demand: its weights are replaced by the tier's, or by `weights`.
        latent_size: (height, width) of its video latents.
        free: bytes of the device that this process may have; None: as many as a GPU of the tier has.
    """
    weights = weights or tier.weights
    demand = demand.with_weights(weights)
    budget = spendable(tier.free if free is None else free)
    others = demand.text_encoder + demand.codecs
    fixed = demand.other_bytes + _text_bytes(demand) + activation_bytes(demand)
    stays = 0 if tier.offloaded else demand.weight_bytes + demand.text_encoder
    blocks = demand.sizes.layers
    return MemoryPlan(
        tier=tier,
        weights=weights,
        blocks=blocks,
        resident=_resident_blocks(blocks, demand.block_bytes, budget - fixed) if tier.offloaded else blocks,
        tile=tier.tile,
        budget=budget,
        block_bytes=demand.block_bytes,
        fixed_bytes=fixed if tier.offloaded else fixed + others,
        decode_bytes=decode_bytes(latent_size, tier.tile) + stays,
        host_bytes=demand.weight_bytes + others if tier.offloaded else 0,
    )


def own_host_bytes(variant: Variant, plan: MemoryPlan, *, on_gpu: bool = True) -> float:
    """Bytes of host memory that loading takes and the system cannot take back: less is the kernel's kill.

    What waits as its file has it is the file's memory map, which costs nothing but reading it again. Blocks that are
    streamed are packed anew, and so is what has another number format than in the file; on a CPU everything is float32.
    """
    demand = Demand.of(variant).with_weights(plan.weights)
    if not on_gpu:
        width = 2 if plan.weights is Weights.BF16 else 1
        return demand.weight_bytes * width + (demand.text_encoder + demand.codecs) * 2
    as_stored = Weights.FP8 if variant.name.endswith("_fp8") else Weights.BF16
    converted = plan.weights is not as_stored
    transformer = demand.weight_bytes if converted else plan.streamed * plan.block_bytes
    return transformer + (demand.text_encoder if plan.streamed else 0) + demand.codecs


def _resident_blocks(blocks: int, block_bytes: float, room: float) -> int:
    """How many of the blocks can stay where so many bytes are left for blocks; the slots of the others come first."""
    if blocks * block_bytes <= room:
        return blocks
    return _even(blocks, max(0, int(room // block_bytes) - SLOTS))


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


def fitting_tile(latent_size: tuple[int, int], room: float, limit: int | None) -> int | None:
    """Latent pixels a side that the decoder can take in so many bytes beside its weights; None: whole frames.

    Args:
        limit: not more than so many, even if there is room.
    """
    height, width = latent_size
    if (limit is None or max(height, width) <= limit) and _WHOLE_FRAME_PIXEL * height * width <= room:
        return None
    affordable = math.sqrt(max(0.0, room) / _DECODER_PIXEL)
    return max(_SMALLEST_TILE, int(min(affordable, math.inf if limit is None else limit)))


def _text_bytes(demand: Demand) -> float:
    """Keys and values of both towers, which are kept for a whole clip."""
    sizes = demand.sizes
    return demand.passes * sizes.layers * 4 * sizes.text_tokens * sizes.dim * 2


def _even(blocks: int, resident: int) -> int:
    """So many that the streamed ones fill the slots in turn."""
    streamed = -(-(blocks - resident) // SLOTS) * SLOTS
    return max(0, blocks - streamed)
