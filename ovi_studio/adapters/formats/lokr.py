"""LoKr (LyCORIS): the Kronecker product of two matrices, each of which may itself be a product of two."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ovi_studio.adapters.formats.change import Change, to_float32
from ovi_studio.adapters.formats.format import TUCKER, Format
from ovi_studio.adapters.formats.group import Group, flat
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


def _check(group: Group, shape: Shape) -> int | None:
    """The rank of a factor that is a product; LyCORIS scales the change only if there is one."""
    sizes, rank = [], None
    for factor in _FACTORS:
        if factor in group.roles:
            matrix = group.shape(factor)
            group.check(len(matrix) >= 2, shape)
            sizes.append(flat(matrix))
        else:
            first, second = _parts(factor)
            rank = group.check_product(first, second, shape)
            sizes.append((group.shape(first)[0], group.shape(second)[1]))
    rows, columns = (math.prod(size[axis] for size in sizes) for axis in (0, 1))
    group.check((rows, columns) == flat(shape), shape)
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
