"""Number formats of adapter files, and what their numbers show: each format is read or left out by name."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapter_helpers import parameter_shapes
from reference_adapters import QUERY, REFERENCE
from safetensors.torch import save_file
from torch import Tensor

from ovi_studio.adapters import contents as contents_module
from ovi_studio.adapters.contents import Contents, read_contents
from ovi_studio.adapters.header import ITEM_BITS
from ovi_studio.adapters.names import NameMap
from ovi_studio.adapters.read import read_adapter
from ovi_studio.checkpoints.hashes import file_sha256
from ovi_studio.core.errors import JobError

LAYER = "blocks.0.self_attn.q"
FLOATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


@pytest.fixture(scope="module")
def names() -> NameMap:
    return NameMap(parameter_shapes(REFERENCE / "fusion.weights.safetensors"))


def pair(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(2)
    shapes = {"lora_A": (4, 64), "lora_B": (64, 4)}
    return {f"{LAYER}.{half}.weight": torch.randn(shape, generator=draw).to(dtype) for half, shape in shapes.items()}


def write_raw(path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]]) -> Path:
    """Write a file with tensors in any number format, some of which no library writes."""
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def raw_pair(dtype: str = "F32") -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    size = ITEM_BITS[dtype] * 256 // 8
    shapes = {"lora_A": (4, 64), "lora_B": (64, 4)}
    return {f"{LAYER}.{half}.weight": (dtype, shape, b"\x01" * size) for half, shape in shapes.items()}


@pytest.mark.parametrize("dtype", ITEM_BITS)
def test_a_side_tensor_of_any_format_is_left_out_by_name(tmp_path: Path, names: NameMap, dtype: str) -> None:
    side = (dtype, (8,), b"\xff" * ITEM_BITS[dtype])
    adapter = read_adapter(write_raw(tmp_path / "a.safetensors", raw_pair() | {"__extra": side}), names)
    assert set(adapter.changes) == {f"{QUERY}.weight"}
    assert [item.tensor for item in adapter.report.unused] == ["__extra"]
    assert "1 of the file's tensors is not used: __extra" in (adapter.report.warning() or "")


@pytest.mark.parametrize("dtype", sorted(ITEM_BITS.keys() - FLOATS.keys()))
def test_a_layer_in_a_format_without_fractions_is_refused_by_name(tmp_path: Path, names: NameMap, dtype: str) -> None:
    other = {name.replace("blocks.0", "blocks.1"): tensor for name, tensor in raw_pair().items()}
    adapter = read_adapter(write_raw(tmp_path / "a.safetensors", raw_pair(dtype) | other), names)
    assert set(adapter.changes) == {"video_model.blocks.1.self_attn.q.weight"}
    assert f"number format {dtype}, which cannot be used" in (adapter.report.warning() or "")


@pytest.mark.parametrize("dtype", FLOATS.values(), ids=FLOATS)
def test_every_floating_point_format_is_read(tmp_path: Path, names: NameMap, dtype: torch.dtype) -> None:
    tensors = pair(dtype)
    save_file(tensors, tmp_path / "a.safetensors")
    (change,) = read_adapter(tmp_path / "a.safetensors", names).changes[f"{QUERY}.weight"]
    down, up = (tensor.float() for tensor in tensors.values())
    torch.testing.assert_close(change.delta(None), up @ down)


def test_a_format_that_safetensors_does_not_have_is_refused(tmp_path: Path, names: NameMap) -> None:
    path = write_raw(tmp_path / "a.safetensors", {"x.diff": ("F99", (1,), b"1234")})
    with pytest.raises(JobError, match="unreadable header"):
        read_adapter(path, names)


# Contents


@pytest.mark.parametrize("dtype", FLOATS.values(), ids=FLOATS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_found_in_every_format(
    tmp_path: Path, names: NameMap, dtype: torch.dtype, value: float
) -> None:
    tensors = pair(dtype)
    # One of the fp8 formats has no infinity.
    tensors[f"{LAYER}.lora_B.weight"][7, 1] = torch.nan if dtype is torch.float8_e4m3fn else value
    path = tmp_path / "a.safetensors"
    save_file(tensors, path)
    assert read_contents(path).non_finite == {f"{LAYER}.lora_B.weight"}
    with pytest.raises(JobError, match=r"NaN or infinite values, in blocks.0.self_attn.q.lora_B"):
        read_adapter(path, names)


@pytest.mark.parametrize("dtype", FLOATS.values(), ids=FLOATS)
def test_the_largest_finite_values_are_finite(tmp_path: Path, dtype: torch.dtype) -> None:
    limits = torch.finfo(dtype)
    extremes = torch.tensor([limits.max, limits.min, limits.tiny], dtype=torch.float64).to(dtype)
    path = tmp_path / "a.safetensors"
    save_file({"x": extremes, "zero": (-torch.zeros(3)).to(dtype)}, path)
    contents = read_contents(path)
    assert (contents.non_finite, contents.zeros) == (set(), {"zero"})


def test_a_tensor_that_is_not_used_may_be_damaged(tmp_path: Path, names: NameMap) -> None:
    save_file(pair() | {"__extra": torch.tensor([torch.nan])}, tmp_path / "a.safetensors")
    assert read_adapter(tmp_path / "a.safetensors", names).changes


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_every_small_float_has_its_value(tmp_path: Path, dtype: torch.dtype) -> None:
    values = torch.arange(256, dtype=torch.uint8).view(dtype)
    path = tmp_path / "a.safetensors"
    save_file({str(bits): values[bits].clone() for bits in range(256)}, path)
    numbers = read_contents(path).numbers or {}
    expected = {str(bits): value for bits, value in enumerate(values.float().tolist()) if np.isfinite(value)}
    assert numbers == expected


def test_a_file_is_read_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVI_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "a.safetensors"
    save_file(pair(), path)
    first = read_contents(path)
    with monkeypatch.context() as patch:
        patch.setattr(contents_module, "examine", lambda *_: pytest.fail("read again"))
        assert read_contents(path) == first
    save_file(pair() | {f"{LAYER}.alpha": torch.tensor(torch.nan)}, path)
    assert read_contents(path).non_finite == {f"{LAYER}.alpha"}


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVI_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "a.safetensors"
    save_file(pair(), path)
    good, original = read_contents(path), contents_module.examine
    (tmp_path / "cache" / "adapters" / f"{file_sha256(path)}.json").unlink()

    def replaced(*arguments: Any) -> Contents:
        found = original(*arguments)
        save_file(pair() | {f"{LAYER}.alpha": torch.tensor(torch.nan)}, path)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(contents_module, "examine", replaced)
        with pytest.raises(OSError, match="changed while it was read"):
            read_contents(path)
    assert read_contents(path) != good


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"zeros": 1, "non_finite": [], "numbers": {}}'])
def test_a_damaged_cache_only_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("OVI_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "a.safetensors"
    save_file(pair(), path)
    first = read_contents(path)
    (cached,) = (tmp_path / "cache" / "adapters").iterdir()
    cached.write_text(text)
    assert read_contents(path) == first
