"""fp8 products: the numbers, and the GPUs that have them."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ovi_studio.checkpoints.number_formats import convert
from ovi_studio.core.errors import JobError
from ovi_studio.core.weight_formats import Weights
from ovi_studio.models import float8_product
from ovi_studio.models.device import compute_device
from ovi_studio.models.precision import check_weights
from ovi_studio.models.quantized_linear import ScaledFloat8Linear
from ovi_studio.models.quantized_rows import quantise_rows

FP8 = torch.float8_e4m3fn


def random(*size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(1))


def relative(result: Tensor, expected: Tensor) -> float:
    return ((result.double() - expected.double()).norm() / expected.double().norm()).item()


def layer(columns: int = 32, rows: int = 48, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(columns, rows, bias).requires_grad_(False)


def test_fp8_rows_are_within_half_a_step_and_zeros_stay_zeros() -> None:
    x = random(5, 40) * torch.tensor([[1e-6], [1.0], [1e4], [0.0], [3.0]])
    rows = quantise_rows(x, FP8)
    values = rows.values.float()
    # Three bits of mantissa, and a fixed step below 2^-6.
    step = (2.0 ** values.abs().clamp_min(2**-6).log2().floor()) / 8
    assert ((values - x / rows.scale).abs() <= step * 0.51).all()
    assert (values[[0, 1, 2, 4]].abs().amax(dim=1) == 448).all()
    assert values[3].abs().max() == 0


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_fp8_product_is_the_product_of_the_rounded_numbers(dtype: torch.dtype, bias: bool) -> None:
    plain = layer(bias=bias).to(dtype)
    x = random(2, 9, 32).to(dtype)
    inputs, weights = quantise_rows(x, FP8), quantise_rows(plain.weight.float(), FP8)
    exact = (inputs.values.double() * inputs.scale) @ (weights.values.double() * weights.scale).T
    expected = exact if plain.bias is None else exact + plain.bias.double()
    result = ScaledFloat8Linear.of(plain)(x)
    assert result.dtype == dtype
    assert relative(result, expected) < (1e-6 if dtype == torch.float32 else 5e-3)
    assert 5e-3 < relative(result, plain(x)) < 0.06


def test_a_shape_that_fp8_units_do_not_multiply_is_dequantised() -> None:
    plain = layer(columns=24)
    x = random(3, 24)
    weights = quantise_rows(plain.weight, FP8)
    expected = nn.functional.linear(x, weights.values.float() * weights.scale, plain.bias)
    torch.testing.assert_close(ScaledFloat8Linear.of(plain)(x), expected)


def test_weights_of_an_fp8_file_keep_their_values_and_others_get_a_scale_for_each_row() -> None:
    weight = layer().weight
    name = "video_model.blocks.0.ffn.0.weight"
    kept = convert(name, weight.to(FP8), Weights.FP8_FAST, torch.bfloat16)
    assert torch.equal(kept[name].float(), weight.to(FP8).float())
    assert torch.equal(kept[f"{name}_scale"], torch.ones(48, 1))
    made = convert(name, weight.bfloat16(), Weights.FP8_FAST, torch.bfloat16)
    assert made[name].dtype == FP8
    # Without scales, small weights have only a part of the mantissa.
    assert relative(made[name].float() * made[f"{name}_scale"], weight) < relative(kept[name].float(), weight)


@pytest.mark.parametrize("gigabytes", [16, 32, 80])
def test_gpus_with_fp8_units_take_fp8_products(cuda: Callable[..., Any], gigabytes: int) -> None:
    cuda(gigabytes)
    check_weights(Weights.FP8_FAST, compute_device())


@pytest.mark.parametrize("gigabytes", [None, 8, 24])
def test_a_device_without_fp8_units_is_refused_with_advice(
    cuda: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, gigabytes: int | None
) -> None:
    here = "the CPU" if gigabytes is None else cuda(gigabytes).cards[0].name
    with pytest.raises(JobError, match=f"need a GPU with fp8 units .* do not run on {re.escape(here)}; use int8"):
        check_weights(Weights.FP8_FAST, compute_device())
    for weights in (Weights.BF16, Weights.INT8, Weights.FP8):
        check_weights(weights, compute_device())


def test_an_amd_gpu_is_refused_whatever_it_says_of_its_capability(
    cuda: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda(80)
    monkeypatch.setattr(torch.version, "hip", "7.1")
    with pytest.raises(JobError, match="need a GPU with fp8 units"):
        check_weights(Weights.FP8_FAST, compute_device())


def refusing(message: str) -> Callable[..., Tensor]:
    def multiply(*_: Any, **__: Any) -> Tensor:
        raise RuntimeError(message)

    return multiply


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_shape_that_the_gpus_library_refuses_is_multiplied_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, compiled: bool
) -> None:
    plain = layer().to(dtype)
    x = random(9, 32).to(dtype)
    converted = ScaledFloat8Linear.of(plain)
    expected = converted(x)
    monkeypatch.setattr(torch, "_scaled_mm", refusing("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling ..."))
    monkeypatch.setattr(float8_product, "_ROWS_AT_ONCE", 4)
    run = torch.compile(converted, backend="aot_eager", fullgraph=True) if compiled else converted
    assert relative(run(x), expected) < 5e-3


def test_another_error_of_the_product_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "_scaled_mm", refusing("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling ..."))
    with pytest.raises(RuntimeError, match="ALLOC_FAILED"):
        ScaledFloat8Linear.of(layer())(random(9, 32))
