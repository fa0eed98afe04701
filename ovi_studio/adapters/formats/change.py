"""The common interface of all formats: a change of one parameter, which can compute its difference.

Every `delta` is float32, at strength 1, and has as many values as the parameter, to be viewed in its shape. Only a DoRA
change depends on the weight; at strength s the weight is W + s * (W_dora - W), so all changes are added the same way.
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
        """Return the difference at strength 1, float32, on the weight's device (or that of its own tensors)."""

    def add_to(self, total: Tensor, weight: Tensor, strength: float) -> None:
        """Add strength * delta(weight) to `total` (float32, in the weight's shape), in place."""
        total.add_(self.delta(weight).view_as(total), alpha=strength)


class RuntimeChange(Change):
    """A change that can also be applied to a linear layer at run time: scale * up @ down, independent of the weight."""

    scale: float

    @abstractmethod
    def factors(self, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return up (rows, rank) and down (rank, columns), float32, on the weight's device (or their own)."""


Changes = Mapping[str, Sequence[Change]]
"""Official parameter name -> its changes."""


def to_float32(tensor: Tensor, weight: Tensor | None) -> Tensor:
    """Convert a tensor to float32, on the weight's device if a weight is given."""
    return (tensor if weight is None else tensor.to(weight.device)).float()
