"""What the code around it has to know about a format. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ovi_studio.adapters.formats.change import Change
from ovi_studio.adapters.formats.group import Group
from ovi_studio.adapters.names import NameMap, Shape

if TYPE_CHECKING:
    from torch import Tensor

ALPHA = "alpha"
"""Role of the number that, divided by the rank, scales a change."""
TUCKER = "mid"
"""Role of a Tucker core, which only convolutions have; a group with one is left out."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Format:
    """One way to write a change of a parameter; a group of tensors can hold several."""

    title: str
    """What people read about a file that has it."""
    suffixes: Mapping[str, str]
    """End of a tensor's name -> its role. No suffix of any format ends with another one."""
    peft: Mapping[str, str] = field(default_factory=dict)
    """PEFT's name of a tensor -> its role; the adapter's name may follow it (`lora_A.default.weight`)."""
    parameter: Callable[[NameMap, str], str | None]
    """The official name of the parameter that is changed, from the layer's name in the file."""
    check: Callable[[Group, Shape], int | None]
    """The rank by which alpha is divided, or None if nothing scales the change.

    Raises `Misfit` if the group does not fit a parameter of that shape, `Incomplete` if a tensor is missing.
    """
    build: Callable[[Mapping[str, Tensor], float], Change]
    """The change, from the tensors by their role and the scale."""
    product: bool = False
    """Whether it is a product of matrices. Only a matrix is changed so, only once by a file, and DoRA may follow."""
    with_dora: str = ""
    """The title of such a product with the magnitudes of a DoRA."""

    @property
    def roles(self) -> frozenset[str]:
        """The tensors by which it is recognised."""
        return frozenset({*self.suffixes.values(), *self.peft.values()} - {TUCKER})
