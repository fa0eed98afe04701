"""LoKr (LyCORIS): the Kronecker product of two matrices, each of which may itself be a product of two."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ovi_studio.adapters.formats.change import Change, to_float32
from ovi_studio.adapters.formats.format import TUCKER, Format
from ovi_studio.adapters.formats.layer_tensors import LayerTensors, flat
from ovi_studio.adapters.names import NameMap, Shape

if TYPE_CHECKING:
    from torch import Tensor

_FACTORS = ("lokr_w1", "lokr_w2")


@dataclass(frozen=True, eq=False)
class Kronecker(Change):
    """scale * kron(first, second)."""

    first: tuple[Tensor, ...]
    second: tuple[Tensor, ...]
    """One matrix (which may have kernel dimensions), or two to multiply."""
    scale: float

    def delta(self, weight: Tensor | None) -> Tensor:
        first, second = (_product(factors, weight) for factors in (self.first, self.second))
        return first.kron(second).mul_(self.scale)


def _product(factors: tuple[Tensor, ...], weight: Tensor | None) -> Tensor:
    matrices = [to_float32(factor, weight).flatten(1) for factor in factors]
    return matrices[0] if len(matrices) == 1 else matrices[0] @ matrices[1]


def _parts(factor: str) -> tuple[str, str]:
    """The two matrices of which a factor may be the product."""
    return f"{factor}_a", f"{factor}_b"


def _check(layer: LayerTensors, shape: Shape) -> int | None:
    """The rank of a factor that is a product; LyCORIS scales the change only if there is one."""
    sizes, rank = [], None
    for factor in _FACTORS:
        if factor in layer.roles:
            matrix = layer.shape(factor)
            layer.check(len(matrix) >= 2, shape)
            sizes.append(flat(matrix))
        else:
            first, second = _parts(factor)
            rank = layer.check_product(first, second, shape)
            sizes.append((layer.shape(first)[0], layer.shape(second)[1]))
    rows, columns = (math.prod(size[axis] for size in sizes) for axis in (0, 1))
    layer.check((rows, columns) == flat(shape), shape)
    return rank


def _build(tensors: Mapping[str, Tensor], scale: float) -> Kronecker:
    def factor(name: str) -> tuple[Tensor, ...]:
        names = (name,) if name in tensors else _parts(name)
        return tuple(tensors[one] for one in names)

    first, second = map(factor, _FACTORS)
    return Kronecker(first, second, scale)


LOKR = Format(
    title="LoKr",
    with_dora="LoKr with DoRA",
    suffixes={
        **{f".{name}": name for factor in _FACTORS for name in (factor, *_parts(factor))},
        ".lokr_t2": TUCKER,
    },
    parameter=NameMap.weight,
    check=_check,
    build=_build,
    product=True,
)
