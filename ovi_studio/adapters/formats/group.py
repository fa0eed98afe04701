"""The tensors that a file has for one layer, as every format looks at them. Imports no torch."""

import math
from dataclasses import dataclass, field

from ovi_studio.adapters.header import TensorInfo
from ovi_studio.adapters.names import Shape


class Misfit(Exception):
    """Why a group cannot be used; the rest of the file can."""


class Incomplete(Exception):
    """A tensor without which the others mean nothing."""


@dataclass
class Group:
    """The tensors that a file has for one layer."""

    layer: str
    """As the file writes it."""
    roles: dict[str, str] = field(default_factory=dict)
    """What a tensor is for the layer -> its name in the file."""
    infos: dict[str, TensorInfo] = field(default_factory=dict)

    def shape(self, role: str) -> Shape:
        return self.infos[role].shape

    def required(self, role: str, called: str | None = None) -> Shape:
        """The shape of a tensor that must be there; raises `Incomplete`, which calls it so."""
        if role not in self.roles:
            raise Incomplete(called or role)
        return self.shape(role)

    def check(self, fits: bool, shape: Shape) -> None:
        """Raise `Misfit` unless the tensors fit a parameter of this shape."""
        if not fits:
            shapes = ", ".join(str(list(info.shape)) for role, info in self.infos.items() if role != "alpha")
            raise Misfit(f"has shapes that do not fit the layer: {shapes} for {list(shape)}")

    def check_product(self, first: str, second: str, shape: Shape) -> int:
        """The rank of a product of two matrices, if they can be multiplied."""
        left, right = self.required(first), self.required(second)
        self.check(len(left) == len(right) == 2 and left[1] == right[0] > 0, shape)
        return right[0]


def flat(shape: Shape) -> tuple[int, int]:
    """(rows, columns) of a weight, whose kernel dimensions belong to the columns."""
    return shape[0], math.prod(shape[1:])
