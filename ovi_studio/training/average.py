"""An exponential moving average of weights that forgets its start.

Its window grows with the run, to a tenth of the steps taken: a plain average with decay 0.999 would still consist of
the initial weights after a few hundred steps, and an adapter, whose update is initially zero, would be too weak.
"""

from collections.abc import Mapping

import torch
from torch import Tensor


class MovingAverage:
    """The average, in float32, of tensors that change in place.

    Args:
        decay: maximum decay, near 1; 0 keeps the last weights.
    """

    def __init__(self, tensors: Mapping[str, Tensor], decay: float) -> None:
        self.tensors = {name: tensor.detach().clone().float() for name, tensor in tensors.items()}
        # Parameters, not their current data: a parameter that moves to another device and back has new data.
        self._sources = list(tensors.values())
        self._decay = decay

    @torch.no_grad()
    def update(self, count: int) -> None:
        """Include the current weights, as the `count`-th update (from 1)."""
        decay = min(self._decay, (count - 1) / (count + 9))
        sources = [tensor.detach() for tensor in self._sources]
        torch._foreach_lerp_(list(self.tensors.values()), sources, 1 - decay)
