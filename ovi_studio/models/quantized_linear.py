"""Linear layers that keep their weights in 8 bits.

`Int8Linear` multiplies 8-bit integers (W8A8): a scale for each row of the weight, fixed when it is quantised, and one
for each token of the input, taken from its largest value. Where the device cannot multiply integers of this shape, the
weight is first converted back to the input's number format; the result then differs only by the input's rounding.
`Float8Linear` only stores its weight in float8_e4m3fn, without a scale, as the published fp8 file does; it computes in
the input's number format on every device.

All tensors are parameters whose rows belong to output channels, so that FSDP shards them with the layer. Both classes
derive from `nn.Linear`, so that run-time adapters work with them; neither supports gradients.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ovi_studio.capacity.memory import INTEGERS_AT_ONCE

_LARGEST = 127
_SMALLEST = 1e-30
_MIN_ROWS = 17
"""The fewest rows that `torch._int_mm` accepts on a GPU."""
_MULTIPLE = 8
"""`torch._int_mm` accepts only multiples of this width on a GPU."""


class QuantisedRows(NamedTuple):
    """Rows of 8-bit integers and the scale of each row."""

    values: Tensor
    """int8 (rows, columns)"""
    scale: Tensor
    """float32 (rows, 1)"""


def quantise_rows(x: Tensor) -> QuantisedRows:
    """Quantise symmetrically, rounding to nearest; the largest value of every row becomes 127, zero rows stay zero."""
    scale = x.abs().amax(dim=-1, keepdim=True).float().clamp_min(_SMALLEST) / _LARGEST
    # The quotient is float32 whatever x is: it decides between neighbouring integers.
    return QuantisedRows((x / scale).round_().to(torch.int8), scale)


class _StoredLinear(nn.Linear, ABC):
    """A linear layer whose weight is created when it is loaded."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        # Without memory: loading with `assign=True` or `to_empty` allocates it.
        super().__init__(in_features, out_features, bias, device="meta")

    @classmethod
    def of(cls, layer: nn.Linear) -> "_StoredLinear":
        """Convert a plain layer; its tensors stay on their device."""
        converted = cls(layer.in_features, layer.out_features, layer.bias is not None)
        tensors = cls.stored("weight", layer.weight.detach())
        if layer.bias is not None:
            tensors["bias"] = layer.bias.detach()
        converted.load_state_dict(tensors, assign=True)
        return converted.requires_grad_(False)

    @staticmethod
    @abstractmethod
    def stored(name: str, weight: Tensor) -> dict[str, Tensor]:
        """Convert a weight called `name` to the tensors that this layer stores, by name."""


class Int8Linear(_StoredLinear):
    """y = x W^T + b with W in int8."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        integers = torch.empty(out_features, in_features, dtype=torch.int8, device="meta")
        self.weight = nn.Parameter(integers, requires_grad=False)
        self.weight_scale = nn.Parameter(torch.empty(out_features, 1, device="meta"), requires_grad=False)

    @staticmethod
    def stored(name: str, weight: Tensor) -> dict[str, Tensor]:
        # Float32 holds any value of 16 or 8 bits exactly, and not every operation supports 8 bits.
        rows = quantise_rows(weight.float())
        return {name: rows.values, f"{name}_scale": rows.scale}

    def forward(self, input: Tensor) -> Tensor:
        return parallel_linear(input, [self])[0]

    def dequantised(self, dtype: torch.dtype) -> Tensor:
        return (self.weight * self.weight_scale).to(dtype)


class Float8Linear(_StoredLinear):
    """y = x W^T + b with W in float8_e4m3fn."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        stored = torch.empty(out_features, in_features, dtype=torch.float8_e4m3fn, device="meta")
        self.weight = nn.Parameter(stored, requires_grad=False)

    @staticmethod
    def stored(name: str, weight: Tensor) -> dict[str, Tensor]:
        return {name: weight.to(torch.float8_e4m3fn)}

    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(input, self.weight.to(input.dtype), self.bias)


def parallel_linear(x: Tensor, layers: Sequence[Int8Linear]) -> list[Tensor]:
    """Apply several layers to the same input (..., in_features), which is quantised once."""
    flat = x.flatten(0, -2)
    if not all(_multiplies_integers(flat, layer) for layer in layers):
        return [functional.linear(x, layer.dequantised(x.dtype), layer.bias) for layer in layers]
    spans = _spans(flat.shape[0], max(max(layer.in_features, layer.out_features) for layer in layers))
    if len(spans) == 1:
        results = _products(flat, layers)
    else:
        results = [flat.new_empty(flat.shape[0], layer.out_features) for layer in layers]
        for span in spans:
            for result, product in zip(results, _products(flat[span], layers), strict=True):
                result[span] = product
    return [result.unflatten(0, x.shape[:-1]) for result in results]


def _multiplies_integers(flat: Tensor, layer: Int8Linear) -> bool:
    if flat.device.type != "cuda":
        return flat.shape[0] > 0
    fits = layer.in_features % _MULTIPLE == 0 and layer.out_features % _MULTIPLE == 0
    return fits and flat.shape[0] >= _MIN_ROWS


def _spans(count: int, width: int) -> list[slice]:
    """Divide rows into spans of nearly equal length, so that the last one is not too short for the device."""
    parts = max(1, -(-count * width // INTEGERS_AT_ONCE))
    edges = [count * part // parts for part in range(parts + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


def _products(x: Tensor, layers: Sequence[Int8Linear]) -> list[Tensor]:
    rows = quantise_rows(x)
    return [_product(rows, layer).to(x.dtype) for layer in layers]


def _multiplied(rows: Tensor, columns: Tensor) -> Tensor:
    """The product of 8-bit integers (rows, inner) and (inner, columns)."""
    if rows.device.type != "cpu":
        return torch._int_mm(rows, columns)
    # On a CPU without integer instructions PyTorch's integer product is far slower than this one, which is exact up to
    # 1,040 columns of the largest values, and beyond that rounds to 24 bits.
    return rows.float() @ columns.float()


def _product(rows: QuantisedRows, layer: Int8Linear) -> Tensor:
    product = (_multiplied(rows.values, layer.weight.T) * rows.scale).mul_(layer.weight_scale.T)
    return product if layer.bias is None else product.add_(layer.bias)
