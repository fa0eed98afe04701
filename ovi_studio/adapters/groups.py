"""The tensors that a file has for one layer, and whether their shapes fit the parameter that they change.

Imports no torch: everything here is known from the header.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ovi_studio.adapters.header import Header, TensorInfo
from ovi_studio.adapters.names import Shape
from ovi_studio.core.errors import JobError

ROLES: Mapping[str, str] = {
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora_mid.weight": "mid",
    ".lora_A": "down",
    ".lora_B": "up",
    ".lora_B.bias": "up_bias",
    ".lora_magnitude_vector": "dora",
    ".dora_scale": "dora",
    ".alpha": "alpha",
    ".diff": "diff",
    ".w_norm": "diff",
    ".diff_b": "diff_b",
    ".b_norm": "diff_b",
    ".diff_m": "diff_m",
    **{f".{name}": name for name in ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")},
    **{f".{name}": name for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")},
    **{f".{name}": "mid" for name in ("lokr_t2", "hada_t1", "hada_t2")},
}
"""End of a tensor's name -> what it is for its layer; `mid` is a Tucker core, which only convolutions have."""

_PEFT_ROLE = re.compile(
    r"\.(lora_A|lora_B|lora_magnitude_vector)(?:\.(?!(?:weight|bias)$)(\w+))?(?:\.(?:weight|(bias)))?$"
)
"""PEFT's own names, with or without the adapter's name in them (`lora_A.default.weight`)."""


@dataclass
class Group:
    """The tensors that a file has for one layer."""

    layer: str
    roles: dict[str, str] = field(default_factory=dict)
    infos: dict[str, TensorInfo] = field(default_factory=dict)

    def shape(self, role: str) -> Shape:
        return self.infos[role].shape


class Misfit(Exception):
    """Why a group cannot be used; the rest of the file can."""


class Incomplete(Exception):
    """A tensor without which the others mean nothing."""


def grouped(header: Header) -> tuple[Sequence[Group], list[str]]:
    """Tensors by layer, and those whose name ends in nothing that is known."""
    groups: dict[tuple[str, str], Group] = {}
    unknown = []
    for key, info in header.tensors.items():
        parsed = _parse_key(key)
        if parsed is None:
            unknown.append(key)
            continue
        layer, adapter, role = parsed
        group = groups.setdefault((layer, adapter), Group(layer))
        if role in group.roles:
            unknown.append(key)
            continue
        group.roles[role] = key
        group.infos[role] = info
    return list(groups.values()), unknown


def _parse_key(key: str) -> tuple[str, str, str] | None:
    """Layer, PEFT's adapter name (mostly empty) and role of a tensor's name."""
    if found := _PEFT_ROLE.search(key):
        role = ROLES.get(f".{found[1]}.bias" if found[3] else f".{found[1]}")
        return None if role is None else (key[: found.start()], found[2] or "", role)
    # A suffix never holds another one as its own end, so the first that fits is the one.
    suffix = next((suffix for suffix in ROLES if key.endswith(suffix)), None)
    return None if suffix is None else (key.removesuffix(suffix), "", ROLES[suffix])


def check_scalars(file_name: str, group: Group, shape: Shape) -> None:
    if "alpha" in group.roles and math.prod(group.shape("alpha")) != 1:
        raise JobError(
            f"{file_name} has an alpha of {short_name(group.layer)} that is no single number; save it again."
        )
    if "dora" in group.roles:
        rows, columns = shape[0], math.prod(shape[1:])
        magnitude = group.shape("dora")
        sizes = [size for size in magnitude if size != 1]
        if sizes not in ([rows], [columns]):
            raise Misfit(f"has magnitudes of shape {magnitude} where the layer has {rows} rows")


def check_pair(group: Group, shape: Shape) -> int:
    down, up = (_required(group, role) for role in ("down", "up"))
    rank = down[0] if down else 0
    _fits(len(down) >= 2 and len(up) >= 2 and rank > 0 and math.prod(up[1:]) == rank, group, shape)
    _fits(up[0] == shape[0] and math.prod(down[1:]) == math.prod(shape[1:]), group, shape)
    return rank


def check_loha(group: Group, shape: Shape) -> int:
    ranks = [_product(group, f"hada_w{index}_a", f"hada_w{index}_b", shape) for index in (1, 2)]
    rows, columns = shape[0], math.prod(shape[1:])
    for index in (1, 2):
        first, second = group.shape(f"hada_w{index}_a"), group.shape(f"hada_w{index}_b")
        _fits(first[0] == rows and second[1] == columns, group, shape)
    return ranks[0]


def check_lokr(group: Group, shape: Shape) -> int | None:
    sizes, rank = [], None
    for index in (1, 2):
        whole, parts = f"lokr_w{index}", (f"lokr_w{index}_a", f"lokr_w{index}_b")
        if whole in group.roles:
            matrix = group.shape(whole)
            _fits(len(matrix) >= 2, group, shape)
            sizes.append((matrix[0], math.prod(matrix[1:])))
        else:
            rank = _product(group, *parts, shape)
            sizes.append((group.shape(parts[0])[0], group.shape(parts[1])[1]))
    rows, columns = (math.prod(size[axis] for size in sizes) for axis in (0, 1))
    _fits(rows == shape[0] and columns == math.prod(shape[1:]), group, shape)
    return rank


def _product(group: Group, first: str, second: str, shape: Shape) -> int:
    """The rank of a product of two matrices."""
    left, right = _required(group, first), _required(group, second)
    _fits(len(left) == len(right) == 2 and left[1] == right[0] > 0, group, shape)
    return right[0]


def check_diff(group: Group, role: str, shape: Shape) -> None:
    own = group.shape(role)
    _fits([size for size in own if size != 1] == [size for size in shape if size != 1], group, shape)


def _required(group: Group, role: str) -> Shape:
    if role not in group.roles:
        raise Incomplete(_ROLE_NAMES.get(role, role))
    return group.shape(role)


_ROLE_NAMES = {"down": "lora_A or lora_down", "up": "lora_B or lora_up"}


def _fits(condition: bool, group: Group, shape: Shape) -> None:
    if not condition:
        shapes = ", ".join(str(list(info.shape)) for role, info in group.infos.items() if role != "alpha")
        raise Misfit(f"has shapes that do not fit the layer: {shapes} for {list(shape)}")


def short_name(name: str) -> str:
    """A name from a file, short enough for a sentence."""
    return name if len(name) <= 120 else name[:117] + "..."
