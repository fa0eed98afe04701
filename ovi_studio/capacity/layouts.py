"""The plan: which layout on which GPUs, from what they are and what is to be made. A pure function; imports no torch.

Ways to use several GPUs:

- *guidance parallel*: the positive and the negative pass run on two halves of the ranks, which exchange their results
  once a step;
- *sequence parallel*: the ranks of a half share the video tokens and exchange them in every block;
- *one clip a GPU*: nothing is shared; the queue is done sooner, a clip is not.

In the first two the weights are sharded over all ranks and gathered block by block, while the block before computes;
as many blocks as memory allows stay gathered. All seconds and bytes are predictions, with these formulas:

    seconds a step = exchanged / link + max(operations / rate, gathered / link)

where `rate` is what GPUs attain of their rated operations (`ATTAINED`). docs/parallel.md explains them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from ovi_studio.capacity.arithmetic import TowerSizes
from ovi_studio.capacity.budget import GIB, free_of_label, spendable
from ovi_studio.core.errors import JobError
from ovi_studio.core.sizes import SIDE
from ovi_studio.core.variants import Part, Variant

MAX_GPUS = 64
ATTAINED = 0.78
"""Of the rated operations a second, with memory traffic and attention; estimated."""
LINKS = {"pcie3": 6e9, "pcie4": 10e9, "pcie5": 20e9, "nvlink": 100e9}
"""Name -> bytes a second each way that a GPU gets through collectives; without peer-to-peer for PCIe."""
RATES = {
    "3090": 71e12,
    "3090 Ti": 80e12,
    "4090": 165e12,
    "5090": 209e12,
    "A6000": 155e12,
    "A100": 312e12,
    "H100": 989e12,
}
"""Part of a GPU's name -> its rated operations a second in bf16, dense; the longest part that fits counts."""
WEIGHT_BYTES = {"bf16": 2, "int8": 1, "fp8": 1}
ACTIVATION_BYTES = 2

_CODECS = 2.5e9
"""Bytes of the video decoder in bf16 and the audio codec in float32."""
_TEXT_ENCODER = 11.4e9
_WORKING_WIDTHS = 20
"""Tensors of one rank's tokens that live at once in a block; estimated."""
_BLOCKS_IN_FLIGHT = 3
"""The one that computes, the one that arrives, and the buffer it arrives in."""


class Wish(StrEnum):
    """What is to be done sooner."""

    LATENCY = "latency"
    THROUGHPUT = "throughput"


class Strategy(StrEnum):
    """How weights lie on the ranks; the names of FSDP."""

    FULL_SHARD = "FULL_SHARD"
    """Sharded; a block is gathered when it is needed. Blocks of the resident budget stay gathered."""
    SHARD_GRAD_OP = "SHARD_GRAD_OP"
    """Sharded; what was gathered once stays."""
    NO_SHARD = "NO_SHARD"
    """Every rank holds everything."""
    HYBRID_SHARD = "HYBRID_SHARD"
    """Sharded within each half of the ranks, which both hold everything."""


@dataclass(frozen=True)
class ShardingOptions:
    """What a person decides about the weights on several ranks; what is None is decided by the plan."""

    strategy: Strategy | None = None
    resident_blocks: int | None = None
    """With a strategy that shards and lets go: how many blocks stay gathered all the same."""
    offloaded: bool = False
    """Shards wait in host memory."""

    @property
    def arguments(self) -> list[str]:
        """For the command line."""
        found = [] if self.strategy is None else ["--fsdp-strategy", str(self.strategy)]
        found += [] if self.resident_blocks is None else ["--resident-blocks", str(self.resident_blocks)]
        return found + ["--fsdp-offload"] * self.offloaded


PLANNED = ShardingOptions()


@dataclass(frozen=True)
class Gpus:
    """Equal GPUs of one machine; of unequal ones the smallest counts."""

    count: int
    memory: float
    """Bytes of each that are free."""
    link: float = LINKS["pcie4"]
    """Bytes a second each way."""
    rate: float = RATES["3090"]
    """Rated operations a second in bf16."""
    label: float | None = None
    """Bytes that each is sold with, if that is how people named it."""

    @classmethod
    def named(cls, count: int, memory: float, name: str) -> "Gpus":
        """With so many free bytes, rated by their name; an RTX 3090's rate if it is not known."""
        known = [part for part in RATES if part in name]
        return cls(count, memory, rate=RATES[max(known, key=len, default="3090")])

    @classmethod
    def sold_with(cls, count: int, label: float, **rates: float) -> "Gpus":
        """With what is free of so many bytes; for GPUs that need not be here."""
        return cls(count, free_of_label(label), label=label, **rates)

    def __str__(self) -> str:
        """`4 GPUs of 24 GB` as they are sold, or `1 GPU with 22.3 GB free`."""
        memory = f"with {self.memory / GIB:.1f} GB free" if self.label is None else f"of {self.label / GIB:g} GB"
        return f"{self.count} GPU{'s' if self.count > 1 else ''} {memory}"


@dataclass(frozen=True)
class Demand:
    """The clip that is to be made."""

    sizes: TowerSizes
    video_tokens: int
    audio_tokens: int
    guided: bool = True
    weights: str = "bf16"
    """A key of `WEIGHT_BYTES`."""
    codecs: float = _CODECS
    text_encoder: float = _TEXT_ENCODER

    @classmethod
    def of(
        cls, variant: Variant, size: tuple[int, int] | None = None, *, guided: bool = True, weights: str = "bf16"
    ) -> "Demand":
        """A clip of this variant with (height, width)."""
        height, width = size or variant.default_size
        published = variant.root is None
        return cls(
            sizes=TowerSizes.of(variant.dimensions),
            video_tokens=variant.video_latent_frames * (height // SIDE) * (width // SIDE),
            audio_tokens=variant.audio_latent_length,
            guided=guided,
            weights=weights,
            codecs=_CODECS if published else 0,
            text_encoder=sum(file.size for file in variant.files.get(Part.TEXT_ENCODER, ())) if published else 0,
        )

    def with_weights(self, weights: str) -> "Demand":
        """The same clip with the blocks' weights in another format."""
        return replace(self, weights=str(weights))

    @property
    def passes(self) -> int:
        return 2 if self.guided else 1

    @property
    def weight_bytes(self) -> float:
        return self.sizes.layers * self.block_bytes + self.other_bytes

    @property
    def block_bytes(self) -> float:
        return self.sizes.block_parameters * WEIGHT_BYTES[self.weights]

    @property
    def other_bytes(self) -> float:
        """Embeddings and heads, which are never quantised."""
        return self.sizes.other_parameters * ACTIVATION_BYTES


@dataclass(frozen=True)
class Plan:
    """A layout and what it is predicted to cost."""

    demand: Demand
    gpus: Gpus
    clips: int
    """Made at once, each on `ranks` GPUs."""
    halves: int
    """2: the positive and the negative pass run beside each other."""
    sequence: int
    """Ranks that share the video tokens of a pass."""
    strategy: Strategy
    resident_blocks: int
    """Blocks that stay gathered on every rank."""
    offloaded: bool
    """Weights wait in host memory until they are gathered."""
    memory: float
    """Bytes that models and activations take of each GPU."""
    seconds_a_step: float
    """Of one clip."""
    exchanged: float
    """Bytes of tokens that a rank sends in a step."""
    gathered: float
    """Bytes of weights that a rank receives in a step."""

    @property
    def ranks(self) -> int:
        return self.halves * self.sequence

    @property
    def idle(self) -> int:
        return self.gpus.count - self.clips * self.ranks


def choose(demand: Demand, gpus: Gpus, wish: Wish = Wish.LATENCY) -> Plan:
    """The fastest plan that fits; with equal times the one with fewer GPUs.

    Raises `JobError` if nothing fits.
    """
    if not 1 <= gpus.count <= MAX_GPUS:
        raise JobError(f"The number of GPUs must be between 1 and {MAX_GPUS}, not {gpus.count}.")
    plans = [found for layout in _layouts(demand, gpus, wish) if (found := plan_layout(demand, gpus, *layout))]
    if not plans:
        advice = "use int8 weights, a smaller variant, or more GPUs" if demand.weights == "bf16" else "use more GPUs"
        raise JobError(f"This clip does not fit {gpus}, not even with its weights in host memory; {advice}.")
    return min(plans, key=lambda plan: (plan.seconds_a_step, plan.ranks))


def layout_for(ranks: int, heads: int, *, guided: bool) -> tuple[int, int]:
    """(halves, ranks that share the tokens) of a clip on these ranks.

    Ranks that cannot share it, such as three of a model with two heads, compute the same as others do.
    """
    halves = 2 if guided and ranks % 2 == 0 else 1
    return halves, max(count for count in range(1, ranks + 1) if ranks // halves % count == 0 == heads % count)


def sharing_counts(gpus: int, heads: int) -> list[int]:
    """The numbers of GPUs, up to `gpus`, all of which can share every clip of a model."""
    return [count for count in range(1, gpus + 1) if heads % count == 0]


def plan_layout(demand: Demand, gpus: Gpus, clips: int, halves: int, sequence: int) -> Plan | None:
    """One layout with the largest resident budget, its weights in host memory if need be; None if it does not fit."""
    for offloaded in (False, True):
        budget = _resident_budget(demand, gpus, halves * sequence, sequence, offloaded)
        if budget is not None:
            return _predict(demand, gpus, clips, halves, sequence, budget, offloaded)
    return None


def _layouts(demand: Demand, gpus: Gpus, wish: Wish) -> Iterator[tuple[int, int, int]]:
    """Clips at once, halves, ranks of a half."""
    if wish is Wish.THROUGHPUT:
        yield gpus.count, 1, 1
        return
    for halves in range(1, demand.passes + 1):
        for sequence in range(1, gpus.count // halves + 1):
            if demand.sizes.heads % sequence == 0:
                yield 1, halves, sequence


@dataclass(frozen=True)
class _Budget:
    strategy: Strategy
    resident: int
    memory: float


def _resident_budget(demand: Demand, gpus: Gpus, ranks: int, sequence: int, offloaded: bool) -> _Budget | None:
    """How many blocks can stay gathered; None if not even one at a time fits."""
    layers, block = demand.sizes.layers, demand.block_bytes
    room = spendable(gpus.memory)
    needed = demand.codecs + _working_memory(demand, sequence) + demand.other_bytes
    # One GPU alone has its text encoder in host memory while it is not used.
    whole = needed + layers * block + (demand.text_encoder if ranks > 1 else 0)
    if not offloaded and whole <= room:
        return _Budget(Strategy.NO_SHARD, layers, whole)
    if not offloaded and ranks == 1:
        return None
    shards = 0 if offloaded else (demand.weight_bytes + demand.text_encoder) / ranks
    least = needed + shards + _BLOCKS_IN_FLIGHT * block
    if least > room:
        return None
    resident = int((room - least) // block)
    if resident >= layers:
        return _Budget(Strategy.SHARD_GRAD_OP, layers, least + layers * block)
    return _Budget(Strategy.FULL_SHARD, resident, least + resident * block)


def _working_memory(demand: Demand, sequence: int) -> float:
    """Activations of one pass, the tokens of the other, and the text's keys and values of a rank's passes."""
    sizes = demand.sizes
    tokens = demand.video_tokens / sequence + demand.audio_tokens
    text = 4 * sizes.layers * sizes.text_tokens * sizes.dim * ACTIVATION_BYTES
    return tokens * sizes.dim * ACTIVATION_BYTES * _WORKING_WIDTHS + demand.passes * text


def _predict(
    demand: Demand, gpus: Gpus, clips: int, halves: int, sequence: int, budget: _Budget, offloaded: bool
) -> Plan:
    sizes, ranks = demand.sizes, halves * sequence
    forward = sizes.flops(demand.video_tokens, demand.audio_tokens, sequence)
    # The negative pass leaves one block out; beside each other the positive one decides.
    both = 2 - 1 / sizes.layers
    passes = both if demand.guided and halves == 1 else 1
    clip = (demand.video_tokens, demand.audio_tokens)
    exchanged = passes * sizes.exchanged(*clip, sequence, ACTIVATION_BYTES)
    if ranks > 1:
        exchanged += demand.passes * sizes.velocity_bytes(*clip, ACTIVATION_BYTES)
    travelling = sizes.layers - budget.resident
    item = WEIGHT_BYTES[demand.weights]
    gathered = sizes.gathered(travelling, ranks, item)
    if offloaded:
        # Each rank's share comes from host memory first; with one rank that is all of it.
        gathered += travelling * demand.block_bytes / ranks
    compute = passes * forward / (gpus.rate * ATTAINED)
    return Plan(
        demand=demand,
        gpus=gpus,
        clips=clips,
        halves=halves,
        sequence=sequence,
        strategy=budget.strategy,
        resident_blocks=budget.resident,
        offloaded=offloaded,
        memory=budget.memory,
        seconds_a_step=exchanged / gpus.link + max(compute, gathered / gpus.link),
        exchanged=exchanged,
        gathered=gathered,
    )
