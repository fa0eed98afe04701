"""Selection of a multi-GPU layout for given GPUs and a given clip. Pure functions; imports no torch.

Ways to use several GPUs:

- *guidance parallel*: the positive and the negative pass run on two halves of the ranks, which exchange their results
  once per step;
- *sequence parallel*: the ranks of a half split the video tokens and exchange them in every block;
- *one clip a GPU*: nothing is shared; the queue finishes sooner, a single clip does not.

In the first two, the weights are sharded over all ranks and gathered block by block while the previous block computes;
as many blocks as memory allows stay gathered. A single GPU follows its memory tier (`capacity.tiers`). All figures are
predictions: seconds from `capacity.arithmetic`, bytes from `capacity.memory`. On each of several GPUs

    step   = fixed bytes + codecs + shards + (resident + BLOCKS_IN_FLIGHT) * block, or the whole models
    decode = codecs + shards, or the whole models + the decoder's tile, which is as large as memory allows
    peak   = max(step, decode) + COLLECTIVES

See docs/parallel.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from ovi_studio.capacity.arithmetic import LINKS, RATES, seconds_a_step
from ovi_studio.capacity.budget import GIB, free_from_nominal, usable
from ovi_studio.capacity.memory import (
    COLLECTIVES,
    VALUE_BYTES,
    WEIGHT_BYTES,
    Demand,
    decode_bytes,
    fitting_tile,
    fixed_bytes,
    sharded_bytes,
    shareable_bytes,
)
from ovi_studio.capacity.tiers import fitting_tier, plan_memory
from ovi_studio.core.errors import JobError
from ovi_studio.core.weight_formats import Weights

MAX_GPUS = 64


class Objective(StrEnum):
    """What a layout optimises: the time of one clip, or of the whole queue."""

    LATENCY = "latency"
    THROUGHPUT = "throughput"


class Strategy(StrEnum):
    """How weights are distributed over the ranks; the names are FSDP's."""

    FULL_SHARD = "FULL_SHARD"
    """Sharded; a block is gathered when it is needed, and resident blocks stay gathered."""
    SHARD_GRAD_OP = "SHARD_GRAD_OP"
    """Sharded; blocks stay gathered once they have been."""
    NO_SHARD = "NO_SHARD"
    """Every rank holds all weights."""
    HYBRID_SHARD = "HYBRID_SHARD"
    """Sharded within each half of the ranks; each half holds all weights."""


@dataclass(frozen=True)
class ShardingOptions:
    """The user's options for the weights on several ranks; the plan decides what is None."""

    strategy: Strategy | None = None
    resident_blocks: int | None = None
    """With a strategy that releases gathered blocks: the number of blocks that stay gathered."""
    offloaded: bool = False
    """Whether shards are kept in host memory."""


@dataclass(frozen=True)
class Gpus:
    """Identical GPUs of one machine; for different ones, the figures of the smallest."""

    count: int
    memory: float
    """Free bytes on each GPU."""
    link: float = LINKS["pcie4"]
    """Bytes per second in each direction."""
    rate: float = RATES["3090"]
    """Rated bf16 operations per second."""
    nominal: float | None = None
    """Nominal bytes of each GPU, if the user specified them in that way."""

    @classmethod
    def named(cls, count: int, memory: float, name: str) -> "Gpus":
        """GPUs with `memory` free bytes and the rate of a known model; that of an RTX 3090 for unknown ones."""
        known = [part for part in RATES if part in name]
        return cls(count, memory, rate=RATES[max(known, key=len, default="3090")])

    @classmethod
    def with_nominal_memory(cls, count: int, nominal: float, **rates: float) -> "Gpus":
        """GPUs by their nominal memory; they need not be present."""
        return cls(count, free_from_nominal(nominal), nominal=nominal, **rates)

    def __str__(self) -> str:
        """`4 GPUs of 24 GB` for nominal memory, or `1 GPU with 22.3 GB free`."""
        memory = f"with {self.memory / GIB:.1f} GB free" if self.nominal is None else f"of {self.nominal / GIB:g} GB"
        return f"{self.count} GPU{'s' if self.count > 1 else ''} {memory}"


@dataclass(frozen=True)
class Plan:
    """A layout and its predicted cost."""

    demand: Demand
    gpus: Gpus
    clips: int
    """Clips that are made at the same time, each on `ranks` GPUs."""
    halves: int
    """2 if the positive and the negative pass run in parallel, else 1."""
    sequence: int
    """Ranks that split the video tokens of a pass."""
    strategy: Strategy
    resident_blocks: int
    """Blocks that stay gathered on every rank."""
    offloaded: bool
    """Whether weights are kept in host memory until they are gathered."""
    memory: float
    """Bytes of models and activations on each GPU."""
    seconds_a_step: float
    """Seconds of one step of one clip."""
    exchanged: float
    """Bytes of tokens that a rank sends in a step."""
    gathered: float
    """Bytes of weights that a rank receives in a step."""

    @property
    def ranks(self) -> int:
        """GPUs that make one clip together."""
        return self.halves * self.sequence

    @property
    def idle(self) -> int:
        """GPUs that are not used."""
        return self.gpus.count - self.clips * self.ranks


def choose(demand: Demand, gpus: Gpus, objective: Objective = Objective.LATENCY) -> Plan:
    """The fastest plan that fits; with equal times, the one with the fewest GPUs.

    Raises `JobError` if nothing fits.
    """
    if not 1 <= gpus.count <= MAX_GPUS:
        raise JobError(f"The number of GPUs must be between 1 and {MAX_GPUS}, not {gpus.count}.")
    plans = [found for layout in _layouts(demand, gpus, objective) if (found := plan_layout(demand, gpus, *layout))]
    if not plans:
        bf16 = demand.weights is Weights.BF16
        advice = "use int8 weights, a smaller variant, or more GPUs" if bf16 else "use more GPUs"
        raise JobError(f"This clip does not fit {gpus}, not even with its weights in host memory; {advice}.")
    return min(plans, key=lambda plan: (plan.seconds_a_step, plan.ranks))


def layout_for(ranks: int, heads: int, *, guided: bool) -> tuple[int, int]:
    """(halves, ranks that split the tokens) of a clip on these ranks.

    Ranks that cannot take part, such as the third one for a model with two heads, repeat the work of others.
    """
    halves = 2 if guided and ranks % 2 == 0 else 1
    return halves, max(count for count in range(1, ranks + 1) if ranks // halves % count == 0 == heads % count)


def sharing_counts(gpus: int, heads: int) -> list[int]:
    """The GPU counts up to `gpus` that can split every clip of a model evenly."""
    return [count for count in range(1, gpus + 1) if heads % count == 0]


def plan_layout(demand: Demand, gpus: Gpus, clips: int, halves: int, sequence: int) -> Plan | None:
    """One layout with as many resident blocks as possible; offloads if necessary. None if it does not fit."""
    ranks = halves * sequence
    budget = _alone(demand, gpus) if ranks == 1 else _shared(demand, gpus, ranks, halves, sequence)
    return None if budget is None else _predict(demand, gpus, clips, halves, sequence, budget)


def plan_sharding(demand: Demand, gpus: Gpus) -> Plan | None:
    """All GPUs making one clip, even if they cannot split its tokens evenly; None if it does not fit."""
    halves, sequence = layout_for(gpus.count, demand.sizes.heads, guided=demand.guided)
    budget = _shared(demand, gpus, gpus.count, halves, sequence)
    return None if budget is None else _predict(demand, gpus, 1, halves, sequence, budget)


def weights_on_gpu(demand: Demand, ranks: int, strategy: Strategy, resident: int, *, offloaded: bool) -> float:
    """Bytes of transformer and text encoder on each of several GPUs during a step, including blocks in flight.

    Embeddings and heads, which every layout needs, are counted with the step.
    """
    layers = demand.sizes.layers
    if strategy is Strategy.NO_SHARD:
        return layers * demand.block_bytes + demand.text_encoder
    copies = 2 if strategy is Strategy.HYBRID_SHARD else 1
    gathered = layers if strategy is Strategy.SHARD_GRAD_OP else resident
    return sharded_bytes(demand, ranks // copies, gathered, offloaded=offloaded)


def _layouts(demand: Demand, gpus: Gpus, objective: Objective) -> Iterator[tuple[int, int, int]]:
    """Candidates as (clips at the same time, halves, ranks of a half)."""
    if objective is Objective.THROUGHPUT:
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
    offloaded: bool
    memory: float


def _alone(demand: Demand, gpus: Gpus) -> _Budget | None:
    """The budget of a single GPU, from its tier; None if the clip is too large for it."""
    plan = plan_memory(fitting_tier(gpus.memory), demand, demand.weights, free=gpus.memory)
    if plan.least_free > gpus.memory:
        return None
    strategy = Strategy.FULL_SHARD if plan.streamed else Strategy.NO_SHARD
    return _Budget(strategy, plan.resident, plan.streamed > 0, plan.peak_bytes)


def _shared(demand: Demand, gpus: Gpus, ranks: int, halves: int, sequence: int) -> _Budget | None:
    """The number of blocks that can stay gathered on each of several GPUs; None if not even one at a time fits."""
    layers, room = demand.sizes.layers, usable(gpus.memory)
    fixed = COLLECTIVES + demand.codecs + fixed_bytes(demand, halves, sequence)
    whole = weights_on_gpu(demand, ranks, Strategy.NO_SHARD, layers, offloaded=False)
    if fixed + whole <= room:
        memory = max(fixed + whole, _decoding(demand, room, shareable_bytes(demand)))
        return _Budget(Strategy.NO_SHARD, layers, False, memory)
    for offloaded in (False, True):
        least = fixed + sharded_bytes(demand, ranks, 0, offloaded=offloaded)
        if least <= room:
            resident = min(layers, int((room - least) // demand.block_bytes))
            strategy = Strategy.SHARD_GRAD_OP if resident == layers else Strategy.FULL_SHARD
            step = fixed + weights_on_gpu(demand, ranks, strategy, resident, offloaded=offloaded)
            shards = 0 if offloaded else shareable_bytes(demand) / ranks
            return _Budget(strategy, resident, offloaded, max(step, _decoding(demand, room, shards)))
    return None


def _decoding(demand: Demand, room: float, resting: float) -> float:
    """Peak while decoding on one of several GPUs that also holds `resting` bytes of inactive models."""
    other = COLLECTIVES + resting + demand.audio_codec
    tile = fitting_tile(demand.latent_size, room - other - demand.video_vae)
    return other + decode_bytes(demand, tile)


def _predict(demand: Demand, gpus: Gpus, clips: int, halves: int, sequence: int, budget: _Budget) -> Plan:
    sizes, ranks = demand.sizes, halves * sequence
    forward = sizes.flops(demand.video_tokens, demand.audio_tokens, sequence)
    # The negative pass skips one block; if the passes run in parallel, the positive one determines the time.
    both = 2 - 1 / sizes.layers
    passes = both if demand.guided and halves == 1 else 1
    clip = (demand.video_tokens, demand.audio_tokens)
    exchanged = passes * sizes.exchanged(*clip, sequence, VALUE_BYTES)
    if ranks > 1:
        exchanged += demand.passes * sizes.velocity_bytes(*clip, VALUE_BYTES)
    fetched = sizes.layers - budget.resident
    gathered = sizes.gathered(fetched, ranks, WEIGHT_BYTES[demand.weights])
    if budget.offloaded:
        # Each rank's shard comes from host memory first; with one rank that is everything.
        gathered += fetched * demand.block_bytes / ranks
    return Plan(
        demand=demand,
        gpus=gpus,
        clips=clips,
        halves=halves,
        sequence=sequence,
        strategy=budget.strategy,
        resident_blocks=budget.resident,
        offloaded=budget.offloaded,
        memory=budget.memory,
        seconds_a_step=seconds_a_step(passes * forward, gpus.rate, exchanged, gathered, gpus.link),
        exchanged=exchanged,
        gathered=gathered,
    )
