"""Gives the transformer the adapters of a clip before the clip is made, and their strengths while it is made.

Everything that decides the result is in a key of hashes and strengths: the same stack again costs nothing. What is
fused and what runs beside the layers is decided for each change of each parameter:

- constant strength: fused, which costs nothing in a step;
- a low-rank change of a linear layer runs beside it if its strength follows the steps, if it is so weak that rounding
  to the weight's format would take most of it away, or if the weight is quantised;
- any other change whose strength follows the steps is written into the weight again whenever its strength changes.
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
from ovi_studio.adapters.match import MatchReport
from ovi_studio.adapters.names import NameMap, Shape, tower_of
from ovi_studio.adapters.read import Adapter, read_adapter
from ovi_studio.adapters.runtime import RuntimeAdapters, RuntimeLora
from ovi_studio.checkpoints.hashes import file_sha256
from ovi_studio.core.adapter_stack import AdapterUse, Stack, combined_sha256
from ovi_studio.core.errors import JobError
from ovi_studio.distributed.shards import reshard

WEAK = 0.05
"""Below it, a fused change in a 16-bit format is mostly rounded away: 69% of it at 0.01."""

Strengths = tuple[float, ...]
"""In every step; one entry if it is the same in all."""
_Key = tuple[tuple[str, Strengths, Strengths], ...]


@dataclass(frozen=True)
class PreparedStack:
    """What the model was given."""

    stack: Stack
    """With the hash of every file that was read; for the clip's record."""
    reports: Mapping[str, MatchReport]
    """By the adapter's name."""


@dataclass
class _Plan:
    """Where each change goes."""

    fused: dict[str, list[tuple[Change, Strengths]]] = field(default_factory=dict)
    beside: dict[str, list[RuntimeLora]] = field(default_factory=dict)

    def scheduled(self) -> dict[str, list[tuple[Change, Strengths]]]:
        """The parameters that are written again in the course of a clip."""
        return {
            name: changes for name, changes in self.fused.items() if any(len(strengths) > 1 for _, strengths in changes)
        }


class AdapterManager:
    """The adapters of one transformer.

    Args:
        transformer: loaded, whole or sharded over ranks, and with no other adapters in it. On several ranks each has a
            manager, and all are asked the same in the same order.
        find: path of the adapter that has a name; raises `JobError` if there is none.
        pristine: gives pristine weights again (see `WeightFuser`).
        worker: where weights are changed (see `WeightFuser`).
        shapes: official shapes, if the weights are quantised and no longer say.
        at_rest: within it the weights may be changed while the model is in use, if they are away from home then.
    """

    def __init__(
        self,
        transformer: nn.Module,
        find: Callable[[str], Path],
        *,
        pristine: Mapping[str, Tensor] | None = None,
        worker: torch.device | None = None,
        shapes: Mapping[str, Shape] | None = None,
        at_rest: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        parameters = dict(transformer.named_parameters())
        self.names = NameMap(shapes or {name: tuple(parameter.shape) for name, parameter in parameters.items()})
        self._transformer = transformer
        self._at_rest = at_rest
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
        """Bring the model to the first step of a clip with this stack.

        Raises:
            JobError: a file is missing, damaged, not the one that the clip was made with, or does not fit. The model
                then is as it was, or pristine if it had been touched already.
        """
        uses = [use for use in stack if not use.zero]
        paths = {use.name: self._find(use.name) for use in uses}
        _refuse_twice(paths)
        hashes = {use.name: _sha256(use, locate(paths[use.name])) for use in uses}
        key = tuple(sorted((hashes[use.name], use.video.over(steps), use.audio.over(steps)) for use in uses))
        if key != self._key:
            self._apply(uses, paths, hashes, steps, key)
        self.set_step(0)
        named = tuple(replace(use, sha256=hashes.get(use.name, use.sha256)) for use in stack)
        return PreparedStack(named, {use.name: self._reports[hashes[use.name]] for use in uses})

    def set_step(self, step: int) -> bool:
        """Use the strengths of a step, counted from 0; returns whether anything changed.

        What was computed from the weights before, such as `prepare_text`, is out of date after a change.
        """
        if not self._has_schedule or step == self._step:
            return False
        before, self._step = self._step, step
        if _at(self._key, before) == _at(self._key, step):
            return False
        try:
            reshard(self._transformer)
            if self._scheduled:
                with self._at_rest():
                    self._fuser.write(self._weighted(self._scheduled, step))
        except BaseException:
            self.clear()
            raise
        self._runtime.set_step(step)
        return True

    @property
    def in_use(self) -> bool:
        """Whether any adapter changes the model now."""
        return bool(self._key)

    @property
    def runtime_bytes(self) -> int:
        """Of the adapters that run beside the layers now; they are on the device whenever the model is in use."""
        return self._runtime.size

    def clear(self) -> None:
        """Make the model as if no adapter had ever been used."""
        self._key, self._has_schedule, self._scheduled, self._reports = (), False, {}, {}
        self._step = 0
        reshard(self._transformer)
        self._runtime.remove()
        self._fuser.restore(self._fuser.touched)

    def _apply(
        self, uses: list[AdapterUse], paths: Mapping[str, Path], hashes: Mapping[str, str], steps: int, key: _Key
    ) -> None:
        # Everything is read before anything is touched: a bad file leaves the model as it is.
        adapters = {use.name: self._read(paths[use.name], hashes[use.name]) for use in uses}
        plan = self._plan(uses, adapters, steps)
        try:
            reshard(self._transformer)
            self._runtime.remove()
            self._fuser.restore(self._fuser.touched - plan.fused.keys())
            self._fuser.write(self._weighted(plan.fused, 0))
            if plan.beside:
                self._runtime.inject(plan.beside, self._compute_dtype())
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
            if isinstance(change, RuntimeChange) and self._runs_beside(parameter, strengths):
                plan.beside.setdefault(parameter.removesuffix(".weight"), []).append(RuntimeLora(change, strengths))
            else:
                plan.fused.setdefault(parameter, []).append((change, strengths))
        return plan

    def _runs_beside(self, parameter: str, strengths: Strengths) -> bool:
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


def _refuse_twice(paths: Mapping[str, Path]) -> None:
    """A file under two names would act with the sum of both strengths."""
    seen: dict[Path, str] = {}
    for name, path in paths.items():
        if other := seen.get(path):
            raise JobError(f"{other} and {name} are the same adapter; give it one strength.")
        seen[path] = name


def _in_step(strengths: Strengths, step: int) -> float:
    return strengths[step] if len(strengths) > 1 else strengths[0]


def _at(key: _Key, step: int) -> list[tuple[float, float]]:
    return [(_in_step(video, step), _in_step(audio, step)) for _, video, audio in key]


def _sha256(use: AdapterUse, files: AdapterFiles) -> str:
    """The file's hash, checked against the one that the clip asks for."""
    try:
        config = None if files.config is None else file_sha256(files.config)
        found = combined_sha256(file_sha256(files.weights), config)
    except OSError as error:
        raise JobError(
            f"Adapter {use.name} cannot be read ({error.strerror}); check that it is still there."
        ) from error
    if use.sha256 not in (None, found):
        raise JobError(
            f"Adapter {use.name} is another file than the one that the clip asks for: its SHA-256 is {found}, "
            f"not {use.sha256}; put that file back, or choose the adapter again."
        )
    return found
