"""The passes around an 8-bit product: each is one pass when compiled, and gives the plain form's numbers."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from ovi_studio.models import quantized_rows
from ovi_studio.models.device import compute_device
from ovi_studio.models.quantized_rows import PLAIN, quantise_rows, row_passes, scale_product


def compiled_code(function: Callable[..., Any], *inputs: Any) -> tuple[Any, str]:
    from torch._inductor.utils import run_and_get_code

    torch.compiler.reset()
    result, (code,) = run_and_get_code(torch.compile(function, dynamic=True, fullgraph=True), *inputs)
    return result, code


def kernels(code: str) -> int:
    return len(re.findall(r"^\w*cpp_fused\w* = async_compile", code, re.MULTILINE))


def random(*size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
def test_quantising_compiles_to_one_pass_with_the_same_numbers() -> None:
    x = random(53, 96).bfloat16()
    result, code = compiled_code(quantise_rows, x, torch.int8)
    assert kernels(code) == 1
    assert torch.equal(result.values, quantise_rows(x).values)
    assert torch.equal(result.scale, quantise_rows(x).scale)


@pytest.mark.slow
def test_scaling_and_bias_compile_to_one_pass_with_the_same_numbers() -> None:
    product = (random(53, 80) * 1e4).int()
    inputs = product, random(53, 1).abs(), random(1, 80).abs(), random(80).bfloat16()
    expected, result = torch.empty(2, 53, 80, dtype=torch.bfloat16)
    scale_product(*inputs, expected)
    _, code = compiled_code(scale_product, *inputs, result)
    assert kernels(code) == 1
    assert torch.equal(result, expected)


@pytest.fixture
def _forgotten() -> Any:
    quantized_rows._compiled_passes.cache_clear()
    yield
    quantized_rows._compiled_passes.cache_clear()


@pytest.mark.usefixtures("_forgotten")
def test_a_gpu_takes_compiled_passes_where_compiling_works(
    cuda: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert row_passes(compute_device()) is PLAIN
    cuda(24)
    asked: list[torch.device] = []
    monkeypatch.setattr(quantized_rows, "compiler_problem", lambda device: asked.append(device))
    passes = row_passes(compute_device())
    assert passes.fused
    assert not PLAIN.fused
    assert row_passes(compute_device()) is passes
    assert len(asked) == 1  # chosen once


@pytest.mark.usefixtures("_forgotten")
def test_a_gpu_without_triton_takes_the_plain_passes(cuda: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    cuda(24)
    monkeypatch.setattr(quantized_rows, "compiler_problem", lambda device: "Triton is not installed")
    assert row_passes(compute_device()) is PLAIN


@pytest.mark.usefixtures("_forgotten")
def test_rows_that_are_cut_out_of_anything_are_compiled_once(
    cuda: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda(24)
    counter = CompileCounter()
    compile_quickly = partial(torch.compile, backend=counter)
    monkeypatch.setattr(quantized_rows, "compiler_problem", lambda device: None)
    monkeypatch.setattr(torch, "compile", compile_quickly)
    torch.compiler.reset()
    passes = row_passes(compute_device())
    for size in range(3, 9):
        tokens = random(1, size, 32)
        for rows in (tokens.flatten(0, -2), tokens[0], random(2, 2, size, 32).flatten(0, -2)[size:], random(size, 32)):
            found = passes.quantise(rows, torch.int8)
            assert torch.equal(found.values, quantise_rows(rows).values)
            out, expected = torch.empty(2, 2, len(rows), 16).unbind()
            inputs = (random(len(rows), 16).int(), found.scale, random(1, 16), random(16))
            passes.scale(*inputs, out[1])
            scale_product(*inputs, expected[1])
            assert torch.equal(out[1], expected[1])
    assert counter.frame_count == 2
