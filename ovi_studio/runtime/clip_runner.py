"""`ClipRunner`: makes clips, for the command line, the engine, and each of several ranks.

It checks a request before models are loaded, keeps the models of one variant in memory, tells a `ProgressSink` what it
does, notices that memory ran out and knows what takes less, and writes the file. Imports torch only with the models.
"""

import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.core.allocator import free_unused_memory
from ovi_studio.core.clip import Clip
from ovi_studio.core.errors import JobError, Stopped, is_out_of_memory
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import find_variant
from ovi_studio.distributed.ranks import ALONE, RankGroup, Ranks
from ovi_studio.media.clip_files import check_writable, write_clip
from ovi_studio.media.pictures import read_picture
from ovi_studio.queue.model import ClipPhase
from ovi_studio.runtime.lockstep import dismiss, run_follower, run_leader
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.progress import ProgressSink, StepSink
from ovi_studio.runtime.way_down import StepDown, below_sharding, below_tier, shortage_advice

if TYPE_CHECKING:
    from ovi_studio.runtime.pipeline import Pipeline
    from ovi_studio.sampling.denoise import Step

log = logging.getLogger(__name__)

OVI_MODELS = "ovi_studio.runtime.clip_runner:OviModels"
"""Where the models of a variant come from; tests name others."""


class OutOfMemory(MemoryError):
    """A clip needs more memory than there is; whatever it held is free again."""


class LoadedModels(Protocol):
    """The models of one variant, such as `Pipeline`."""

    @property
    def tier(self) -> str | None:
        """The memory tier that they were loaded for; None where a smaller one would not help."""

    def __call__(
        self,
        spec: ClipSpec,
        on_step: "Callable[[Step], None] | None" = None,
        on_decoded: Callable[[float], None] | None = None,
    ) -> Clip:
        """Make a clip; raises `JobError`, and whatever the callbacks raise."""


class ModelSource(Protocol):
    """Loads models."""

    def load(self, variant: str, options: RuntimeOptions, ranks: Ranks, lacked: tuple[str, ...]) -> LoadedModels:
        """Raises `JobError` if they are not complete; `lacked` is for the clips' records, see `ClipRunner`."""

    def tier(self, variant: str, options: RuntimeOptions) -> str | None:
        """The memory tier that they would be loaded for by one process; None where there are no tiers."""


class OviModels:
    """The `ModelSource` with checkpoints."""

    def load(self, variant: str, options: RuntimeOptions, ranks: Ranks, lacked: tuple[str, ...]) -> "Pipeline":
        """See `ModelSource`."""
        from ovi_studio.checkpoints.layout import require
        from ovi_studio.runtime.pipeline import Compute, Pipeline

        inventory = require(variant, options.checkpoints)
        return Pipeline.load(inventory, Compute.of(options, lacked), AdapterLibrary(options.adapters).path, ranks)

    def tier(self, variant: str, options: RuntimeOptions) -> str | None:
        """See `ModelSource`."""
        from ovi_studio.runtime.pipeline import Compute
        from ovi_studio.runtime.placement import choose_plan

        device = Compute.of(options).device
        if device.type != "cuda":
            return None
        found = find_variant(variant, options.checkpoints)
        return choose_plan(found, device, options.memory, options.weights).tier.name


class ClipRunner:
    """Makes clips, one at a time.

    Args:
        models: `module:class` of the `ModelSource`.
        ranks: those that make each clip together; all but the leader `follow`.
        lacked: ways to use the memory that were not enough before.
    """

    def __init__(
        self,
        options: RuntimeOptions,
        *,
        models: str = OVI_MODELS,
        ranks: Ranks = ALONE,
        lacked: tuple[str, ...] = (),
    ) -> None:
        self.options = options
        self.variant: str | None = None
        """Whose models are loaded."""
        self.in_step = True
        """False after an error that the other ranks do not share: nothing can be made any more."""
        self._adapters = AdapterLibrary(options.adapters)
        self._source: ModelSource = _find(models)()
        self._ranks = ranks
        self._lacked = lacked
        self._models: LoadedModels | None = None
        self._asked: str | None = None
        """The variant that was to be used last."""

    def make(
        self,
        spec: ClipSpec,
        directory: Path,
        progress: ProgressSink | None = None,
        on_step_down: Callable[[StepDown], None] | None = None,
    ) -> Path:
        """Make a clip and write it; returns its path.

        Args:
            on_step_down: told when memory ran out and the clip is made again with less; None: it is not.

        Raises `JobError`, and whatever `progress` raises.
        """
        check_writable(directory)
        while (path := self._attempt(spec, directory, progress)) is None:
            below = self.way_down()
            if below is None or on_step_down is None or not self.alone:
                by_itself = "leave --no-step-down out" if below is not None and self.alone else None
                raise JobError(shortage_advice(below, offloaded=self.options.offloaded, by_itself=by_itself))
            self.step_down(below)
            on_step_down(below)
        return path

    def _attempt(self, spec: ClipSpec, directory: Path, progress: ProgressSink | None) -> Path | None:
        """None if memory ran out; what the error held on to is free when this returns."""
        try:
            return write_clip(self.run(spec, progress), directory)
        except MemoryError:
            return None

    def run(self, spec: ClipSpec, progress: ProgressSink | None = None) -> Clip:
        """Make a clip. Raises `JobError`, `OutOfMemory`, and whatever `progress` raises."""
        self._check(spec)
        try:
            return self._lead(spec, progress or StepSink())
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            log.warning("Memory ran out: %s", error)
        # Only here the error is gone, and with it what held on to the memory.
        free_unused_memory()
        raise OutOfMemory

    @property
    def alone(self) -> bool:
        """Whether this process makes clips by itself."""
        return self._ranks.count == 1

    def follow(self) -> None:
        """Make what the leader makes until it has nothing more to say."""
        run_follower(self._produce, _several(self._ranks))

    def way_down(self) -> StepDown | None:
        """What would take less memory than what was tried last; None if nothing is known to."""
        if not self.alone:
            return below_sharding(self.options)
        if self._models is not None:
            tier = self._models.tier
        else:  # it ran out while they were loaded
            tier = None if self._asked is None else self._source.tier(self._asked, self.options)
        return None if tier is None else below_tier(self.options, tier)

    def step_down(self, step: StepDown) -> None:
        """Load models with less memory from now on; of one rank."""
        self.options = step.options
        self._lacked = (*self._lacked, step.lacked)
        self._drop()

    def on_peer_loss(self, call: Callable[[bool], None]) -> None:
        """Have something done before this process ends because a rank is gone: it is told whether memory was short.

        It is called in another thread, while this one waits for that rank.
        """
        if isinstance(self._ranks, RankGroup):
            ranks = self._ranks
            ranks.watchdog.on_peer_loss = lambda: call(ranks.ran_out_of_memory())

    def close(self) -> None:
        """Let the other ranks go."""
        if isinstance(self._ranks, RankGroup) and self.in_step:
            dismiss(self._ranks)

    def _check(self, spec: ClipSpec) -> None:
        """Raises `JobError` before models are loaded, which takes minutes."""
        if spec.image is not None:
            read_picture(spec.image)
        for use in spec.stack:
            if not use.zero:
                self._adapters.find(use.name)

    def _lead(self, spec: ClipSpec, progress: ProgressSink) -> Clip:
        if self.alone:
            return self._produce(spec, progress)
        self.in_step = False
        try:
            clip = run_leader(self._produce, _several(self._ranks), spec, progress)
        except (JobError, Stopped):
            self.in_step = True
            raise
        self.in_step = True
        return clip

    def _produce(self, spec: ClipSpec, progress: ProgressSink) -> Clip:
        """On this rank."""
        self._asked = spec.variant
        models = self._models_of(spec.variant, progress)
        progress.phase(ClipPhase.TEXT)

        def on_step(step: "Step") -> None:
            progress.step(step.index, step.total, step.latents.video)

        return models(spec, on_step, progress.decoded)

    def _models_of(self, variant: str, progress: ProgressSink) -> LoadedModels:
        if self._models is None or self.variant != variant:
            progress.phase(ClipPhase.LOADING)
            self._drop()  # two variants do not fit into memory together
            self._models = self._source.load(variant, self.options, self._ranks, self._lacked)
            self.variant = variant
        return self._models

    def _drop(self) -> None:
        self._models = self.variant = None
        free_unused_memory()


def _find(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _several(ranks: Ranks) -> RankGroup:
    if not isinstance(ranks, RankGroup):
        raise TypeError("this process is not one of several ranks")
    return ranks
