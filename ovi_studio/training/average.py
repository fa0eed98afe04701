"""An exponential moving average of weights that forgets its beginning.

Its memory grows with the run, to a tenth of the steps that were done: a plain average of decay 0.999 would, after a few
hundred steps, still be made of the first weights, and an adapter that begins at nothing would come out too weak.
"""

from collections.abc import Mapping

import torch
from torch import Tensor


class MovingAverage:
    """Of tensors that change in place, float32.

    Args:
        decay: the largest, near 1; 0 keeps the last weights.
    """

    def __init__(self, tensors: Mapping[str, Tensor], decay: float) -> None:
        self.tensors = {name: tensor.detach().clone().float() for name, tensor in tensors.items()}
        # Not what they hold now: a parameter that goes to other memory and comes back holds another tensor.
        self._sources = list(tensors.values())
        self._decay = decay

    @torch.no_grad()
    def update(self, count: int) -> None:
        """Take in the weights as they are now, for the `count`-th time (from 1)."""
        decay = min(self._decay, (count - 1) / (count + 9))
        sources = [tensor.detach() for tensor in self._sources]
        torch._foreach_lerp_(list(self.tensors.values()), sources, 1 - decay)
