"""LoRA (arXiv 2106.09685): a product of two small matrices, with the names of kohya, diffusers and PEFT.

rsLoRA (arXiv 2312.03732) differs only in its scale, which is set in a PEFT folder's configuration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ovi_studio.adapters.formats.change import RuntimeChange, to_float32
from ovi_studio.adapters.formats.diff import Difference, check_difference
from ovi_studio.adapters.formats.format import Format
from ovi_studio.adapters.formats.layer_tensors import LayerTensors, Misfit, flat
from ovi_studio.adapters.names import NameMap, Shape

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class LowRank(RuntimeChange):
    """scale * up @ down."""

    down: Tensor
    """(rank, columns), or (rank, channels, *kernel) for a convolution"""
    up: Tensor
    """(rows, rank), with kernel sizes of 1 for a convolution"""
    scale: float

    def delta(self, weight: Tensor | None) -> Tensor:
        up, down = self.factors(weight)
        return (up @ down).mul_(self.scale)

    def add_to(self, total: Tensor, weight: Tensor, strength: float) -> None:
        # The product is added directly to the sum: a third of the memory traffic of computing it first.
        total.flatten(1).addmm_(*self.factors(weight), alpha=strength * self.scale)

    def factors(self, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        return to_float32(self.up, weight).flatten(1), to_float32(self.down, weight).flatten(1)


def _check(layer: LayerTensors, shape: Shape) -> int:
    down = layer.required("down", "lora_A or lora_down")
    up = layer.required("up", "lora_B or lora_up")
    rank = down[0] if down else 0
    inner = _core_rank(layer, rank, shape) if "mid" in layer.roles else rank
    layer.check(len(down) >= 2 and len(up) >= 2 and rank > 0 and math.prod(up[1:]) == inner, shape)
    layer.check((up[0], math.prod(down[1:])) == flat(shape), shape)
    return rank


def _core_rank(layer: LayerTensors, rank: int, shape: Shape) -> int:
    """Return the rank of the second matrix of a Tucker decomposition up @ mid @ down, as LyCORIS writes it."""
    mid = layer.shape("mid")
    layer.check(len(mid) >= 2 and mid[1] == rank, shape)
    if math.prod(mid[2:]) != 1:
        raise Misfit("is a Tucker decomposition of a convolution, which is not supported")
    return mid[0]


def _build(tensors: Mapping[str, Tensor], scale: float) -> LowRank:
    up = tensors["up"]
    if "mid" in tensors:
        up = up.float().flatten(1) @ tensors["mid"].float().flatten(1)
    return LowRank(tensors["down"], up, scale)


LORA = Format(
    title="LoRA",
    with_dora="DoRA",
    suffixes={
        ".lora.down.weight": "down",
        ".lora.up.weight": "up",
        "_lora.down.weight": "down",
        "_lora.up.weight": "up",
        ".lora_linear_layer.down.weight": "down",
        ".lora_linear_layer.up.weight": "up",
    },
    peft={"lora_A": "down", "lora_B": "up", "lora_down": "down", "lora_up": "up", "lora_mid": "mid"},
    parameter=NameMap.weight,
    check=_check,
    build=_build,
    product=True,
)


def _check_bias(layer: LayerTensors, shape: Shape) -> int:
    if "down" not in layer.roles:
        raise Misfit("comes without the tensors that it belongs to")
    if "mid" in layer.roles:
        raise Misfit("is the bias of a Tucker decomposition, which is not supported")
    check_difference(layer, "up_bias", shape)
    return layer.shape("down")[0]


UP_BIAS = Format(
    title="difference",
    suffixes={},
    peft={"lora_B.bias": "up_bias"},
    parameter=NameMap.bias,
    check=_check_bias,
    build=lambda tensors, scale: Difference(tensors["up_bias"], scale),
)
"""PEFT's bias of the second matrix, which is scaled like the pair itself."""
