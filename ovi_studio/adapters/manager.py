"""Applies the adapters of a clip to the transformer before the clip is made, and updates their strengths meanwhile.

A key of hashes and strengths identifies the result: applying the same stack again costs nothing. Each change of each
parameter is either fused into the weight or applied at run time:

- a change of constant strength is fused, which costs nothing in a step;
- a low-rank change of a linear layer is applied at run time if its strength varies over the steps, if it is so weak
  that rounding to the weight's format would remove most of it, or if the weight is quantised;
- any other change whose strength varies over the steps is fused again whenever its strength changes.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ovi_studio.adapters.formats.change import Change, RuntimeChange
from ovi_studio.adapters.fuse import WeightFuser
from ovi_studio.adapters.header import AdapterFiles, locate
from ovi_studio.adapters.match_report import MatchReport
from ovi_studio.adapters.names import NameMap, Shape, tower_of
from ovi_studio.adapters.read import Adapter, read_adapter
from ovi_studio.adapters.runtime import RuntimeAdapters, RuntimeLora
from ovi_studio.checkpoints.hashes import file_sha256
from ovi_studio.core.adapter_stack import AdapterUse, Stack, combined_sha256
from ovi_studio.core.errors import JobError
from ovi_studio.distributed.shards import reshard

WEAK = 0.05
"""Below this strength a fused change in a 16-bit format is mostly lost in rounding: 69% of it at 0.01."""

Strengths = tuple[float, ...]
"""The strength in every step; one entry if it is constant."""
_Key = tuple[tuple[str, Strengths, Strengths], ...]


@dataclass(frozen=True)
class PreparedStack:
    """The adapters that were applied to the model."""

    stack: Stack
    """The stack with the hash of every file that was read, for the clip's record."""
    reports: Mapping[str, MatchReport]
    """Match reports by the adapter's name."""


@dataclass
class _Plan:
    """Which changes are fused, and which are applied at run time."""

    fused: dict[str, list[tuple[Change, Strengths]]] = field(default_factory=dict)
    runtime: dict[str, list[RuntimeLora]] = field(default_factory=dict)

    def scheduled(self) -> dict[str, list[tuple[Change, Strengths]]]:
        """Return the fused changes whose strength varies over the steps."""
        return {
            name: changes for name, changes in self.fused.items() if any(len(strengths) > 1 for _, strengths in changes)
        }


class AdapterManager:
    """The adapters of one transformer.

    Args:
        transformer: loaded, whole or sharded over ranks, without other adapters. On several ranks each has a manager,
            and all get the same calls in the same order.
        find: returns the path of an adapter by its name; raises `JobError` if there is none.
        pristine: the pristine weights (see `WeightFuser`).
        worker: the device that computes changed weights (see `WeightFuser`).
        shapes: official shapes, if the weights are quantised and do not show them.
        writable: a context within which the weights are changed.
    """

    def __init__(
        self,
        transformer: nn.Module,
        find: Callable[[str], Path],
        *,
        pristine: Mapping[str, Tensor] | None = None,
        worker: torch.device | None = None,
        shapes: Mapping[str, Shape] | None = None,
        writable: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        parameters = dict(transformer.named_parameters())
        self.names = NameMap(shapes or {name: tuple(parameter.shape) for name, parameter in parameters.items()})
        self._transformer = transformer
        self._writable = writable
        self._parameters = parameters
        self._find = find
        self._fuser = WeightFuser(parameters, pristine, worker)
        self._runtime = RuntimeAdapters(transformer)
        self._key: _Key = ()
        self._step = 0
        self._scheduled: dict[str, list[tuple[Change, Strengths]]] = {}
        self._has_schedule = False
        self._reports: dict[str, MatchReport] = {}

    def prepare(self, stack: Stack, steps: int) -> PreparedStack:
        """Apply a stack to the model, with the strengths of a clip's first step.

        Raises:
            JobError: a file is missing, damaged, not the one that the clip was made with, or does not fit. The model
                is then unchanged, or pristine if it had been changed already.
        """
        uses = [use for use in stack if not use.zero]
        paths = {use.name: self._find(use.name) for use in uses}
        _refuse_duplicates(paths)
        hashes = {use.name: _sha256(use, locate(paths[use.name])) for use in uses}
        key = tuple(sorted((hashes[use.name], use.video.over(steps), use.audio.over(steps)) for use in uses))
        if key != self._key:
            self._apply(uses, paths, hashes, steps, key)
        self.set_step(0)
        named = tuple(replace(use, sha256=hashes.get(use.name, use.sha256)) for use in stack)
        return PreparedStack(named, {use.name: self._reports[hashes[use.name]] for use in uses})

    def set_step(self, step: int) -> bool:
        """Use the strengths of a step, counted from 0; returns whether anything changed.

        Results computed from the weights before, such as those of `prepare_text`, are out of date after a change.
        """
        if not self._has_schedule or step == self._step:
            return False
        before, self._step = self._step, step
        if _at(self._key, before) == _at(self._key, step):
            return False
        try:
            reshard(self._transformer)
            if self._scheduled:
                with self._writable():
                    self._fuser.write(self._weighted(self._scheduled, step))
        except BaseException:
            self.clear()
            raise
        self._runtime.set_step(step)
        return True

    @property
    def in_use(self) -> bool:
        """Whether any adapter currently changes the model."""
        return bool(self._key)

    @property
    def runtime_bytes(self) -> int:
        """Bytes of the current run-time adapters, which are on the device whenever the model is in use."""
        return self._runtime.size

    def clear(self) -> None:
        """Remove all adapters from the model, exactly."""
        self._key, self._has_schedule, self._scheduled, self._reports = (), False, {}, {}
        self._step = 0
        reshard(self._transformer)
        self._runtime.remove()
        if self._fuser.touched:
            with self._writable():
                self._fuser.restore(self._fuser.touched)

    def _apply(
        self, uses: list[AdapterUse], paths: Mapping[str, Path], hashes: Mapping[str, str], steps: int, key: _Key
    ) -> None:
        # All files are read before anything is changed: a bad file leaves the model as it is.
        adapters = {use.name: self._read(paths[use.name], hashes[use.name]) for use in uses}
        plan = self._plan(uses, adapters, steps)
        try:
            reshard(self._transformer)
            self._runtime.remove()
            if plan.fused or self._fuser.touched:
                with self._writable():
                    self._fuser.restore(self._fuser.touched - plan.fused.keys())
                    self._fuser.write(self._weighted(plan.fused, 0))
            if plan.runtime:
                self._runtime.inject(plan.runtime, self._compute_dtype())
        except BaseException:
            self.clear()
            raise
        self._key, self._step = key, 0
        self._scheduled = plan.scheduled()
        self._has_schedule = any(len(strengths) > 1 for _, *both in key for strengths in both)
        self._reports = {hashes[name]: adapter.report for name, adapter in adapters.items()}

    def _read(self, path: Path, sha256: str) -> Adapter:
        adapter = read_adapter(path, self.names)
        if adapter.sha256 != sha256:
            raise JobError(f"{path.name} changed while it was read; wait until it is copied completely.")
        return adapter

    def _plan(self, uses: list[AdapterUse], adapters: Mapping[str, Adapter], steps: int) -> _Plan:
        plan = _Plan()
        for use, parameter, change in _changes(uses, adapters):
            strengths = use.strength(tower_of(parameter)).over(steps)
            if not any(strengths):
                continue
            if isinstance(change, RuntimeChange) and self._applied_at_run_time(parameter, strengths):
                plan.runtime.setdefault(parameter.removesuffix(".weight"), []).append(RuntimeLora(change, strengths))
            else:
                plan.fused.setdefault(parameter, []).append((change, strengths))
        return plan

    def _applied_at_run_time(self, parameter: str, strengths: Strengths) -> bool:
        module = self._module(parameter.removesuffix(".weight"))
        if module is None or not RuntimeAdapters.can_wrap(module):
            return False
        if not self._fuser.can_change(parameter) or len(strengths) > 1:
            return True
        return abs(strengths[0]) < WEAK and self._parameters[parameter].dtype != torch.float32

    def _module(self, layer: str) -> nn.Module | None:
        try:
            return self._transformer.get_submodule(layer)
        except AttributeError:
            return None

    def _compute_dtype(self) -> torch.dtype:
        return next(parameter.dtype for parameter in self._parameters.values() if parameter.dtype.is_floating_point)

    @staticmethod
    def _weighted(
        changes: Mapping[str, list[tuple[Change, Strengths]]], step: int
    ) -> dict[str, list[tuple[Change, float]]]:
        return {
            name: [(change, _in_step(strengths, step)) for change, strengths in own] for name, own in changes.items()
        }


def _changes(uses: list[AdapterUse], adapters: Mapping[str, Adapter]) -> Iterator[tuple[AdapterUse, str, Change]]:
    for use in uses:
        for parameter, changes in adapters[use.name].changes.items():
            for change in changes:
                yield use, parameter, change


def _refuse_duplicates(paths: Mapping[str, Path]) -> None:
    """Raise `JobError` if two names mean the same file, which would act with the sum of both strengths."""
    seen: dict[Path, str] = {}
    for name, path in paths.items():
        if other := seen.get(path):
            raise JobError(f"{other} and {name} are the same adapter; remove one of them.")
        seen[path] = name


def _in_step(strengths: Strengths, step: int) -> float:
    return strengths[step] if len(strengths) > 1 else strengths[0]


def _at(key: _Key, step: int) -> list[tuple[float, float]]:
    return [(_in_step(video, step), _in_step(audio, step)) for _, video, audio in key]


def _sha256(use: AdapterUse, files: AdapterFiles) -> str:
    """Return the file's hash, checked against the one in the clip's settings."""
    try:
        config = None if files.config is None else file_sha256(files.config)
        found = combined_sha256(file_sha256(files.weights), config)
    except OSError as error:
        raise JobError(
            f"Adapter {use.name} cannot be read ({error.strerror}); check that it is still there."
        ) from error
    use.pinned(found)
    return found
