import time
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gpu.check import Findings, Rig, require
from gpu.device import synchronise, tf32
from gpu.random_models import CPU, fusion_dimensions, random_transformer
from gpu.steps import relative_error
from ovi_studio.adapters.manager import AdapterManager
from ovi_studio.checkpoints.number_formats import converted_layers
from ovi_studio.core.adapter_stack import AdapterUse
from ovi_studio.models.transformer import OviTransformer

_RANK = 32
_BOUND = 5e-4
"""Maximum relative error: a few sums half way between two bfloat16 numbers are rounded differently."""


def check(rig: Rig, found: Findings) -> None:
    """Fusing an adapter on the GPU equals fusing it on the CPU, and unfusing restores the exact weights."""
    fusion = fusion_dimensions(rig, layers=1)
    model = random_transformer(rig, fusion, rig.device)
    on_host = random_transformer(rig, fusion, CPU)
    path = _write_adapter(model, rig.folder / "random.safetensors")
    before = {name: parameter.to(CPU, copy=True) for name, parameter in model.named_parameters()}
    with tf32(allowed=False):
        manager = AdapterManager(model, lambda _: path)
        found.note("fused on the device", _fuse(manager, rig), "s")
        found.note("fused on the host", _fuse(AdapterManager(on_host, lambda _: path), rig), "s")
    error, changed = _largest_error(model, on_host, before)
    found.note("difference of fused weights", error)
    require(changed == len(converted_layers(model)), f"{changed} weights changed, not one for each layer.")
    require(error <= _BOUND, f"Fused weights differ by {error:.1e} between GPU and CPU; the bound is {_BOUND:.0e}.")
    manager.prepare((), 1)
    wrong = [name for name, tensor in model.named_parameters() if not torch.equal(tensor.cpu(), before[name])]
    require(not wrong, f"Unfusing did not restore {len(wrong)} weights, such as {wrong[:1]}.")


def _fuse(manager: AdapterManager, rig: Rig) -> float:
    """Fuse the adapter; returns the seconds it took."""
    start = time.perf_counter()
    manager.prepare((AdapterUse(name="random.safetensors"),), 1)
    synchronise(rig.device)
    return time.perf_counter() - start


def _largest_error(model: nn.Module, other: nn.Module, before: Mapping[str, Tensor]) -> tuple[float, int]:
    """Return the largest error between two models' parameters, and how many of the first model's have changed."""
    largest, changed = 0.0, 0
    for (name, one), expected in zip(model.named_parameters(), other.parameters(), strict=True):
        changed += not torch.equal(one.cpu(), before[name])
        largest = max(largest, relative_error(one, expected))
    return largest, changed


def _write_adapter(model: OviTransformer, path: Path) -> Path:
    """Write a LoRA of every layer in the blocks, whose update is about a tenth of the weight."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name in converted_layers(model):
        layer = model.get_submodule(name)
        size = 0.1**0.5 * (layer.in_features * _RANK) ** -0.25
        tensors[f"{name}.lora_A.weight"] = torch.randn(_RANK, layer.in_features, generator=generator) * size
        tensors[f"{name}.lora_B.weight"] = torch.randn(layer.out_features, _RANK, generator=generator) * size
    save_file(tensors, path)
    return path
