"""Several GPUs that lack memory: the ways down from the plan, each with less on every GPU. Imports no torch.

They are in order of what they cost: nothing stays gathered, then shares wait in host memory, which both only take time,
then the weights take half, which changes the numbers. What takes no less by the model of memory is left out.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ovi_studio.capacity.layouts import ShardingOptions, Strategy, weights_on_gpu
from ovi_studio.capacity.memory import Demand
from ovi_studio.core.variants import published_variants
from ovi_studio.core.weight_formats import Weights

_RANKS = 4
"""GPUs for which the ways are compared: the least that every strategy works on."""


@dataclass(frozen=True)
class MemoryFallback:
    """How the weights lie on several GPUs; see the options of the same names."""

    sharding: ShardingOptions
    weights: str

    def below(self) -> "MemoryFallback | None":
        """The next one with less on each GPU; None if there is none."""
        return next((fallback for fallback in self._ladder() if fallback._bytes < self._bytes), None)

    def _ladder(self) -> Iterator["MemoryFallback"]:
        in_host_memory = self.sharding.offloaded
        yield MemoryFallback(ShardingOptions(Strategy.FULL_SHARD, 0, in_host_memory), self.weights)
        yield MemoryFallback(ShardingOptions(Strategy.FULL_SHARD, 0, True), self.weights)
        yield MemoryFallback(ShardingOptions(Strategy.FULL_SHARD, 0, True), Weights.INT8)

    @property
    def _bytes(self) -> float:
        """Of weights on each GPU, for a published variant; without bounds where the plan decides about them."""
        sharding = self.sharding
        if sharding.strategy is None:
            return math.inf
        formats = {str(weights) for weights in Weights}
        # "auto" is bf16 here, or what the file has, if that is less.
        weights = Weights(self.weights) if self.weights in formats else Weights.BF16
        demand = Demand.of(next(iter(published_variants().values())), weights=weights)
        resident = sharding.resident_blocks or 0
        return weights_on_gpu(demand, _RANKS, sharding.strategy, resident, offloaded=sharding.offloaded)
