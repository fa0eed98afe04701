"""The one form behind every format: a change of one parameter, which can give its difference.

Every `delta` is float32, at strength 1, and has as many values as the parameter, to be viewed in its shape. Only a DoRA
change depends on the weight; at strength s the weight is W + s * (W_dora - W), so all changes are added alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Change(ABC):
    """A change of one parameter."""

    @abstractmethod
    def delta(self, weight: Tensor | None) -> Tensor:
        """The difference at strength 1, float32, on the weight's device (or where its tensors are)."""

    def add_to(self, total: Tensor, weight: Tensor, strength: float) -> None:
        """total (float32, in the weight's shape) += strength * delta(weight), in place."""
        total.add_(self.delta(weight).view_as(total), alpha=strength)


class RuntimeChange(Change):
    """A change that can also run beside a linear layer: scale * up @ down, whatever the weight is."""

    scale: float

    @abstractmethod
    def factors(self, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """up (rows, rank) and down (rank, columns), float32, on the weight's device (or where they are)."""


Changes = Mapping[str, Sequence[Change]]
"""Official parameter name -> changes."""


def to_float32(tensor: Tensor, weight: Tensor | None) -> Tensor:
    """The tensor in float32, on the weight's device."""
    return (tensor if weight is None else tensor.to(weight.device)).float()
