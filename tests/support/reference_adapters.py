"""The reference model, and adapter files with known results of the official implementation."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from places import REFERENCE
from safetensors.torch import load_file, save_file

from ovi_studio.checkpoints.load import assign
from ovi_studio.core.adapter_stack import AdapterUse, Strength
from ovi_studio.models.transformer import OviTransformer

FOLDER = REFERENCE / "lora"
FILES = sorted(
    [path for path in FOLDER.glob("*.safetensors") if not path.name.endswith(".expected.safetensors")]
    + [path.parent for path in FOLDER.glob("*/adapter_config.json")]
)
LORA, AUDIO, DORA, DIFFERENCES = (
    f"{name}.safetensors" for name in ("native_ab", "audio_tower", "dora", "native_updown_diff")
)
QUERY = "video_model.blocks.0.self_attn.q"


def build_model(dtype: torch.dtype = torch.float32) -> OviTransformer:
    model = OviTransformer(**json.loads((REFERENCE / "fusion.config.json").read_text()))
    tensors = load_file(REFERENCE / "fusion.weights.safetensors")
    return assign(model, {name: tensor.to(dtype) for name, tensor in tensors.items()})


def reference_file(name: str) -> Path:
    return FOLDER / name


def use(name: str, video: Any = 1, audio: Any = None, sha256: str | None = None) -> AdapterUse:
    audio = video if audio is None else audio
    return AdapterUse(name=name, video=Strength.parse(video), audio=Strength.parse(audio), sha256=sha256)


def write_lora(path: Path, tensors: Mapping[str, Sequence[int]], **metadata: str) -> Path:
    """Write a file with random tensors of these shapes."""
    generator = torch.Generator().manual_seed(len(tensors))
    save_file({name: torch.randn(shape, generator=generator) for name, shape in tensors.items()}, path, metadata)
    return path
