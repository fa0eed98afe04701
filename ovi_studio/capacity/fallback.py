"""Fallbacks when several GPUs run out of memory, each with less memory per GPU than the one before. Imports no torch.

They are ordered by cost: no blocks stay gathered; shards are kept in host memory; the weights are halved to int8. The
first two only take time, the last one changes the numbers. A fallback that does not save memory, according to the
memory model, is skipped.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ovi_studio.capacity.layouts import ShardingOptions, Strategy, weights_on_gpu
from ovi_studio.capacity.memory import Demand
from ovi_studio.core.variants import published_variants
from ovi_studio.core.weight_formats import Weights

_RANKS = 4
"""The number of GPUs for which fallbacks are compared: the smallest that every strategy supports."""


@dataclass(frozen=True)
class MemoryFallback:
    """How the weights are distributed over several GPUs; see the options of the same names."""

    sharding: ShardingOptions
    weights: str

    def below(self) -> "MemoryFallback | None":
        """The next fallback, with less on each GPU; None if there is none."""
        return next((fallback for fallback in self._ladder() if fallback._bytes < self._bytes), None)

    def _ladder(self) -> Iterator["MemoryFallback"]:
        in_host_memory = self.sharding.offloaded
        yield MemoryFallback(ShardingOptions(Strategy.FULL_SHARD, 0, in_host_memory), self.weights)
        yield MemoryFallback(ShardingOptions(Strategy.FULL_SHARD, 0, True), self.weights)
        yield MemoryFallback(ShardingOptions(Strategy.FULL_SHARD, 0, True), Weights.INT8)

    @property
    def _bytes(self) -> float:
        """Bytes of weights on each GPU, for a published variant; infinite if the plan decides."""
        sharding = self.sharding
        if sharding.strategy is None:
            return math.inf
        formats = {str(weights) for weights in Weights}
        # "auto" means bf16, or the format of the file if that is smaller.
        weights = Weights(self.weights) if self.weights in formats else Weights.BF16
        demand = Demand.of(next(iter(published_variants().values())), weights=weights)
        resident = sharding.resident_blocks or 0
        return weights_on_gpu(demand, _RANKS, sharding.strategy, resident, offloaded=sharding.offloaded)
