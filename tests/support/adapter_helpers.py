"""Creates adapter files for the tiny model."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from ovi_studio.adapters.header import read_header

DIM = 32
"""Width of the tiny model of `conftest`."""
QUERIES = tuple(f"{tower}_model.blocks.{block}.self_attn.q" for tower in ("video", "audio") for block in (0, 1))
TEXT = ("video_model.blocks.0.cross_attn.k",)
"""A layer of the text projection, which runs once before the first step."""


def parameter_shapes(checkpoint: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter in a safetensors file."""
    return {name: info.shape for name, info in read_header(checkpoint).tensors.items()}


def write_adapter(
    path: Path,
    layers: Iterable[str] = QUERIES,
    *,
    seed: int = 1,
    sidecar: dict | None = None,
    size: float = 0.5,
    rank: int = 4,
) -> Path:
    """A low-rank adapter with random values, large enough to be seen in a clip."""
    draw = np.random.default_rng(seed)
    tensors = {}
    for layer in layers:
        tensors[f"{layer}.lora_A.weight"] = draw.standard_normal((rank, DIM)).astype(np.float32)
        tensors[f"{layer}.lora_B.weight"] = (size * draw.standard_normal((DIM, rank))).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    if sidecar is not None:
        path.with_suffix(".json").write_text(json.dumps(sidecar))
    return path
