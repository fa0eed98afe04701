"""Small random upscalers in files, as trainers write them."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor


def compact_tensors(
    scale: int = 2, *, features: int = 8, layers: int = 2, channels: tuple[int, int] = (3, 3)
) -> dict[str, Tensor]:
    """The tensors of a Real-ESRGAN Compact model; it sees `layers + 2` pixels far."""
    draw = torch.Generator().manual_seed(scale)
    read, written = channels

    def conv(inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
        return 0.2 * torch.randn(outputs, inputs, 3, 3, generator=draw), 0.02 * torch.randn(outputs, generator=draw)

    found = {}
    sizes = [(read, features), *[(features, features)] * layers, (features, written * scale**2)]
    for index, (inputs, outputs) in enumerate(sizes):
        found[f"body.{2 * index}.weight"], found[f"body.{2 * index}.bias"] = conv(inputs, outputs)
        if index < len(sizes) - 1:
            found[f"body.{2 * index + 1}.weight"] = torch.full((outputs,), 0.2)
    return found


def write_upscaler(path: Path, scale: int = 2, **options: object) -> Path:
    """A `.safetensors` file, or a `.pth` file with the tensors below the key of a trainer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = compact_tensors(scale, **options)
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({"params_ema": tensors}, path)
    return path
