"""LoHa (arXiv 2108.06098, LyCORIS): two products of small matrices, multiplied element by element."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ovi_studio.adapters.formats.change import Change, to_float32
from ovi_studio.adapters.formats.format import TUCKER, Format
from ovi_studio.adapters.formats.layer_tensors import LayerTensors, flat
from ovi_studio.adapters.names import NameMap, Shape

if TYPE_CHECKING:
    from torch import Tensor

_FACTORS = (("hada_w1_a", "hada_w1_b"), ("hada_w2_a", "hada_w2_b"))


@dataclass(frozen=True, eq=False)
class Hadamard(Change):
    """scale * (a1 @ b1) * (a2 @ b2), element by element."""

    first: tuple[Tensor, Tensor]
    second: tuple[Tensor, Tensor]
    """(rows, rank) and (rank, columns) each"""
    scale: float

    def delta(self, weight: Tensor | None) -> Tensor:
        (a, b), (c, d) = (
            (to_float32(left, weight), to_float32(right, weight)) for left, right in (self.first, self.second)
        )
        return (a @ b).mul_(c @ d).mul_(self.scale)


def _check(layer: LayerTensors, shape: Shape) -> int:
    ranks = [layer.check_product(first, second, shape) for first, second in _FACTORS]
    for first, second in _FACTORS:
        layer.check((layer.shape(first)[0], layer.shape(second)[1]) == flat(shape), shape)
    return ranks[0]


def _build(tensors: Mapping[str, Tensor], scale: float) -> Hadamard:
    first, second = ((tensors[left], tensors[right]) for left, right in _FACTORS)
    return Hadamard(first, second, scale)


LOHA = Format(
    title="LoHa",
    with_dora="LoHa with DoRA",
    suffixes={
        **{f".{name}": name for pair in _FACTORS for name in pair},
        **{f".{name}": TUCKER for name in ("hada_t1", "hada_t2")},
    },
    parameter=NameMap.weight,
    check=_check,
    build=_build,
    product=True,
)
