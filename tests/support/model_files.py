"""Safetensors files that hold only a header and zeros, with the landmarks of each part of a tiny variant."""

import dataclasses
import json
from collections.abc import Mapping
from math import prod
from pathlib import Path

from tiny_model import DIMENSIONS

from ovi_studio.core.variants import Variant, published_variants

VARIANT: Variant = dataclasses.replace(published_variants()["720x720_5s"], dimensions=DIMENSIONS)
BYTES = {"F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "U8": 1, "I8": 1}
Shapes = Mapping[str, tuple[int, ...]]

VIDEO_VAE: Shapes = {
    "conv1.weight": (16, 16, 1, 1, 1),
    "conv2.weight": (8, 8, 1, 1, 1),
    "encoder.conv1.weight": (4, 12, 3, 3, 3),
    "decoder.conv1.weight": (16, 8, 3, 3, 3),
}
VIDEO_VAE_OF_WAN_2_1: Shapes = {**VIDEO_VAE, "decoder.conv1.weight": (16, 4, 3, 3, 3)}
DIFFUSERS_VIDEO_VAE: Shapes = {
    "quant_conv.weight": (16, 16, 1, 1, 1),
    "post_quant_conv.weight": (8, 8, 1, 1, 1),
    "encoder.conv_in.weight": (4, 12, 3, 3, 3),
    "decoder.conv_in.weight": (16, 8, 3, 3, 3),
}
TEXT_ENCODER: Shapes = {
    "token_embedding.weight": (300, 16),
    "blocks.0.attn.q.weight": (16, 16),
    "blocks.1.ffn.fc2.weight": (16, 32),
    "blocks.1.pos_embedding.embedding.weight": (32, 2),
}
COMFY_TEXT_ENCODER: Shapes = {
    "shared.weight": (300, 16),
    "encoder.block.0.layer.0.SelfAttention.q.weight": (16, 16),
    "encoder.block.1.layer.1.DenseReluDense.wo.weight": (16, 32),
    "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight": (32, 2),
}
T5: Shapes = {name: shape for name, shape in COMFY_TEXT_ENCODER.items() if "block.1.layer.0" not in name}
AUDIO_VAE: Shapes = {
    "encoder.conv_in.weight": (8, 80, 3),
    "decoder.conv_in.weight": (32, 20, 3),
    "decoder.mid.attn_1.qkv.weight": (96, 32, 1),
    "data_mean": (1, 80, 1),
}
AUDIO_VAE_OF_44_KHZ: Shapes = {**AUDIO_VAE, "decoder.conv_in.weight": (32, 40, 3)}
VOCODER: Shapes = {"conv_pre.bias": (64,), "ups.0.0.bias": (32,), "ups.5.0.bias": (1,)}


def _tower(patch: str, shape: tuple[int, ...]) -> Shapes:
    blocks = {f"blocks.{depth}.cross_attn.k_fusion.weight": (32, 32) for depth in (0, 1)}
    return {patch: shape, "blocks.1.ffn.0.weight": (64, 32), **blocks}


VIDEO_TOWER = _tower("patch_embedding.weight", (32, 8, 1, 2, 2))
"""Under the names that files for ComfyUI have."""
AUDIO_TOWER = {f"audio_model.{name}": shape for name, shape in _tower("patch_embedding.0.weight", (32, 20, 7)).items()}
TRANSFORMER: Shapes = {**{f"video_model.{name}": shape for name, shape in VIDEO_TOWER.items()}, **AUDIO_TOWER}


def write_model(path: Path, shapes: Shapes, dtype: str = "BF16", **others: tuple[int, ...]) -> Path:
    """Write a file of zeros; `others` are tensors of bytes."""
    header, end = {}, 0
    for name, shape, kind in [
        *((name, shape, dtype) for name, shape in shapes.items()),
        *((name, shape, "U8") for name, shape in others.items()),
    ]:
        start, end = end, end + BYTES[kind] * prod(shape)
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
    encoded = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + bytes(end))
    return path
