import torch
from torch import Tensor, nn

from gpu.check import Figure, Findings, Rig, require
from gpu.device import measured, tf32
from gpu.steps import relative_error
from ovi_studio.core.errors import JobError
from ovi_studio.core.weight_formats import Weights
from ovi_studio.models.precision import check_weights
from ovi_studio.models.quantized_linear import Int8Linear, ScaledFloat8Linear, ScaledLinear
from ovi_studio.models.quantized_rows import row_passes

_SHAPES = ((3072, 3072), (3072, 14336), (14336, 3072))
"""(in, out) sizes of every quantised layer of the model."""
_ROWS = (1, 17, 157, 9_000, 54_900)
"""Rows of text and odd counts, of a clip's sound, and of the largest clip's picture, which is computed in parts."""
_BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 4e-3}
"""Maximum relative errors: float32 holds the integers' sums to 24 bits; bfloat16 rounds the result."""
_FLOAT8_ON_GPU = 1e-2
"""The same for fp8 on a GPU, whatever the dtype: results in bfloat16, of sums that keep about 14 bits."""
_QUANTISING = {torch.int8: 1.5e-2, torch.float8_e4m3fn: 4e-2}
"""Maximum relative errors from the input as it was: of normal numbers, 0.9% in int8 and 2.6% in fp8 are measured."""
_LARGE = 10_000
"""Number of rows from which only bfloat16 is checked."""
_SAMPLE = 64
"""Rows and columns of the result that are compared."""


def check(rig: Rig, found: Findings) -> None:
    """Products of 8-bit layers agree with float64, in every shape of the model and for every number of rows."""
    kinds: list[type[ScaledLinear]] = [Int8Linear, ScaledFloat8Linear]
    if rig.on_gpu:
        try:
            check_weights(Weights.FP8_FAST, rig.device)
        except JobError as error:
            found.leave_out("fp8", str(error))
            kinds.remove(ScaledFloat8Linear)
    for kind in kinds:
        _check_kind(rig, found, kind)


def _check_kind(rig: Rig, found: Findings, kind: type[ScaledLinear]) -> None:
    name = str(kind.number).removeprefix("torch.")
    shapes = tuple((a // 48, b // 48) for a, b in _SHAPES) if rig.small else _SHAPES
    for inner, outer in shapes:
        generator = torch.Generator(rig.device).manual_seed(inner + outer)
        layer = kind.of(_random_linear(rig, inner, outer, generator))
        for rows in (count // 10 if rig.small and count > _LARGE else count for count in _ROWS):
            for dtype, bound in _BOUNDS.items():
                if kind is ScaledFloat8Linear and rig.on_gpu:
                    bound = _FLOAT8_ON_GPU
                if dtype == torch.bfloat16 or rows < _LARGE:
                    error = _error(rig, found, layer.to(rig.device), rows, dtype, generator)
                    _note_largest(found, f"{name}, error in {str(dtype).removeprefix('torch.')}", error)
                    require(
                        error <= bound,
                        f"{rows} rows through {inner}x{outer} in {name}, {dtype}, have an error of {error:.1e}; "
                        f"rounding explains only {bound:.0e}.",
                    )


@torch.no_grad()
def _error(
    rig: Rig, found: Findings, layer: ScaledLinear, rows: int, dtype: torch.dtype, generator: torch.Generator
) -> float:
    """Return the error of sampled values, spread over all rows and columns, including the first and the last."""
    x = torch.randn(rows, layer.in_features, device=rig.device, dtype=dtype, generator=generator)
    typed = _with_bias_in(layer, dtype)
    with tf32(allowed=False):
        if rows == _ROWS[-1]:
            typed(x)  # warm-up
        with measured(rig.device) as work:
            result = typed(x)
    if rows == _ROWS[-1]:
        operations = 2 * rows * layer.in_features * layer.out_features
        shape = f"{str(layer.number).removeprefix('torch.')}, {layer.in_features}x{layer.out_features}"
        found.note(f"{shape}, {rows} rows", operations / work.seconds / 1e12, "TOPS")
        found.note(
            f"{shape}, time of a {str(dtype).removeprefix('torch.')} layer's", work.seconds / _plain(rig, x, layer)
        )
    chosen, columns = _spread(rows, rig.device), _spread(layer.out_features, rig.device)
    sample = result[chosen][:, columns]
    quantised, exact = _exact(typed, x[chosen], columns)
    from_input = relative_error(sample, exact)
    bound = _QUANTISING[layer.number]
    require(from_input <= bound, f"Quantising explains an error of {bound:.0e}, and not {from_input:.1e}.")
    # Small numbers of rows are not quantised, because integer products do not support them: either result is right.
    return min(relative_error(sample, quantised), from_input)


def _plain(rig: Rig, x: Tensor, layer: ScaledLinear) -> float:
    """Return the seconds of a layer of the same shape that is not quantised."""
    plain = nn.Linear(layer.in_features, layer.out_features, device=rig.device, dtype=x.dtype)
    plain(x)
    with measured(rig.device) as work:
        plain(x)
    return work.seconds


def _exact(layer: ScaledLinear, x: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the layer in float64, for the input as the device quantises it and for the original one.

    A value between two integers may be rounded to either: a GPU's division is not that of the host to the last bit.
    """
    weight = layer.weight[columns].double() * layer.weight_scale[columns].double()
    bias = layer.bias[columns].double()
    quantised = row_passes(x.device).quantise(x, layer.number)
    return tuple(
        given @ weight.T + bias for given in (quantised.values.double() * quantised.scale.double(), x.double())
    )


def _with_bias_in(layer: ScaledLinear, dtype: torch.dtype) -> ScaledLinear:
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
