"""Which parameters of the model the tensors of an adapter file mean, from its header alone. Imports no torch.

Tensors are grouped by the layer that they name, each group is checked against the parameter's shape, and what does not
belong to this model is left out with a reason. Nothing matched, half a pair, or an adapter of another model size is a
`JobError`; something matched and something left out is a report that the page shows.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ovi_studio.adapters.groups import (
    ROLES,
    Group,
    Incomplete,
    Misfit,
    check_diff,
    check_loha,
    check_lokr,
    check_pair,
    check_scalars,
    grouped,
    short_name,
)
from ovi_studio.adapters.header import Header
from ovi_studio.adapters.names import NameMap, Shape, is_linear, plain_name, tower_of, why_unknown
from ovi_studio.core.errors import JobError
from ovi_studio.core.towers import TOWERS, Tower

_WIDTHS: Mapping[int, str] = {5120: "Wan 14B", 13824: "Wan 14B", 1536: "Wan 1.3B", 8960: "Wan 1.3B"}
"""Widths of the models that people's other adapters are for."""

_PAIR = frozenset({"down", "up"})
_HADA = frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"})
_LOKR = frozenset(role for role in ROLES.values() if role.startswith("lokr"))


class LeftOut(NamedTuple):
    """A tensor of the file that changes nothing."""

    tensor: str
    reason: str


@dataclass(frozen=True)
class TowerMatch:
    """What a file changes in one tower."""

    layers: int
    """Linear layers that it changes."""
    of: int
    """Linear layers that the tower has."""
    others: int
    """Biases, norms, modulations and convolutions that it changes."""


@dataclass(frozen=True)
class MatchReport:
    """How well a file fits the model."""

    towers: Mapping[Tower, TowerMatch]
    matched: int
    """Layers of the file that were found in the model."""
    layers: int
    """Layers that the file names."""
    left_out: tuple[LeftOut, ...]
    kinds: tuple[str, ...]
    """What its changes are, such as LoRA, DoRA, difference."""
    ranks: tuple[int, ...]

    @property
    def complete(self) -> bool:
        return not self.left_out

    def summary(self) -> str:
        """One line for a card: `312 of 312 layers matched (video 300 of 366, audio 0 of 366)`."""
        towers = ", ".join(f"{tower} {match.layers} of {match.of}" for tower, match in self.towers.items())
        return f"{self.matched} of {self.layers} layers matched ({towers})"

    def warning(self) -> str | None:
        """A sentence if anything was left out."""
        if self.complete:
            return None
        reasons = {item.reason: item.tensor for item in reversed(self.left_out)}
        examples = "; ".join(f"{short_name(tensor)} {reason}" for reason, tensor in list(reasons.items())[:4])
        return f"{len(self.left_out)} of the file's tensors are left out: {examples}."


@dataclass(frozen=True)
class PlannedChange:
    """A change of one parameter and the tensors that it is made of."""

    parameter: str
    kind: str
    """`lora`, `loha`, `lokr` or `diff`."""
    layer: str
    """The layer's name in the file, without prefixes."""
    tensors: Mapping[str, str]
    """Role -> name in the file."""
    rank: int | None = None


@dataclass(frozen=True)
class Match:
    """What `read` has to load, and what to tell people."""

    changes: tuple[PlannedChange, ...]
    report: MatchReport


_Check = Callable[[Group, Shape], int | None]
"""Compares a group's shapes with the parameter's; returns the rank."""


def match_header(file_name: str, header: Header, names: NameMap) -> Match:
    """Find the parameter behind every tensor of a file.

    Raises:
        JobError: nothing matches, a pair lacks one half, or the file is for a model of another width.
    """
    groups, unknown = grouped(header)
    changes: list[PlannedChange] = []
    left_out = [LeftOut(key, "is no kind of change that is known") for key in unknown]
    matched = 0
    for group in groups:
        try:
            planned = list(_plan(file_name, group, names))
        except Misfit as misfit:
            left_out += [LeftOut(key, str(misfit)) for key in group.roles.values()]
            continue
        matched += 1
        changes += planned
    if not changes:
        raise JobError(_nothing_matched(file_name, len(header.tensors), left_out))
    _refuse_doubles(file_name, changes)
    report = MatchReport(
        towers={tower: _tower_match(tower, changes, names) for tower in TOWERS},
        matched=matched,
        layers=len(groups),
        left_out=tuple(sorted(left_out)),
        kinds=tuple(sorted({_KIND_NAMES[change.kind, "dora" in change.tensors] for change in changes})),
        ranks=tuple(sorted({change.rank for change in changes if change.rank is not None})),
    )
    return Match(tuple(changes), report)


_KIND_NAMES = {
    ("lora", False): "LoRA",
    ("lora", True): "DoRA",
    ("loha", False): "LoHa",
    ("loha", True): "LoHa with DoRA",
    ("lokr", False): "LoKr",
    ("lokr", True): "LoKr with DoRA",
    ("diff", False): "difference",
}


def _plan(file_name: str, group: Group, names: NameMap) -> Iterator[PlannedChange]:
    """Every change that a group means; raises `Misfit` if the model has no place for it."""
    if not any(find(group.layer) for find in (names.weight, names.bias, names.modulation)):
        raise Misfit(why_unknown(group.layer))
    if "mid" in group.roles:
        raise Misfit("is a Tucker decomposition, which is not supported")
    found = [
        (_PAIR, "lora", check_pair),
        (_HADA, "loha", check_loha),
        (_LOKR, "lokr", check_lokr),
    ]
    parts = [part for part in found if part[0] & group.roles.keys()]
    for roles, kind, check in parts:
        parameter = names.weight(group.layer)
        if parameter is None or len(names.shapes[parameter]) < 2:
            raise Misfit("is a product of matrices for a layer that has no matrix")
        rank = _checked(file_name, group, names, parameter, check)
        used = roles | {"alpha", "dora"}
        yield _planned(parameter, kind, group, used, rank)
    simple = {"diff": names.weight, "diff_b": names.bias, "diff_m": names.modulation, "up_bias": names.bias}
    if "up_bias" in group.roles and "down" not in group.roles:
        raise Misfit("stands without the tensors that it belongs to")
    for role in [role for role in simple if role in group.roles]:
        parameter = simple[role](group.layer)
        if parameter is None:
            raise Misfit("is for a parameter that this layer does not have")
        _checked(file_name, group, names, parameter, lambda group, shape, role=role: check_diff(group, role, shape))
        # PEFT's bias of the second half is scaled like the pair itself.
        scaled_like_pair = {"alpha", "down"} if role == "up_bias" else set()
        yield _planned(parameter, "diff", group, {role} | scaled_like_pair, None)
    if not parts and not simple.keys() & group.roles.keys():
        raise Misfit("stands without the tensors that it belongs to")


def _planned(parameter: str, kind: str, group: Group, roles: Collection[str], rank: int | None) -> PlannedChange:
    tensors = {role: key for role, key in group.roles.items() if role in roles}
    return PlannedChange(parameter, kind, plain_name(group.layer), tensors, rank)


def _checked(file_name: str, group: Group, names: NameMap, parameter: str, check: _Check) -> int | None:
    """The rank, if every shape fits the parameter's.

    Raises:
        JobError: something is missing, or the width is that of another Wan model.
        Misfit: the shapes do not fit for another reason.
    """
    shape = names.shapes[parameter]
    check_scalars(file_name, group, shape)
    try:
        return check(group, shape)
    except Incomplete as incomplete:
        raise JobError(
            f"{file_name} holds only a part of its change of {short_name(group.layer)} ({incomplete} is missing); "
            "download or save it again."
        ) from incomplete
    except Misfit:
        widths = {size for info in group.infos.values() for size in info.shape} - _own_sizes(names)
        if known := sorted(widths & _WIDTHS.keys()):
            raise JobError(
                f"{file_name} was made for {_WIDTHS[known[0]]} (width {known[0]}), whose layers have other sizes; "
                "use an adapter for Wan 2.2 5B or for Ovi."
            ) from None
        raise


def _own_sizes(names: NameMap) -> set[int]:
    return {size for shape in names.shapes.values() for size in shape}


def _nothing_matched(file_name: str, count: int, left_out: Sequence[LeftOut]) -> str:
    whole = sum(item.tensor.endswith((".weight", ".bias")) and "lora" not in item.tensor for item in left_out)
    if whole > count / 2:
        return f"{file_name} holds a whole model's weights and no change of them; it belongs to the checkpoints."
    example = f"{short_name(left_out[0].tensor)} {left_out[0].reason}" if left_out else "it has no tensors"
    return (
        f"{file_name} does not match this model: 0 of its {count} tensors can be used ({example}); "
        "use an adapter for Wan 2.2 5B or for Ovi."
    )


def _refuse_doubles(file_name: str, changes: Iterable[PlannedChange]) -> None:
    """A file that writes one layer under two names would count twice."""
    seen: set[tuple[str, str]] = set()
    for change in changes:
        if (change.parameter, change.kind) in seen and change.kind != "diff":
            raise JobError(f"{file_name} changes {change.parameter} twice, under two names; save it again.")
        seen.add((change.parameter, change.kind))


def _tower_match(tower: Tower, changes: Iterable[PlannedChange], names: NameMap) -> TowerMatch:
    own = {change.parameter for change in changes if tower_of(change.parameter) == tower}
    layers = sum(is_linear(name, names.shapes[name]) for name in own)
    return TowerMatch(layers, names.linear_layers(tower), len(own) - layers)
