"""Linear layers that keep their weights in 8 bits.

`Int8Linear` and `ScaledFloat8Linear` multiply 8-bit numbers: a scale for each row of the weight, fixed when it is
quantised, and one for each token of the input, taken from its largest value. Where the device cannot multiply numbers
of this shape, the weight is first converted back to the input's number format; the result then differs only by the
input's rounding. `Float8Linear` only stores its weight in float8_e4m3fn, without a scale, as the published fp8 file
does; it computes in the input's number format on every device.

All tensors are parameters whose rows belong to output channels, so that FSDP shards them with the layer. All classes
derive from `nn.Linear`, so that run-time adapters work with them; none supports gradients.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ovi_studio.capacity.memory import INTEGERS_AT_ONCE
from ovi_studio.models.float8_product import float8_product, multiply_float8
from ovi_studio.models.quantized_rows import QuantisedRows, quantise_rows, row_passes

_MIN_ROWS = 17
"""The fewest rows that `torch._int_mm` accepts on a GPU."""
_MULTIPLE = 8
"""`torch._int_mm` accepts only multiples of this width on a GPU."""
_FLOAT8_MULTIPLE = 16
"""`torch._scaled_mm` accepts only multiples of this width."""
DEQUANTISED_AT_ONCE = 2**23
"""Weights that are converted to 16 bits at a time: 16 MiB, which a GPU's cache holds until they are multiplied."""


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


class Float8Linear(_StoredLinear):
    """y = x W^T + b with W in float8_e4m3fn."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        self.weight = _unloaded(out_features, in_features, torch.float8_e4m3fn)

    @staticmethod
    def stored(name: str, weight: Tensor) -> dict[str, Tensor]:
        return {name: weight.to(torch.float8_e4m3fn)}

    def forward(self, input: Tensor) -> Tensor:
        parts = -(-self.weight.numel() // DEQUANTISED_AT_ONCE)
        # The compiler does not write products to parts of a tensor.
        if parts == 1 or torch.compiler.is_compiling():
            return functional.linear(input, self.weight.to(input.dtype), self.bias)
        flat, bias = input.flatten(0, -2), cast("Tensor | None", self.bias)
        result = flat.new_empty(flat.shape[0], self.out_features)
        for span in _spans(self.out_features, parts):
            weight = self.weight[span].to(flat.dtype)
            if bias is None:
                torch.mm(flat, weight.T, out=result[:, span])
            else:
                torch.addmm(bias[span], flat, weight.T, out=result[:, span])
        return result.unflatten(0, input.shape[:-1])


class ScaledLinear(_StoredLinear):
    """y = x W^T + b with W in 8-bit numbers and a scale for each row; x is quantised in the same way."""

    number: ClassVar[torch.dtype]
    """The number format of the weight, and of the quantised input."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        self.weight = _unloaded(out_features, in_features, self.number)
        self.weight_scale = _unloaded(out_features, 1, torch.float32)

    def forward(self, input: Tensor) -> Tensor:
        return parallel_linear(input, [self])[0]

    def dequantised(self, dtype: torch.dtype) -> Tensor:
        return (self.weight.float() * self.weight_scale).to(dtype)

    @abstractmethod
    def multiplies(self, flat: Tensor) -> bool:
        """Whether the device multiplies 8-bit numbers of this shape; `flat` is the input (tokens, in_features)."""

    @abstractmethod
    def temporary_width(self, device: torch.device) -> int:
        """Temporary values of 4 bytes for each token of the input."""

    @abstractmethod
    def multiply(self, rows: QuantisedRows, out: Tensor) -> None:
        """Write the layer's result for a quantised input to `out` (tokens, out_features)."""


class Int8Linear(ScaledLinear):
    """A scaled linear layer in int8."""

    number = torch.int8

    @staticmethod
    def stored(name: str, weight: Tensor) -> dict[str, Tensor]:
        return _named(name, stored_rows(weight, torch.int8))

    def multiplies(self, flat: Tensor) -> bool:
        if flat.device.type != "cuda":
            return flat.shape[0] > 0
        fits = self.in_features % _MULTIPLE == 0 and self.out_features % _MULTIPLE == 0
        return fits and flat.shape[0] >= _MIN_ROWS

    def temporary_width(self, device: torch.device) -> int:
        return max(self.in_features, self.out_features)

    def multiply(self, rows: QuantisedRows, out: Tensor) -> None:
        product = _multiplied(rows.values, self.weight.T)
        row_passes(out.device).scale(product, rows.scale, self.weight_scale.T, self.bias, out)


class ScaledFloat8Linear(ScaledLinear):
    """A scaled linear layer in float8_e4m3fn, for GPUs with fp8 units; a CPU computes the same numbers, slowly.

    Weights that the file has in float8_e4m3fn keep their values; all others get a scale for each row.
    """

    number = torch.float8_e4m3fn

    @staticmethod
    def stored(name: str, weight: Tensor) -> dict[str, Tensor]:
        return _named(name, stored_rows(weight, torch.float8_e4m3fn))

    def multiplies(self, flat: Tensor) -> bool:
        fits = self.in_features % _FLOAT8_MULTIPLE == 0 and self.out_features % _FLOAT8_MULTIPLE == 0
        return fits and flat.shape[0] > 0

    def temporary_width(self, device: torch.device) -> int:
        return 0 if row_passes(device).fused else self.in_features

    def multiply(self, rows: QuantisedRows, out: Tensor) -> None:
        # With a scale for each row, GPUs give results in bfloat16 alone.
        dtype = torch.bfloat16 if out.device.type == "cuda" else out.dtype
        bias = None if self.bias is None else self.bias.to(dtype)
        factors = (rows.values, rows.scale, self.weight, self.weight_scale, bias)
        # The compiler does not know the product that writes to a given tensor.
        if out.dtype == dtype and not torch.compiler.is_compiling():
            multiply_float8(*factors, dtype, out)
        else:
            out.copy_(float8_product(*factors, dtype))


def stored_rows(weight: Tensor, dtype: torch.dtype) -> QuantisedRows:
    """Convert a weight, as a file stores it, to 8-bit rows; one that has this format already keeps its values."""
    if weight.dtype == dtype:
        return QuantisedRows(weight, torch.ones(weight.shape[0], 1, device=weight.device))
    # Float32 holds any value of 16 or 8 bits exactly, and not every operation supports 8 bits.
    return quantise_rows(weight.float(), dtype)


def parallel_linear(x: Tensor, layers: Sequence[ScaledLinear]) -> list[Tensor]:
    """Apply several layers of one class to the same input (..., in_features), which is quantised once."""
    flat = x.flatten(0, -2)
    if not all(layer.multiplies(flat) for layer in layers):
        return [functional.linear(x, layer.dequantised(x.dtype), layer.bias) for layer in layers]
    results = [flat.new_empty(flat.shape[0], layer.out_features) for layer in layers]
    width = max(layer.temporary_width(flat.device) for layer in layers)
    for span in _spans(flat.shape[0], max(1, -(-flat.shape[0] * width // INTEGERS_AT_ONCE))):
        rows = row_passes(flat.device).quantise(flat[span], layers[0].number)
        for result, layer in zip(results, layers, strict=True):
            layer.multiply(rows, result[span])
    return [result.unflatten(0, x.shape[:-1]) for result in results]


def _spans(count: int, parts: int) -> list[slice]:
    """Divide a range into spans of nearly equal length, so that the last one is not too short for the device."""
    edges = [count * part // parts for part in range(parts + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


def _multiplied(rows: Tensor, columns: Tensor) -> Tensor:
    """The product of 8-bit integers (rows, inner) and (inner, columns)."""
    if rows.device.type != "cpu":
        return torch._int_mm(rows, columns)
    # On a CPU without integer instructions PyTorch's integer product is far slower than this one, which is exact up to
    # 1,040 columns of the largest values, and beyond that rounds to 24 bits.
    return rows.float() @ columns.float()


def _unloaded(rows: int, columns: int, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(torch.empty(rows, columns, dtype=dtype, device="meta"), requires_grad=False)


def _named(name: str, rows: QuantisedRows) -> dict[str, Tensor]:
    return {name: rows.values, f"{name}_scale": rows.scale}
