"""The names and shapes of a transformer's parameters, from its dimensions alone: no weights, no torch.

The page and the command line match adapters with them before anything is loaded.
`tests/unit/adapters/test_model_names.py` compares them with the model itself and with the published key list.
"""

import json
import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from ovi_studio.adapters.names import NameMap, Shape
from ovi_studio.core.towers import TOWERS, Tower
from ovi_studio.core.variants import Variant

_AUDIO_KERNEL = 7
"""Width of the first convolutions of the audio tower."""


def model_names(variant: Variant) -> NameMap:
    """Return the layers that adapters of this variant can change."""
    return _name_map(json.dumps(variant.dimensions["fusion"], sort_keys=True))


@lru_cache(maxsize=8)
def _name_map(dimensions: str) -> NameMap:
    return NameMap(transformer_shapes(json.loads(dimensions)))


def transformer_shapes(dimensions: Mapping[str, Any]) -> dict[str, Shape]:
    """Return every parameter's shape by official name; `dimensions` are the official configurations of both towers."""
    return {
        f"{tower}_model.{name}": shape for tower in TOWERS for name, shape in _tower_shapes(tower, dimensions[tower])
    }


def _tower_shapes(tower: Tower, sizes: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
    dim = sizes["dim"]
    yield from _video_patches(sizes) if tower == "video" else _audio_patches(sizes)
    yield from _linear("text_embedding.0", dim, sizes.get("text_dim", 4096))
    yield from _linear("text_embedding.2", dim, dim)
    yield from _linear("time_embedding.0", dim, sizes["freq_dim"])
    yield from _linear("time_embedding.2", dim, dim)
    yield from _linear("time_projection.1", 6 * dim, dim)
    for block in range(sizes["num_layers"]):
        yield from _block_shapes(f"blocks.{block}", dim, sizes["ffn_dim"])
    yield "head.modulation", (1, 2, dim)
    yield from _linear("head.head", math.prod(sizes["patch_size"]) * sizes["out_dim"], dim)


def _block_shapes(block: str, dim: int, ffn_dim: int) -> Iterator[tuple[str, Shape]]:
    for attention, layers in (("self_attn", "qkvo"), ("cross_attn", [*"qkvo", "k_fusion", "v_fusion"])):
        for layer in layers:
            yield from _linear(f"{block}.{attention}.{layer}", dim, dim)
        for norm in ("norm_q", "norm_k"):
            yield f"{block}.{attention}.{norm}.weight", (dim,)
    yield f"{block}.cross_attn.norm_k_fusion.weight", (dim,)
    for norm in ("norm3", "cross_attn.pre_attn_norm_fusion"):
        yield f"{block}.{norm}.weight", (dim,)
        yield f"{block}.{norm}.bias", (dim,)
    yield from _linear(f"{block}.ffn.0", ffn_dim, dim)
    yield from _linear(f"{block}.ffn.2", dim, ffn_dim)
    yield f"{block}.modulation.modulation", (1, 6, dim)


def _video_patches(sizes: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
    yield "patch_embedding.weight", (sizes["dim"], sizes["in_dim"], *sizes["patch_size"])
    yield "patch_embedding.bias", (sizes["dim"],)


def _audio_patches(sizes: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
    dim = sizes["dim"]
    # Two thirds of four times the width, rounded up to a multiple of 256.
    hidden = 256 * math.ceil(2 * 4 * dim // 3 / 256)
    yield "patch_embedding.0.weight", (dim, sizes["in_dim"], _AUDIO_KERNEL)
    yield "patch_embedding.0.bias", (dim,)
    for layer, rows, columns in (("w1", hidden, dim), ("w2", dim, hidden), ("w3", hidden, dim)):
        yield f"patch_embedding.2.{layer}.weight", (rows, columns, _AUDIO_KERNEL)


def _linear(layer: str, rows: int, columns: int) -> Iterator[tuple[str, Shape]]:
    yield f"{layer}.weight", (rows, columns)
    yield f"{layer}.bias", (rows,)
