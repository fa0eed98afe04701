"""Matches the tensors of an adapter file with the model's parameters, from its header alone. Imports no torch.

Tensors are grouped by the layer that they name, each group is checked against the parameter's shape, and tensors
that do not belong to this model are skipped with a reason. A layer is changed as its file says or not at all: a tensor
beside it that is not understood could scale the change, so it is refused with its reason. A file without a match, half
a pair, or an adapter for another model size is a `JobError`; a partial match is a report that the page shows.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ovi_studio.adapters.contents import Contents
from ovi_studio.adapters.formats.dora import MAGNITUDE, check_magnitudes
from ovi_studio.adapters.formats.format import ALPHA, SCALAR, TUCKER, Format
from ovi_studio.adapters.formats.layer_tensors import Incomplete, LayerTensors, Misfit, multiplier
from ovi_studio.adapters.formats.registry import FORMATS
from ovi_studio.adapters.groups import group_by_layer
from ovi_studio.adapters.header import Header
from ovi_studio.adapters.match_report import MatchReport, TowerMatch, UnusedTensor, short_name
from ovi_studio.adapters.names import NameMap, fronts, is_foreign, is_linear, tower_of, why_unknown
from ovi_studio.adapters.scaling import PeftConfig, Scaling, find_scaling
from ovi_studio.core.errors import JobError
from ovi_studio.core.towers import TOWERS, Tower

_WIDTHS: Mapping[int, str] = {5120: "Wan 14B", 13824: "Wan 14B", 1536: "Wan 1.3B", 8960: "Wan 1.3B"}
"""Layer widths of other models for which people have adapters."""

_FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
_NUMBERS = _FLOATS | {"F8_E8M0"} | {f"{kind}{bits}" for kind in "IU" for bits in (8, 16, 32, 64)}
"""Number formats of single numbers, such as alpha; all other tensors must be in one of `_FLOATS`."""

_HARMLESS = (".base_layer.weight", ".base_layer.bias", ".scale_input", ".input_scale", "scaled_fp8")
"""Endings of tensors that leave a change as it is: frozen weights, how inputs are quantised, and ComfyUI's marker."""
_DEPTH = 6
"""Parts of a name after that of a layer that are considered."""


@dataclass(frozen=True)
class PlannedChange:
    """A change of one parameter and the tensors that define it."""

    parameter: str
    """Official name of the parameter."""
    kind: Format
    tensors: Mapping[str, str]
    """Role of a tensor -> its name in the file."""
    rank: int | None
    """The rank by which alpha is divided; None: the change is not scaled by alpha."""
    stated_scale: float
    """The scale without an alpha among the tensors."""

    @property
    def title(self) -> str:
        """The title of the format, as shown to people."""
        return self.kind.with_dora if MAGNITUDE in self.tensors else self.kind.title

    def scale(self, contents: Contents) -> float | None:
        """Return the factor of the change; None if it depends on numbers that were not read."""
        numbers = contents.numbers or {}
        scale: float | None = self.stated_scale
        if self.rank is not None and ALPHA in self.tensors:
            alpha = numbers.get(self.tensors[ALPHA])
            scale = None if alpha is None else alpha / self.rank
        if SCALAR in self.tensors:
            scalar = numbers.get(self.tensors[SCALAR])
            scale = None if scale is None or scalar is None else scale * scalar
        return scale

    def is_idle(self, contents: Contents) -> bool:
        """Whether the change is zero, as far as known."""
        factors = (name for role, name in self.tensors.items() if role != ALPHA)
        zero = self.scale(contents) == 0 or any(name in contents.zeros for name in factors)
        return zero and MAGNITUDE not in self.tensors


@dataclass(frozen=True)
class Match:
    """The changes that `read` has to load, and the report for people."""

    file_name: str
    changes: tuple[PlannedChange, ...]
    report: MatchReport

    def examined(self, contents: Contents) -> "Match":
        """Return the match with what the file's numbers show; raises `JobError` if a used tensor is not finite."""
        used = {name for change in self.changes for name in change.tensors.values()}
        if broken := sorted(used & contents.non_finite):
            raise JobError(
                f"{self.file_name} contains NaN or infinite values, in {broken[0][:120]}; download it again."
            )
        scales = {change.scale(contents) for change in self.changes}
        report = replace(
            self.report,
            scales=tuple(sorted(scale for scale in scales if scale is not None)),
            idle=all(change.is_idle(contents) for change in self.changes),
        )
        return replace(self, report=report)


def match_header(file_name: str, header: Header, names: NameMap, config: PeftConfig | None = None) -> Match:
    """Find the parameter that each tensor of a file changes; `config` is that of a PEFT folder.

    Raises:
        JobError: nothing matches, one half of a pair is missing, the file is for a model of another width, or its scale
            is unclear.
    """
    groups, unknown = group_by_layer(header)
    names, front = _after_front(groups, names)
    planner = _Planner(file_name, names, find_scaling(file_name, header, config), _strays(groups, unknown, names))
    changes: list[PlannedChange] = []
    unused = [UnusedTensor(key, _why_unused(key)) for key in unknown]
    matched = 0
    for group in groups:
        try:
            planned = list(planner.plan(group))
        except Misfit as misfit:
            unused += [UnusedTensor(key, str(misfit)) for key in group.roles.values()]
            continue
        matched += 1
        changes += planned
    if not changes:
        raise JobError(_nothing_matched(file_name, len(header.tensors), unused))
    _refuse_duplicates(file_name, changes)
    if planner.scaling.dora and not any(MAGNITUDE in change.tensors for change in changes):
        raise JobError(f"{file_name} claims to be a DoRA but contains no magnitudes; save it again.")
    report = MatchReport(
        towers={tower: _tower_match(tower, changes, names) for tower in TOWERS},
        matched=matched,
        layers=len(groups),
        unused=tuple(sorted(unused)),
        kinds=tuple(sorted({change.title for change in changes})),
        ranks=tuple(sorted({change.rank for change in changes if change.rank is not None})),
        notes=tuple(_notes(groups, front, planner.scaling)),
    )
    return Match(file_name, tuple(changes), report).examined(Contents())


@dataclass(frozen=True)
class _Planner:
    """Plans the changes of one file, layer by layer."""

    file_name: str
    names: NameMap
    scaling: Scaling
    strays: Mapping[str, str]
    """Official name of a parameter -> the end of the name of a tensor beside it that is not understood."""

    def plan(self, group: LayerTensors) -> Iterator[PlannedChange]:
        """Yield the changes that a layer's tensors define; raises `Misfit` if they cannot be used."""
        known = self.names.any_parameter(group.layer)
        if known is None:
            raise Misfit(why_unknown(group.layer))
        if TUCKER in group.roles:
            raise Misfit("is a Tucker decomposition, which is not supported")
        kinds = _kinds(group)
        if not kinds:
            raise Misfit("comes without the tensors that it belongs to")
        if stray := self.strays.get(known):
            raise Misfit(f"comes with {short_name(stray)} for the same layer, which is not understood")
        changes = [self._change(group, kind) for kind in kinds]
        used = {role for change in changes for role in change.tensors}
        if left := sorted(group.roles.keys() - used):
            raise Misfit(f"comes with {left[0]}, which does not belong to its format")
        yield from changes

    def _change(self, group: LayerTensors, kind: Format) -> PlannedChange:
        parameter = kind.parameter(self.names, group.layer)
        if kind.product and (parameter is None or len(self.names.shapes[parameter]) < 2):
            raise Misfit("is a product of matrices for a layer without a weight matrix")
        if parameter is None:
            raise Misfit("is for a parameter that this layer does not have")
        rank = self._checked(group, parameter, kind)
        matrices = kind.roles | ({MAGNITUDE} if kind.product else set())
        scalars = {ALPHA, SCALAR} if kind.product or rank is not None else {ALPHA}
        used = matrices | scalars | set(map(multiplier, matrices))
        tensors = {role: key for role, key in group.roles.items() if role in used}
        stated = 1.0 if rank is None else self.scaling.scale(group.layer, rank)
        return PlannedChange(parameter, kind, tensors, rank, stated)

    def _checked(self, group: LayerTensors, parameter: str, kind: Format) -> int | None:
        """Return the rank if every shape fits the parameter.

        Raises:
            JobError: a tensor is missing, or the width is that of another Wan model.
            Misfit: the tensors do not fit for another reason.
        """
        shape = self.names.shapes[parameter]
        self._check_alpha(group)
        group.check_number(SCALAR)
        check_magnitudes(group, shape)
        _check_formats(group)
        try:
            return kind.check(group, shape)
        except Incomplete as incomplete:
            raise JobError(
                f"{self.file_name} contains only a part of its change of {short_name(group.layer)} ({incomplete} is "
                "missing); download or save it again."
            ) from incomplete
        except Misfit:
            widths = {size for info in group.infos.values() for size in info.shape} - _own_sizes(self.names)
            if known := sorted(widths & _WIDTHS.keys()):
                raise JobError(
                    f"{self.file_name} was made for {_WIDTHS[known[0]]} (width {known[0]}), whose layers have other "
                    "sizes; use an adapter for Wan 2.2 5B or for Ovi."
                ) from None
            raise

    def _check_alpha(self, group: LayerTensors) -> None:
        if ALPHA in group.roles and math.prod(group.shape(ALPHA)) != 1:
            raise JobError(
                f"{self.file_name} has an alpha of {short_name(group.layer)} that is not a single number; "
                "save it again."
            )


def _kinds(group: LayerTensors) -> list[Format]:
    return [kind for kind in FORMATS if kind.roles & group.roles.keys()]


def _check_formats(group: LayerTensors) -> None:
    """Raise `Misfit` unless every tensor is in a usable number format and every multiplier fits its tensor."""
    for role, info in group.infos.items():
        single = role in (ALPHA, SCALAR) or role.endswith(multiplier(""))
        if info.dtype not in (_NUMBERS if single else _FLOATS):
            raise Misfit(f"comes with a tensor in the number format {info.dtype}, which cannot be used")
        factor = multiplier(role)
        if factor in group.roles:
            sizes = group.shape(factor)
            by_rows = sizes[:1] == info.shape[:1] and math.prod(sizes) == info.shape[0]
            if math.prod(sizes) != 1 and not by_rows:
                raise Misfit(f"comes with a scale of shape {list(sizes)} for a tensor of shape {list(info.shape)}")


def _after_front(groups: Sequence[LayerTensors], names: NameMap) -> tuple[NameMap, str]:
    """Return the map for this file's names, and the unknown text in front of all of them."""
    layers = [group.layer for group in groups if not is_foreign(group.layer)]
    if any(names.any_parameter(layer) for layer in layers):
        return names, ""
    for front in fronts(layers):
        after = names.after(front)
        if any(after.any_parameter(layer) for layer in layers):
            return after, front
    return names, ""


def _strays(groups: Iterable[LayerTensors], unknown: Iterable[str], names: NameMap) -> dict[str, str]:
    """Return, by the parameter beside which they are, the ends of the names of tensors that are not understood."""
    orphans = [key for group in groups if not _kinds(group) for key in group.roles.values()]
    found: dict[str, str] = {}
    for key in (*orphans, *unknown):
        if not key.endswith(_HARMLESS) and (owner := _owner(key, names)):
            found.setdefault(*owner)
    return found


def _owner(key: str, names: NameMap) -> tuple[str, str] | None:
    """Return the parameter of the layer that a tensor's name starts with, and the rest of the name."""
    layer = key
    for depth in range(_DEPTH):
        layer, dot, _ = layer.rpartition(".")
        if not dot or len(layer) > 1000:
            return None
        # A block is also the name of its modulation, but not of whatever is deeper inside it.
        if found := names.any_parameter(layer) if depth == 0 else names.weight(layer) or names.bias(layer):
            return found, key[len(layer) :]
    return None


def _why_unused(key: str) -> str:
    return "does not change a layer" if key.endswith(_HARMLESS) else "is not in a known format"


def _notes(groups: Iterable[LayerTensors], front: str, scaling: Scaling) -> Iterator[str]:
    if front:
        yield f"Its names were read without {front!r} in front."
    if patterns := scaling.unused_patterns(group.layer for group in groups):
        yield f"Its alpha_pattern for {short_name(patterns[0])} names no layer of the file."


def _own_sizes(names: NameMap) -> set[int]:
    return {size for shape in names.shapes.values() for size in shape}


def _nothing_matched(file_name: str, count: int, unused: Sequence[UnusedTensor]) -> str:
    whole = sum(item.tensor.endswith((".weight", ".bias")) and "lora" not in item.tensor for item in unused)
    if whole > count / 2:
        return f"{file_name} contains the weights of a whole model, not changes of them; it belongs to the checkpoints."
    example = f"{short_name(unused[0].tensor)} {unused[0].reason}" if unused else "it has no tensors"
    return (
        f"{file_name} does not match this model: 0 of its {count} tensors can be used ({example}); "
        "use an adapter for Wan 2.2 5B or for Ovi."
    )


def _refuse_duplicates(file_name: str, changes: Iterable[PlannedChange]) -> None:
    """Raise `JobError` if a file changes one layer under two names, which would count twice."""
    seen: set[tuple[str, Format]] = set()
    for change in changes:
        if (change.parameter, change.kind) in seen:
            raise JobError(f"{file_name} changes {change.parameter} twice, under two names; save it again.")
        seen.add((change.parameter, change.kind))


def _tower_match(tower: Tower, changes: Iterable[PlannedChange], names: NameMap) -> TowerMatch:
    own = {change.parameter for change in changes if tower_of(change.parameter) == tower}
    layers = sum(is_linear(name, names.shapes[name]) for name in own)
    return TowerMatch(layers, names.linear_layers(tower), len(own) - layers)
