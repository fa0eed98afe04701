"""`Format`: what other code needs to know about a format. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ovi_studio.adapters.formats.change import Change
from ovi_studio.adapters.formats.layer_tensors import LayerTensors
from ovi_studio.adapters.names import NameMap, Shape

if TYPE_CHECKING:
    from torch import Tensor

ALPHA = "alpha"
"""Role of the number that scales a change, divided by the rank."""
SCALAR = "scalar"
"""Role of LyCORIS' number that multiplies a product of matrices."""
TUCKER = "tucker"
"""Role of a Tucker core of LoHa and LoKr, which only convolutions have and which is not supported."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Format:
    """One way to write a change of a parameter; the tensors of a layer may use several."""

    title: str
    """The name of the format, as shown to people."""
    suffixes: Mapping[str, str]
    """End of a tensor's name -> its role. No suffix of any format ends with another one."""
    peft: Mapping[str, str] = field(default_factory=dict)
    """PEFT's name of a tensor -> its role; the adapter's name may follow it (`lora_A.default.weight`)."""
    parameter: Callable[[NameMap, str], str | None]
    """Returns the official name of the changed parameter from the layer's name in the file."""
    check: Callable[[LayerTensors, Shape], int | None]
    """Returns the rank by which alpha is divided, or None if the change is not scaled.

    Raises `Misfit` if the tensors do not fit a parameter of that shape, `Incomplete` if a tensor is missing.
    """
    build: Callable[[Mapping[str, Tensor], float], Change]
    """Builds the change from the tensors by their role and the scale."""
    product: bool = False
    """Whether the change is a product of matrices. It then needs a matrix, occurs once per file, and allows DoRA."""
    with_dora: str = ""
    """The title of a product with DoRA magnitudes."""

    @property
    def roles(self) -> frozenset[str]:
        """Roles of the tensors by which the format is recognised."""
        return frozenset({*self.suffixes.values(), *self.peft.values()} - {TUCKER})
