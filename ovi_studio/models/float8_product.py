"""Products of float8 matrices with a scale for each row, on GPUs with fp8 units.

Which shapes such a product takes is not documented: cuBLAS refuses some (seen on an H200 with CUDA 13.0, for 14,336
inner columns). Those are multiplied in bfloat16, which holds every float8 number exactly.
"""

import logging
from functools import cache

import torch
from torch import Tensor

log = logging.getLogger(__name__)

_REFUSED = "CUBLAS_STATUS_NOT_SUPPORTED"
_ROWS_AT_ONCE = 4096
"""Bounds the float32 result of a long clip's layer."""


def multiply_float8(
    rows: Tensor,
    rows_scale: Tensor,
    columns: Tensor,
    columns_scale: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype,
    out: Tensor | None = None,
) -> Tensor:
    """Return rows @ columns.T with both scales and the bias, in a number format.

    Args:
        rows: float8_e4m3fn (rows, inner), and their scale, float32 (rows, 1).
        columns: float8_e4m3fn (columns, inner), and their scale, float32 (columns, 1).
        bias: (columns,) in `dtype`, or None.
        out: where to write the result.
    """
    try:
        return torch._scaled_mm(
            rows,
            columns.T,
            scale_a=rows_scale,
            scale_b=columns_scale.T,
            bias=bias,
            out_dtype=dtype,
            # Its sums are far more precise than the factors, which have 4 significant bits.
            use_fast_accum=True,
            out=out,
        )
    except RuntimeError as error:
        if _REFUSED not in str(error):
            raise
    _warn(rows.shape[1], columns.shape[0])
    result = rows.new_empty(rows.shape[0], columns.shape[0], dtype=dtype) if out is None else out
    exact = columns.to(torch.bfloat16).T
    parts = zip(*(tensor.split(_ROWS_AT_ONCE) for tensor in (rows, rows_scale, result)), strict=True)
    for some, scale, part in parts:
        product = (some.to(torch.bfloat16) @ exact).float().mul_(scale).mul_(columns_scale.T)
        part.copy_(product if bias is None else product.add_(bias))
    return result


@torch.library.custom_op("ovi_studio::float8_product", mutates_args=())
def float8_product(
    rows: Tensor,
    rows_scale: Tensor,
    columns: Tensor,
    columns_scale: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """`multiply_float8` as one operation of compiled code, which could not try and then do otherwise."""
    return multiply_float8(rows, rows_scale, columns, columns_scale, bias, dtype)


@float8_product.register_fake
def _(
    rows: Tensor,
    rows_scale: Tensor,
    columns: Tensor,
    columns_scale: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    return rows.new_empty(rows.shape[0], columns.shape[0], dtype=dtype)


@cache
def _warn(inner: int, outer: int) -> None:
    log.warning("This GPU does not multiply float8 matrices of %d to %d columns; bfloat16 is used.", inner, outer)
