"""Several GPUs that lack memory: the ways down from the plan, each with less on every GPU. Imports no torch."""

from collections.abc import Iterator
from dataclasses import dataclass

from ovi_studio.capacity.layouts import ShardingOptions, Strategy
from ovi_studio.core.weight_formats import Weights


@dataclass(frozen=True)
class MemoryFallback:
    """How the weights lie on several GPUs; see the options of the same names."""

    sharding: ShardingOptions
    weights: str

    @property
    def arguments(self) -> str:
        """For the command line."""
        return " ".join([*self.sharding.arguments, "--weights", self.weights])

    def below(self) -> "MemoryFallback | None":
        """The next one with less on each GPU; None if there is none."""
        return next((fallback for fallback in self._ladder() if fallback != self), None)

    def way_down(self, times: int) -> list["MemoryFallback"]:
        """From this one so many steps down, or as far as it goes; the last one is where that leads."""
        way = [self]
        while len(way) <= times and (below := way[-1].below()) is not None:
            way.append(below)
        return way

    def _ladder(self) -> Iterator["MemoryFallback"]:
        """Down from here: nothing stays gathered, then shares wait in host memory, then weights take half."""
        in_host_memory = self.sharding.offloaded
        yield MemoryFallback(ShardingOptions(Strategy.FULL_SHARD, 0, in_host_memory), self.weights)
        yield MemoryFallback(ShardingOptions(Strategy.FULL_SHARD, 0, True), self.weights)
        # Weights in fp8 are as small already.
        smallest = self.weights if self.weights == Weights.FP8 else Weights.INT8
        yield MemoryFallback(ShardingOptions(Strategy.FULL_SHARD, 0, True), smallest)
