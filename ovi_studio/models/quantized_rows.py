"""Rows of 8-bit numbers with a scale each: quantising a matrix, and scaling the integer product of two.

torch.compile makes one pass over memory of either function, within a compiled block or alone. Run eagerly, every
operation is a pass of its own, most of them over float32 copies: counted in bytes read and written, 25 instead of 3 for
each bfloat16 value that is quantised, and 30 instead of 6 for each value of a product.
"""

from collections.abc import Callable
from functools import cache, wraps
from typing import NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor

from ovi_studio.models.compilation import compiled, compiler_problem

_SMALLEST = 1e-30

P = ParamSpec("P")
T = TypeVar("T")


class QuantisedRows(NamedTuple):
    """Rows of 8-bit numbers and the scale of each row."""

    values: Tensor
    """int8 or float8_e4m3fn (rows, columns)"""
    scale: Tensor
    """float32 (rows, 1)"""


def quantise_rows(x: Tensor, dtype: torch.dtype = torch.int8) -> QuantisedRows:
    """Quantise symmetrically, rounding to nearest; zero rows stay zero.

    The largest value of every row becomes the largest of the format: 127 in int8, 448 in float8_e4m3fn.
    """
    scale = x.abs().amax(dim=-1, keepdim=True).float().clamp_min(_SMALLEST) / (448 if dtype.is_floating_point else 127)
    # The quotient is float32 whatever x is: it decides between neighbouring numbers.
    quotient = x / scale
    return QuantisedRows((quotient if dtype.is_floating_point else quotient.round_()).to(dtype), scale)


def scale_product(product: Tensor, rows: Tensor, columns: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Write product * rows * columns + bias, computed in float32, to `out` (rows, columns).

    Args:
        product: of the 8-bit integers, int32, or float32 with whole numbers.
        rows: float32 (rows, 1).
        columns: float32 (1, columns).
        bias: (columns,), or None.
    """
    scaled = (product * rows).mul_(columns)
    out.copy_(scaled if bias is None else scaled.add_(bias))


class RowPasses(NamedTuple):
    """The two functions above, as they run on one device."""

    quantise: Callable[[Tensor, torch.dtype], QuantisedRows]
    scale: Callable[[Tensor, Tensor, Tensor, Tensor | None, Tensor], None]

    @property
    def fused(self) -> bool:
        """Whether each is a single pass without temporary copies."""
        return torch.compiler.is_compiling() or self is not PLAIN


PLAIN = RowPasses(quantise_rows, scale_product)


def row_passes(device: torch.device) -> RowPasses:
    """Return the passes for a device: compiled on a GPU where that works, whether or not whole blocks are compiled."""
    # A block that is being compiled fuses the plain functions with what is around them.
    if torch.compiler.is_compiling() or device.type != "cuda":
        return PLAIN
    return _compiled_passes(device)


@cache
def _compiled_passes(device: torch.device) -> RowPasses:
    if compiler_problem(device) is not None:
        return PLAIN
    return RowPasses(_compiled(quantise_rows), _compiled(scale_product))


def _compiled(function: Callable[P, T]) -> Callable[P, T]:
    """Compile a pass for any number of rows, whatever the rows are a part of.

    Of a view, the compiler would look at what it is a view of, and compile once more for every way to cut rows out.
    """
    run: Callable[..., T] = compiled(function)

    @wraps(function)
    def apply(*values: P.args, **others: P.kwargs) -> T:
        whole = [value.detach() if isinstance(value, Tensor) else value for value in values]
        return run(*whole, **others)

    return apply
