import torch
from torch import Tensor, nn

from gpu.check import Figure, Findings, Rig, require
from gpu.device import measured, tf32
from gpu.steps import relative_error
from ovi_studio.models.quantized_linear import Int8Linear, quantise_rows

_SHAPES = ((3072, 3072), (3072, 14336), (14336, 3072))
"""(in, out) of every quantised layer of the model."""
_ROWS = (1, 17, 157, 9_000, 54_900)
"""Text and odd counts, the sound of a clip, and the pictures of the largest one, which goes in parts."""
_BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 4e-3}
"""Relative: float32 carries the integers' sums to 24 bits; bfloat16 rounds the result."""
_LARGE = 10_000
"""Rows that come in bfloat16 only."""
_SAMPLE = 64


def check(rig: Rig, found: Findings) -> None:
    """Products of 8-bit layers agree with float64, in every shape of the model and for every number of rows."""
    shapes = tuple((a // 48, b // 48) for a, b in _SHAPES) if rig.small else _SHAPES
    for inner, outer in shapes:
        generator = torch.Generator(rig.device).manual_seed(inner + outer)
        layer = Int8Linear.of(_random_linear(rig, inner, outer, generator))
        for rows in (count // 10 if rig.small and count > _LARGE else count for count in _ROWS):
            for dtype, bound in _BOUNDS.items():
                if dtype == torch.bfloat16 or rows < _LARGE:
                    error = _error(rig, found, layer.to(rig.device), rows, dtype, generator)
                    _note_largest(found, f"error, {str(dtype).removeprefix('torch.')}", error)
                    require(
                        error <= bound,
                        f"{rows} rows through {inner}x{outer} in {dtype} have an error of {error:.1e}; {bound:.0e} is "
                        f"what rounding explains.",
                    )


@torch.no_grad()
def _error(
    rig: Rig, found: Findings, layer: Int8Linear, rows: int, dtype: torch.dtype, generator: torch.Generator
) -> float:
    """Of some values of the result, spread over all rows and columns, the first and the last ones among them."""
    x = torch.randn(rows, layer.in_features, device=rig.device, dtype=dtype, generator=generator)
    typed = _with_bias_in(layer, dtype)
    with tf32(allowed=False):
        if rows == _ROWS[-1]:
            typed(x)  # what a first call does does not count
        with measured(rig.device) as work:
            result = typed(x)
    if rows == _ROWS[-1]:
        operations = 2 * rows * layer.in_features * layer.out_features
        found.note(f"{layer.in_features}x{layer.out_features}, {rows} rows", operations / work.seconds / 1e12, "TOPS")
    chosen, columns = _spread(rows, rig.device), _spread(layer.out_features, rig.device)
    sample = result[chosen][:, columns]
    # Few rows are not quantised, because integers cannot be multiplied for them: either is right.
    return min(relative_error(sample, exact) for exact in _exact(typed, x[chosen], columns))


def _exact(layer: Int8Linear, x: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """The layer in float64 for an input that is quantised and for one that is not."""
    weight = layer.weight[columns].double() * layer.weight_scale[columns].double()
    bias = layer.bias[columns].double()
    quantised = quantise_rows(x)
    return tuple(
        given @ weight.T + bias for given in (quantised.values.double() * quantised.scale.double(), x.double())
    )


def _with_bias_in(layer: Int8Linear, dtype: torch.dtype) -> Int8Linear:
    layer.bias.data = layer.bias.data.to(dtype)
    return layer


def _random_linear(rig: Rig, inner: int, outer: int, generator: torch.Generator) -> nn.Linear:
    layer = nn.Linear(inner, outer, device=rig.device).requires_grad_(False)
    layer.weight.normal_(std=inner**-0.5, generator=generator)
    layer.bias.normal_(generator=generator)
    return layer


def _spread(count: int, device: torch.device) -> Tensor:
    return torch.linspace(0, count - 1, min(count, _SAMPLE), device=device).round().long()


def _note_largest(found: Findings, name: str, error: float) -> None:
    found.note(name, max(error, found.figures.get(name, Figure(0.0, "")).value))
