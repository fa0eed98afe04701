"""`LayerTensors`: the tensors that a file has for one layer. Imports no torch."""

import math
from dataclasses import dataclass, field

from ovi_studio.adapters.header import TensorInfo
from ovi_studio.adapters.names import Shape


def multiplier(role: str) -> str:
    """Return the role of the number by which the tensor of a role is multiplied, as ComfyUI scales fp8 weights."""
    return f"{role} multiplier"


class Misfit(Exception):
    """Why the tensors of a layer cannot be used, though the rest of the file may be."""


class Incomplete(Exception):
    """The name of a missing tensor without which the others are useless."""


@dataclass
class LayerTensors:
    """The tensors that a file has for one layer."""

    layer: str
    """Name of the layer in the file."""
    roles: dict[str, str] = field(default_factory=dict)
    """Role of a tensor -> its name in the file."""
    infos: dict[str, TensorInfo] = field(default_factory=dict)
    """Role of a tensor -> its entry in the header."""

    def shape(self, role: str) -> Shape:
        return self.infos[role].shape

    def required(self, role: str, called: str | None = None) -> Shape:
        """Return the shape of a required tensor; raises `Incomplete` with the name `called` if it is missing."""
        if role not in self.roles:
            raise Incomplete(called or role)
        return self.shape(role)

    def check_number(self, role: str) -> None:
        """Raise `Misfit` if there is a tensor of this role that is not a single number."""
        if role in self.roles and math.prod(self.shape(role)) != 1:
            raise Misfit(f"comes with a {role} of shape {list(self.shape(role))} where a single number is meant")

    def check(self, fits: bool, shape: Shape) -> None:
        """Raise `Misfit` unless the tensors fit a parameter of this shape."""
        if not fits:
            shapes = ", ".join(str(list(info.shape)) for info in self.infos.values() if math.prod(info.shape) != 1)
            raise Misfit(f"has shapes that do not fit the layer: {shapes} for {list(shape)}")

    def check_product(self, first: str, second: str, shape: Shape) -> int:
        """Return the rank of a product of two matrices; raises `Misfit` if they cannot be multiplied."""
        left, right = self.required(first), self.required(second)
        self.check(len(left) == len(right) == 2 and left[1] == right[0] > 0, shape)
        return right[0]


def flat(shape: Shape) -> tuple[int, int]:
    """Return (rows, columns) of a weight; kernel dimensions count as columns."""
    return shape[0], math.prod(shape[1:])
