"""Plain differences of weights, norms, biases and modulations, as extraction tools write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ovi_studio.adapters.formats.change import Change, to_float32
from ovi_studio.adapters.formats.format import Format
from ovi_studio.adapters.formats.layer_tensors import LayerTensors
from ovi_studio.adapters.names import NameMap, Shape

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Difference(Change):
    """scale * difference."""

    difference: Tensor
    """The difference, with as many values as the parameter."""
    scale: float = 1.0

    def delta(self, weight: Tensor | None) -> Tensor:
        return to_float32(self.difference, weight) * self.scale


def check_difference(layer: LayerTensors, role: str, shape: Shape) -> None:
    """Raise `Misfit` unless the tensor has the parameter's shape, up to sizes of 1."""
    own = layer.shape(role)
    layer.check([size for size in own if size != 1] == [size for size in shape if size != 1], shape)


def _difference(role: str, suffixes: tuple[str, ...], parameter: Callable[[NameMap, str], str | None]) -> Format:
    def check(layer: LayerTensors, shape: Shape) -> None:
        check_difference(layer, role, shape)

    def build(tensors: Mapping[str, Tensor], scale: float) -> Difference:
        return Difference(tensors[role], scale)

    return Format(
        title="difference",
        suffixes=dict.fromkeys(suffixes, role),
        parameter=parameter,
        check=check,
        build=build,
    )


WEIGHT_DIFFERENCE = _difference("diff", (".diff", ".w_norm"), NameMap.weight)
BIAS_DIFFERENCE = _difference("diff_b", (".diff_b", ".b_norm"), NameMap.bias)
MODULATION_DIFFERENCE = _difference("diff_m", (".diff_m",), NameMap.modulation)
