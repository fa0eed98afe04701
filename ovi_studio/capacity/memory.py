"""The model of memory: bytes that a clip needs, from the sizes of the models and the clip. Imports no torch.

Tiers, multi-GPU layouts, the decoder's tiles, the doctor and the fallbacks are derived from these formulas. All results
are predicted bytes on one GPU. With

    d  width of the towers        L  video tokens of the clip     S  GPUs that split the tokens of a pass
    P  passes (2 with guidance)   p  passes on this GPU           n  tokens of a GPU: L / S, rounded up

and 2 bytes per value, a step needs, in addition to the blocks' weights,

    embeddings and heads of both towers
    text        P * layers * 2 towers * 2 (keys, values) * text tokens * 2 d
    activations 2 d * ((9.5 + p) n + 7 min(n, 16384))
    exchange    2 d * (8 n + 3 d), and 2 * 4 * 2^25 with int8 weights; only where S > 1

The first term of the activations is tokens, queries, keys, values and results, the second what is computed for at most
16384 tokens at a time. The exchange consists of the buffers of `distributed.sequence` (queries, keys, values and
results, each sent and received) and of what only matters with few tokens: the joined weights of queries, keys and
values, and an int32 product with its float32 result. The few hundred audio tokens, and what a step cache keeps, are
covered by these factors. Source: live tensors of whole steps, counted on the meta device with attention that does not
keep its scores (tests/unit/runtime/test_tiers.py repeats the count), and measurements on one GPU: docs/performance.md.

Decoding needs the video decoder and 3.3 MB per latent pixel of a tile, or 2.3 MB per latent pixel of a whole frame,
which has no margins; it does not depend on the clip's length. Measured on an H100 at 704x704: 3.0 MB, and 2.1 MB, or
2.2 MB compiled (2.0 MB counted as live tensors).
Encoding text needs less than a step: the text encoder is streamed or sharded like the blocks; if all its layers are
resident, it is smaller than the blocks together with the step's activations.

Memory for blocks is needed for the resident ones and for those in transit: `SLOTS` if they are streamed from host
memory, `BLOCKS_IN_FLIGHT` if they are gathered from shards.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

from ovi_studio.capacity.arithmetic import TowerSizes
from ovi_studio.core.variants import Part, Variant
from ovi_studio.core.weight_formats import Weights

VALUE_BYTES = 2
"""Size of activations, unquantised weights and exchanged values: bfloat16."""
WEIGHT_BYTES = {Weights.BF16: 2, Weights.INT8: 1, Weights.FP8: 1, Weights.FP8_FAST: 1}
"""Size of a weight of the blocks."""
SLOTS = 2
"""Number of streamed blocks in device memory: one computes, one arrives."""
BLOCKS_IN_FLIGHT = 3
"""Number of gathered blocks in device memory: one computes, one arrives, and the buffer it arrives in."""
COLLECTIVES = 0.5e9
"""Bytes for NCCL's channels and its streams on each of several GPUs; a generous estimate."""
TOKENS_AT_ONCE = 16_384
"""Tokens per chunk of feed-forward layers and rotations, so that temporary tensors do not grow with the clip."""
INTEGERS_AT_ONCE = 2**25
"""Values that are quantised, or int32 results, at a time: 128 MiB. For a whole long clip it would be 3 GB."""

_WIDTHS = 9.5
_PARTIAL_WIDTHS = 7
_EXCHANGE_WIDTHS = 8
_JOINED_LAYERS = 3
_INTEGER_RESULTS = 2
_INTEGER_BYTES = 4
_TILE_PIXEL = 3.3e6
_WHOLE_FRAME_PIXEL = 2.3e6
_SMALLEST_TILE = 8


@dataclass(frozen=True)
class Demand:
    """What a clip needs: its own size and that of the models."""

    sizes: TowerSizes
    video_tokens: int
    audio_tokens: int
    latent_size: tuple[int, int]
    """(height, width) of the video latents."""
    guided: bool = True
    weights: Weights = Weights.BF16
    """Number format of the blocks' weights."""
    video_vae: float = 0
    """Bytes, in bfloat16; like `audio_codec` and `text_encoder` 0 if negligible, as in the embedded model."""
    audio_codec: float = 0
    """Bytes of the audio VAE and the vocoder, in float32."""
    text_encoder: float = 0
    """Bytes, in bfloat16."""
    token_embedding: float = 0
    """Bytes of the text encoder outside its layers, in bfloat16."""
    text_layers: int = 1
    """Layers of the text encoder."""

    @classmethod
    def of(
        cls,
        variant: Variant,
        size: tuple[int, int] | None = None,
        *,
        guided: bool = True,
        weights: Weights | str = Weights.BF16,
    ) -> "Demand":
        """A clip of this variant with (height, width) in pixels; None: the variant's default size."""
        height, width = size or variant.default_size
        stride, unit = variant.latent_stride, variant.size_unit

        def stored(*parts: Part) -> int:
            return sum(file.size for part in parts for file in variant.files.get(part, ()))

        text = variant.dimensions.get("text_encoder", {"vocab_size": 0, "dim": 0, "num_layers": 1})
        return cls(
            sizes=TowerSizes.of(variant.dimensions),
            video_tokens=variant.video_latent_frames * (height // unit) * (width // unit),
            audio_tokens=variant.audio_latent_length,
            latent_size=(height // stride, width // stride),
            guided=guided,
            weights=Weights(weights),
            video_vae=stored(Part.VIDEO_VAE) / 2,  # the file is in float32
            audio_codec=stored(Part.AUDIO_VAE, Part.VOCODER),
            text_encoder=stored(Part.TEXT_ENCODER),
            token_embedding=text["vocab_size"] * text["dim"] * VALUE_BYTES,
            text_layers=text["num_layers"],
        )

    @classmethod
    def largest(cls, variant: Variant, weights: Weights | str = Weights.BF16) -> "Demand":
        """The clip for which a variant's models are placed: guided, square or of the variant's default size.

        Because of rounding, other aspect ratios have up to 10% more tokens, which the reserve must cover.
        """
        side = int(variant.pixel_area**0.5) // variant.size_unit * variant.size_unit
        clips = [cls.of(variant, size, weights=weights) for size in ((side, side), variant.default_size)]
        return max(clips, key=lambda clip: clip.video_tokens)

    def with_weights(self, weights: Weights | str) -> "Demand":
        """A copy with the blocks' weights in another format."""
        return replace(self, weights=Weights(weights))

    @property
    def passes(self) -> int:
        """Forward passes per step."""
        return 2 if self.guided else 1

    @property
    def block_bytes(self) -> float:
        """The weights of one block."""
        return self.sizes.block_parameters * WEIGHT_BYTES[self.weights]

    @property
    def other_bytes(self) -> float:
        """The embeddings and heads, which are never quantised."""
        return self.sizes.other_parameters * VALUE_BYTES

    @property
    def weight_bytes(self) -> float:
        """The weights of the whole transformer."""
        return self.sizes.layers * self.block_bytes + self.other_bytes

    @property
    def codecs(self) -> float:
        """Video VAE, audio VAE and vocoder."""
        return self.video_vae + self.audio_codec

    @property
    def float32_models(self) -> float:
        """All models except the transformer, in float32, as on a CPU."""
        return 2 * (self.text_encoder + self.video_vae) + self.audio_codec


# A step


def fixed_bytes(demand: Demand, halves: int = 1, sequence: int = 1) -> float:
    """Bytes that a step needs on each GPU in addition to the blocks' weights.

    Args:
        halves: 2 if the positive and the negative pass are computed on two halves of the GPUs.
        sequence: GPUs that split the video tokens of a pass.
    """
    return demand.other_bytes + _text_bytes(demand) + activation_bytes(demand, halves, sequence)


def activation_bytes(demand: Demand, halves: int = 1, sequence: int = 1) -> float:
    """Bytes of activations and exchange buffers in a step; the arguments are those of `fixed_bytes`."""
    width = VALUE_BYTES * demand.sizes.dim
    tokens = math.ceil(demand.video_tokens / sequence)
    passes = 1 if halves > 1 else demand.passes
    own = width * ((_WIDTHS + passes) * tokens + _PARTIAL_WIDTHS * min(tokens, TOKENS_AT_ONCE))
    if sequence == 1:
        return own
    exchanged = width * (_EXCHANGE_WIDTHS * tokens + _JOINED_LAYERS * demand.sizes.dim)
    integers = _INTEGER_RESULTS * _INTEGER_BYTES * INTEGERS_AT_ONCE if demand.weights is Weights.INT8 else 0
    return own + exchanged + integers


def _text_bytes(demand: Demand) -> float:
    """Keys and values of the text in both towers, which are kept for a whole clip."""
    sizes = demand.sizes
    return demand.passes * sizes.layers * 4 * sizes.text_tokens * sizes.dim * VALUE_BYTES


def text_encoding_bytes(demand: Demand, *, streamed: bool) -> float:
    """Bytes of the text encoder on one GPU: all of it, or its embedding and the layers in transit."""
    if not streamed:
        return demand.text_encoder
    layers = max(0.0, demand.text_encoder - demand.token_embedding)
    return demand.token_embedding + SLOTS * layers / demand.text_layers


# Blocks


def resident_when_streaming(blocks: int, block_bytes: float, room: float) -> int:
    """How many blocks can be resident in `room` bytes if the others are streamed.

    The slots for streamed blocks are reserved first, unless all blocks fit.
    """
    if blocks * block_bytes <= room:
        return blocks
    return blocks - evenly_streamed(blocks, blocks - (int(room // block_bytes) - SLOTS))


def evenly_streamed(blocks: int, wanted: int, slots: int = SLOTS) -> int:
    """`wanted` streamed blocks, rounded to a multiple of the slots, which are filled in turn."""
    return min(blocks - blocks % slots, math.ceil(max(0, wanted) / slots) * slots)


def sharded_bytes(demand: Demand, ranks: int, resident: int, *, offloaded: bool) -> float:
    """Weights on each of the GPUs that share one copy: shards, resident blocks and blocks in flight.

    Args:
        offloaded: whether the shards are kept in host memory.
    """
    shards = 0 if offloaded else shareable_bytes(demand) / ranks
    return shards + (resident + BLOCKS_IN_FLIGHT) * demand.block_bytes


def shareable_bytes(demand: Demand) -> float:
    """Bytes of one copy of the models that are sharded over GPUs."""
    return demand.weight_bytes + demand.text_encoder


# Decoding


def decode_bytes(demand: Demand, tile: int | None) -> float:
    """Peak of the full-size video decoder, including weights, with tiles of at most `tile` latent pixels per side.

    None: whole frames.
    """
    height, width = demand.latent_size
    if tile is None or max(height, width) <= tile:
        return demand.video_vae + _WHOLE_FRAME_PIXEL * height * width
    # Frames are cut into tiles of nearly equal size.
    rows, columns = (math.ceil(side / math.ceil(side / tile)) for side in (height, width))
    return demand.video_vae + _TILE_PIXEL * rows * columns


def fitting_tile(latent_size: tuple[int, int], room: float, limit: int | None = None) -> int | None:
    """The largest tile, in latent pixels per side, that the decoder can process in `room` bytes; None: whole frames.

    Args:
        room: bytes in addition to the decoder's weights.
        limit: upper bound for the tile, even if there is room for more.
    """
    height, width = latent_size
    if (limit is None or max(height, width) <= limit) and _WHOLE_FRAME_PIXEL * height * width <= room:
        return None
    affordable = math.sqrt(max(0.0, room) / _TILE_PIXEL)
    return max(_SMALLEST_TILE, int(min(affordable, math.inf if limit is None else limit)))


# Host memory


def own_host_bytes(
    variant: Variant,
    weights: Weights,
    *,
    streamed: int = 0,
    on_gpu: bool = True,
    converted: Collection[Part] = (),
) -> float:
    """Bytes of host memory that loading needs and the system cannot reclaim; with less, the kernel kills the process.

    Tensors in the format of their file are memory-mapped and can be read again, so they do not count. Streamed blocks
    are repacked, and tensors in another number format than their file are converted; on a CPU everything is float32.

    Args:
        streamed: number of streamed blocks of the transformer; the text encoder is streamed if this is not 0.
        converted: parts whose files have another number format than the published ones (`Inventory.converted`).
    """
    demand = Demand.of(variant, weights=weights)
    if not on_gpu:
        width = 2 if weights is Weights.BF16 else 1
        return demand.weight_bytes * width + demand.float32_models
    whole = weights is not variant.weights or Part.TRANSFORMER in converted
    transformer = demand.weight_bytes if whole else streamed * demand.block_bytes
    text_encoder = demand.text_encoder if streamed or Part.TEXT_ENCODER in converted else 0
    return transformer + text_encoder + demand.codecs
