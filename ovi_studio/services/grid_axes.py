"""What the axis of a grid can be: seeds, a number of the sampling settings, a solver, a preset, an adapter's strength.

An axis is chosen by name and gets its values as texts, as people choose or type them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ovi_studio.core.adapter_stack import Stack, Strength
from ovi_studio.core.errors import JobError
from ovi_studio.core.grids import MAX_CELLS, GridAxis, GridPoint
from ovi_studio.core.requests import draw_seeds
from ovi_studio.core.solvers import SOLVERS
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.step_caches import STEP_CACHES
from ovi_studio.services.presets import Preset

_RANDOM = re.compile(r"\s*(\d{1,4})\s+random\s*", re.IGNORECASE)
_STRENGTH = "strength:"
_SEED = frozenset({"seed"})
_SUGGESTED_STRENGTHS = ("0", "0.5", "0.75", "1")

ReadValue = Callable[[str, ClipSpec], Sequence[GridPoint]]
"""Returns what a text stands for; raises `JobError`."""


@dataclass(frozen=True)
class AxisKind:
    """What an axis can be."""

    name: str
    title: str
    values: Mapping[str, str]
    """Values that are offered: their texts, by how they are shown. Others may be typed unless `closed`."""
    read: ReadValue
    changes: frozenset[str]
    """As in `GridAxis`."""
    closed: bool = False


def axis_kinds(presets: Sequence[Preset], stack: Stack) -> dict[str, AxisKind]:
    """Every kind of axis by name, in display order.

    Args:
        presets: those that can be used.
        stack: the adapters of the clip.
    """
    kinds = [
        AxisKind("seed", "Seed", _same("2 random", "3 random", "4 random", "6 random"), _read_seeds, _SEED),
        _number("steps", "Steps", "10", "20", "30", "50"),
        _number("video_guidance", "Video guidance", "2", "3", "4", "5", "6"),
        _number("audio_guidance", "Audio guidance", "2", "3", "4", "5"),
        _number("shift", "Shift", "3", "5", "7", "9"),
        _number("slg_layer", "Skipped block", "0", "9", "11", "13"),
        _choice("solver", "Solver", {solver.title: solver.name for solver in SOLVERS.values()}),
        _choice("step_cache", "Step cache", {cache.title: cache.name for cache in STEP_CACHES.values()}),
    ]
    if presets:
        kinds.append(_presets(presets))
    kinds += [_strength(use.name) for use in stack]
    return {kind.name: kind for kind in kinds}


def read_axis(kind: AxisKind, values: Sequence[str], base: ClipSpec) -> GridAxis:
    """The axis with these values; raises `JobError`."""
    texts = [part for value in values for part in _parts(kind, str(value))]
    if len(texts) > MAX_CELLS:
        raise JobError(f"{kind.title} has {len(texts)} values; use at most {MAX_CELLS}.")
    return GridAxis(kind.title, tuple(point for text in texts for point in kind.read(text, base)), kind.changes)


def _parts(kind: AxisKind, value: str) -> list[str]:
    """A value that is typed may be a list."""
    if kind.closed or kind.name.startswith(_STRENGTH):
        return [value]
    return [part.strip() for part in value.split(",") if part.strip()]


def _same(*texts: str) -> dict[str, str]:
    return {text: text for text in texts}


def _read_seeds(text: str, base: ClipSpec) -> Sequence[GridPoint]:
    if drawn := _RANDOM.fullmatch(text):
        if int(drawn[1]) > MAX_CELLS:
            raise JobError(f"{drawn[1]} seeds are too many; draw at most {MAX_CELLS}.")
        return [_point(str(seed), {"seed": seed}) for seed in draw_seeds(int(drawn[1]))]
    seed = base.with_settings({"seed": text}).seed
    return [_point(str(seed), {"seed": seed})]


def _point(label: str, settings: Mapping[str, Any]) -> GridPoint:
    return GridPoint(label, lambda spec: spec.with_settings(settings))


def _number(name: str, title: str, *suggested: str) -> AxisKind:
    def read(text: str, base: ClipSpec) -> Sequence[GridPoint]:
        value = getattr(base.with_settings({name: text}), name)
        return [_point(f"{value:g}" if isinstance(value, float) else str(value), {name: value})]

    return AxisKind(name, title, _same(*suggested), read, frozenset({name}))


def _choice(name: str, title: str, values: Mapping[str, str]) -> AxisKind:
    titles = {value: shown for shown, value in values.items()}

    def read(text: str, base: ClipSpec) -> Sequence[GridPoint]:
        value = getattr(base.with_settings({name: text}), name)
        return [_point(titles[value], {name: value})]

    return AxisKind(name, title, values, read, frozenset({name}), closed=True)


def _presets(presets: Sequence[Preset]) -> AxisKind:
    known = {preset.name: preset for preset in presets}

    def read(text: str, base: ClipSpec) -> Sequence[GridPoint]:
        if text not in known:
            raise JobError(f"The preset {text[:60]!r} cannot be used; choose one of {', '.join(known)}.")
        return [GridPoint(known[text].title, known[text].apply)]

    changes = frozenset(name for preset in presets for name in preset.settings)
    return AxisKind("preset", "Preset", {preset.title: preset.name for preset in presets}, read, changes, closed=True)


def _strength(adapter: str) -> AxisKind:
    short = adapter.rpartition("/")[2].removesuffix(".safetensors")

    def read(text: str, base: ClipSpec) -> Sequence[GridPoint]:
        strength = Strength.parse(text)

        def apply(spec: ClipSpec) -> ClipSpec:
            changed = (
                replace(use, video=strength, audio=strength) if use.name == adapter else use for use in spec.stack
            )
            return spec.with_stack(tuple(changed))

        return [GridPoint(str(strength), apply)]

    name = f"{_STRENGTH}{adapter}"
    return AxisKind(name, f"Strength of {short}", _same(*_SUGGESTED_STRENGTHS), read, frozenset({name}))
