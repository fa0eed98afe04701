"""DoRA (arXiv 2402.09353): a product of matrices, after which every row of the weight gets a learned length.

It is not a separate format: its magnitudes accompany the tensors of LoRA, LoHa or LoKr.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ovi_studio.adapters.formats.change import Change, to_float32
from ovi_studio.adapters.formats.layer_tensors import LayerTensors, Misfit, flat
from ovi_studio.adapters.names import Shape

if TYPE_CHECKING:
    from torch import Tensor

MAGNITUDE = "dora"
"""Role of the tensor with the learned lengths."""
PEFT: Mapping[str, str] = dict.fromkeys(
    ("lora_magnitude_vector", "dora_scale", "magnitude", "lora_magnitude", "dora_magnitude"), MAGNITUDE
)
_TINY = 2.0**-126
"""The smallest normal number of float32."""


@dataclass(frozen=True, eq=False)
class Decomposed(Change):
    """The changed weight, with every row scaled to a learned length."""

    inner: Change
    magnitude: Tensor
    """(rows,) or (rows, 1); (1, columns) in files of early LyCORIS, which scale columns instead."""

    def delta(self, weight: Tensor | None) -> Tensor:
        if weight is None:
            raise ValueError("the difference of a DoRA change depends on the weight")
        base = weight.float().flatten(1)
        changed = base + self.inner.delta(weight).view_as(base)
        by_rows = self.magnitude.shape[0] == base.shape[0]
        lengths = changed.norm(dim=1 if by_rows else 0, keepdim=True)
        # A row of zeros stays zero instead of becoming NaN.
        factor = to_float32(self.magnitude, weight).view_as(lengths) / lengths.clamp_min(_TINY)
        return changed.mul_(factor).sub_(base)


def check_magnitudes(layer: LayerTensors, shape: Shape) -> None:
    """Raise `Misfit` if the layer has magnitudes that are neither one for each row nor one for each column."""
    if MAGNITUDE not in layer.roles:
        return
    rows, columns = flat(shape)
    magnitude = layer.shape(MAGNITUDE)
    if [size for size in magnitude if size != 1] not in ([rows], [columns]):
        raise Misfit(f"has magnitudes of shape {magnitude} where the layer has {rows} rows")
