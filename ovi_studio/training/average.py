"""An exponential moving average of weights, corrected for its short beginning as in Adam (arXiv 1412.6980)."""

from collections.abc import Mapping

import torch
from torch import Tensor


class MovingAverage:
    """Of tensors that change in place, float32.

    Args:
        decay: near 1; 0 keeps the last weights.
    """

    def __init__(self, tensors: Mapping[str, Tensor], decay: float) -> None:
        self.tensors = {name: tensor.detach().clone().float() for name, tensor in tensors.items()}
        self._sources = [tensor.detach() for tensor in tensors.values()]
        self._decay = decay

    @torch.no_grad()
    def update(self, count: int) -> None:
        """Take in the weights as they are now, for the `count`-th time (from 1)."""
        # The same as a plain average from zero that is divided by 1 - decay^count, without a second copy.
        weight = (1 - self._decay) / (1 - self._decay**count)
        torch._foreach_lerp_(list(self.tensors.values()), self._sources, weight)
