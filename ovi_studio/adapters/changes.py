"""The one form behind every adapter format: official parameter name -> changes, each of which can give its difference.

Every `delta` is float32, at strength 1, and has as many values as the parameter, to be viewed in its shape. Only a DoRA
change depends on the weight; at strength s the weight is W + s * (W_dora - W), so all changes are added alike.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class Change(ABC):
    """A change of one parameter."""

    @abstractmethod
    def delta(self, weight: Tensor | None) -> Tensor:
        """The difference at strength 1, float32, on the weight's device (or where its tensors are)."""

    def add_to(self, total: Tensor, weight: Tensor, strength: float) -> None:
        """total (float32, in the weight's shape) += strength * delta(weight), in place."""
        total.add_(self.delta(weight).view_as(total), alpha=strength)


Changes = Mapping[str, Sequence[Change]]
"""Official parameter name -> changes."""


@dataclass(frozen=True, eq=False)
class LowRank(Change):
    """LoRA (arXiv 2106.09685): scale * up @ down."""

    down: Tensor
    """(rank, columns), or (rank, channels, *kernel) of a convolution"""
    up: Tensor
    """(rows, rank), with kernel sizes of 1 for a convolution"""
    scale: float

    def delta(self, weight: Tensor | None) -> Tensor:
        up, down = self.factors(weight)
        return (up @ down).mul_(self.scale)

    def add_to(self, total: Tensor, weight: Tensor, strength: float) -> None:
        # The product goes straight into the sum: a third of the memory traffic of computing it first.
        total.flatten(1).addmm_(*self.factors(weight), alpha=strength * self.scale)

    def factors(self, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """(rows, rank) and (rank, columns), float32."""
        return _on(weight, self.up).flatten(1), _on(weight, self.down).flatten(1)


@dataclass(frozen=True, eq=False)
class Difference(Change):
    """The difference itself, of a weight, norm, bias or modulation."""

    difference: Tensor
    """As many values as the parameter."""
    scale: float = 1.0

    def delta(self, weight: Tensor | None) -> Tensor:
        return _on(weight, self.difference) * self.scale


@dataclass(frozen=True, eq=False)
class Hadamard(Change):
    """LoHa (arXiv 2108.06098, LyCORIS): scale * (a1 @ b1) * (a2 @ b2), element by element."""

    first: tuple[Tensor, Tensor]
    second: tuple[Tensor, Tensor]
    """(rows, rank) and (rank, columns) each"""
    scale: float

    def delta(self, weight: Tensor | None) -> Tensor:
        (a, b), (c, d) = ((_on(weight, left), _on(weight, right)) for left, right in (self.first, self.second))
        return (a @ b).mul_(c @ d).mul_(self.scale)


@dataclass(frozen=True, eq=False)
class Kronecker(Change):
    """LoKr (LyCORIS): scale * kron(first, second); each factor is a matrix or a product of two."""

    first: tuple[Tensor, ...]
    second: tuple[Tensor, ...]
    """One matrix (which may have kernel dimensions), or two to multiply."""
    scale: float

    def delta(self, weight: Tensor | None) -> Tensor:
        first, second = (_product(weight, factors) for factors in (self.first, self.second))
        return torch.kron(first, second).mul_(self.scale)


@dataclass(frozen=True, eq=False)
class Decomposed(Change):
    """DoRA (arXiv 2402.09353): the changed weight, with every row brought to a learned length."""

    inner: LowRank | Hadamard | Kronecker
    magnitude: Tensor
    """(rows,) or (rows, 1); (1, columns) in files of early LyCORIS, whose columns have the learned length."""

    def delta(self, weight: Tensor | None) -> Tensor:
        if weight is None:
            raise ValueError("the difference of a DoRA change depends on the weight")
        base = weight.float().flatten(1)
        changed = base + self.inner.delta(weight).view_as(base)
        by_rows = self.magnitude.shape[0] == base.shape[0]
        lengths = torch.linalg.vector_norm(changed, dim=1 if by_rows else 0, keepdim=True)
        # A row of zeros stays one instead of turning into NaN.
        factor = _on(weight, self.magnitude).view_as(lengths) / lengths.clamp_min(torch.finfo(torch.float32).tiny)
        return changed.mul_(factor).sub_(base)


def total_delta(changes: Sequence[Change], weight: Tensor) -> Tensor:
    """The sum of all changes at strength 1, float32, in the weight's shape."""
    total = torch.zeros_like(weight, dtype=torch.float32)
    for change in changes:
        change.add_to(total, weight, 1.0)
    return total


def _product(weight: Tensor | None, factors: tuple[Tensor, ...]) -> Tensor:
    matrices = [_on(weight, factor).flatten(1) for factor in factors]
    return matrices[0] if len(matrices) == 1 else matrices[0] @ matrices[1]


def _on(weight: Tensor | None, tensor: Tensor) -> Tensor:
    return tensor.to(tensor.device if weight is None else weight.device, torch.float32)
