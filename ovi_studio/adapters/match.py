"""Matches the tensors of an adapter file with the model's parameters, from its header alone. Imports no torch.

Tensors are grouped by the layer that they name, each group is checked against the parameter's shape, and tensors
that do not belong to this model are skipped with a reason. A file without a match, half a pair, or an adapter for
another model size is a `JobError`; a partial match is a report that the page shows.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ovi_studio.adapters.formats.dora import MAGNITUDE, check_magnitudes
from ovi_studio.adapters.formats.format import ALPHA, TUCKER, Format
from ovi_studio.adapters.formats.layer_tensors import Incomplete, LayerTensors, Misfit
from ovi_studio.adapters.formats.registry import FORMATS
from ovi_studio.adapters.groups import group_by_layer
from ovi_studio.adapters.header import Header
from ovi_studio.adapters.names import NameMap, is_linear, plain_name, tower_of, why_unknown
from ovi_studio.core.errors import JobError
from ovi_studio.core.towers import TOWERS, Tower

_WIDTHS: Mapping[int, str] = {5120: "Wan 14B", 13824: "Wan 14B", 1536: "Wan 1.3B", 8960: "Wan 1.3B"}
"""Layer widths of other models for which people have adapters."""


class UnusedTensor(NamedTuple):
    """A tensor of the file that is not used."""

    tensor: str
    reason: str


@dataclass(frozen=True)
class TowerMatch:
    """What a file changes in one tower."""

    layers: int
    """Linear layers that the file changes."""
    of: int
    """Linear layers of the tower."""
    others: int
    """Biases, norms, modulations and convolutions that the file changes."""


@dataclass(frozen=True)
class MatchReport:
    """How well a file fits the model."""

    towers: Mapping[Tower, TowerMatch]
    matched: int
    """Layers of the file that were found in the model."""
    layers: int
    """Layers that the file names."""
    unused: tuple[UnusedTensor, ...]
    kinds: tuple[str, ...]
    """Titles of the file's formats, such as LoRA, DoRA, difference."""
    ranks: tuple[int, ...]

    @property
    def complete(self) -> bool:
        return not self.unused

    def summary(self) -> str:
        """Return one line for a card: `312 of 312 layers matched (video 300 of 366, audio 0 of 366)`."""
        towers = ", ".join(f"{tower} {match.layers} of {match.of}" for tower, match in self.towers.items())
        return f"{self.matched} of {self.layers} layers matched ({towers})"

    def warning(self) -> str | None:
        """Return a sentence if any tensor is not used."""
        if self.complete:
            return None
        reasons = {item.reason: item.tensor for item in reversed(self.unused)}
        examples = "; ".join(f"{_short_name(tensor)} {reason}" for reason, tensor in list(reasons.items())[:4])
        return f"{len(self.unused)} of the file's tensors are not used: {examples}."


@dataclass(frozen=True)
class PlannedChange:
    """A change of one parameter and the tensors that define it."""

    parameter: str
    """Official name of the parameter."""
    kind: Format
    layer: str
    """The layer's name in the file, without prefixes."""
    tensors: Mapping[str, str]
    """Role of a tensor -> its name in the file."""
    rank: int | None
    """The rank by which alpha is divided; None: the change is not scaled."""

    @property
    def title(self) -> str:
        """The title of the format, as shown to people."""
        return self.kind.with_dora if MAGNITUDE in self.tensors else self.kind.title


@dataclass(frozen=True)
class Match:
    """The changes that `read` has to load, and the report for people."""

    changes: tuple[PlannedChange, ...]
    report: MatchReport


def match_header(file_name: str, header: Header, names: NameMap) -> Match:
    """Find the parameter that each tensor of a file changes.

    Raises:
        JobError: nothing matches, one half of a pair is missing, or the file is for a model of another width.
    """
    groups, unknown = group_by_layer(header)
    changes: list[PlannedChange] = []
    unused = [UnusedTensor(key, "is not in a known format") for key in unknown]
    matched = 0
    for group in groups:
        try:
            planned = list(_plan(file_name, group, names))
        except Misfit as misfit:
            unused += [UnusedTensor(key, str(misfit)) for key in group.roles.values()]
            continue
        matched += 1
        changes += planned
    if not changes:
        raise JobError(_nothing_matched(file_name, len(header.tensors), unused))
    _refuse_duplicates(file_name, changes)
    report = MatchReport(
        towers={tower: _tower_match(tower, changes, names) for tower in TOWERS},
        matched=matched,
        layers=len(groups),
        unused=tuple(sorted(unused)),
        kinds=tuple(sorted({change.title for change in changes})),
        ranks=tuple(sorted({change.rank for change in changes if change.rank is not None})),
    )
    return Match(tuple(changes), report)


def _plan(file_name: str, group: LayerTensors, names: NameMap) -> Iterator[PlannedChange]:
    """Yield the changes that a layer's tensors define; raises `Misfit` if the model has no such parameter."""
    if not any(find(group.layer) for find in (names.weight, names.bias, names.modulation)):
        raise Misfit(why_unknown(group.layer))
    if TUCKER in group.roles:
        raise Misfit("is a Tucker decomposition, which is not supported")
    kinds = [kind for kind in FORMATS if kind.roles & group.roles.keys()]
    if not kinds:
        raise Misfit("comes without the tensors that it belongs to")
    for kind in kinds:
        parameter = kind.parameter(names, group.layer)
        if kind.product and (parameter is None or len(names.shapes[parameter]) < 2):
            raise Misfit("is a product of matrices for a layer without a weight matrix")
        if parameter is None:
            raise Misfit("is for a parameter that this layer does not have")
        rank = _checked(file_name, group, names, parameter, kind)
        used = kind.roles | {ALPHA} | ({MAGNITUDE} if kind.product else set())
        tensors = {role: key for role, key in group.roles.items() if role in used}
        yield PlannedChange(parameter, kind, plain_name(group.layer), tensors, rank)


def _checked(file_name: str, group: LayerTensors, names: NameMap, parameter: str, kind: Format) -> int | None:
    """Return the rank if every shape fits the parameter.

    Raises:
        JobError: a tensor is missing, or the width is that of another Wan model.
        Misfit: the shapes do not fit for another reason.
    """
    shape = names.shapes[parameter]
    _check_alpha(file_name, group)
    check_magnitudes(group, shape)
    try:
        return kind.check(group, shape)
    except Incomplete as incomplete:
        raise JobError(
            f"{file_name} contains only a part of its change of {_short_name(group.layer)} ({incomplete} is missing); "
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


def _check_alpha(file_name: str, group: LayerTensors) -> None:
    if ALPHA in group.roles and math.prod(group.shape(ALPHA)) != 1:
        raise JobError(
            f"{file_name} has an alpha of {_short_name(group.layer)} that is not a single number; save it again."
        )


def _own_sizes(names: NameMap) -> set[int]:
    return {size for shape in names.shapes.values() for size in shape}


def _nothing_matched(file_name: str, count: int, unused: Sequence[UnusedTensor]) -> str:
    whole = sum(item.tensor.endswith((".weight", ".bias")) and "lora" not in item.tensor for item in unused)
    if whole > count / 2:
        return f"{file_name} contains the weights of a whole model, not changes of them; it belongs to the checkpoints."
    example = f"{_short_name(unused[0].tensor)} {unused[0].reason}" if unused else "it has no tensors"
    return (
        f"{file_name} does not match this model: 0 of its {count} tensors can be used ({example}); "
        "use an adapter for Wan 2.2 5B or for Ovi."
    )


def _refuse_duplicates(file_name: str, changes: Iterable[PlannedChange]) -> None:
    """Raise `JobError` if a file changes one layer under two names, which would count twice."""
    seen: set[tuple[str, Format]] = set()
    for change in changes:
        if (change.parameter, change.kind) in seen and change.kind.product:
            raise JobError(f"{file_name} changes {change.parameter} twice, under two names; save it again.")
        seen.add((change.parameter, change.kind))


def _tower_match(tower: Tower, changes: Iterable[PlannedChange], names: NameMap) -> TowerMatch:
    own = {change.parameter for change in changes if tower_of(change.parameter) == tower}
    layers = sum(is_linear(name, names.shapes[name]) for name in own)
    return TowerMatch(layers, names.linear_layers(tower), len(own) - layers)


def _short_name(name: str) -> str:
    """Shorten a name from a file for use in a sentence."""
    return name if len(name) <= 120 else name[:117] + "..."
