"""`ClipRunner`: makes clips, for the command line, the engine, and each of several ranks.

It checks a request before models are loaded, keeps the models of one variant in memory, reports to a `ProgressSink`,
detects that memory ran out and knows which options need less, and writes the file. Imports torch only with the models.
"""

import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.core.allocator import free_unused_memory
from ovi_studio.core.clip import Clip, NewFrameSink
from ovi_studio.core.errors import JobError, Stopped, is_out_of_memory
from ovi_studio.core.imports import without_collecting
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import find_variant
from ovi_studio.distributed.ranks import ALONE, RankGroup, Ranks
from ovi_studio.media.clip_files import PICTURES_FOLDER, check_writable, write_clip, write_clip_as
from ovi_studio.media.film import Film
from ovi_studio.media.frame_array import FrameArray
from ovi_studio.media.pictures import read_first_frame
from ovi_studio.media.sources import check_source
from ovi_studio.queue.model import ClipPhase
from ovi_studio.runtime.first_frames import FirstFrames
from ovi_studio.runtime.lockstep import dismiss, run_follower, run_leader
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.progress import ProgressSink, StepSink
from ovi_studio.runtime.step_down import StepDown, below_sharding, below_tier, out_of_memory_advice

if TYPE_CHECKING:
    from ovi_studio.runtime.pipeline import Pipeline
    from ovi_studio.sampling.denoise import Step

log = logging.getLogger(__name__)

OVI_MODELS = "ovi_studio.runtime.clip_runner:OviModels"
"""The source of the models; tests name others."""


class OutOfMemory(MemoryError):
    """A clip needs more memory than there is; the memory that it held is free again."""


class LoadedModels(Protocol):
    """The models of one variant, such as `Pipeline`."""

    @property
    def tier(self) -> str | None:
        """The memory tier that the models were loaded for; None if a smaller tier would not help."""

    def __call__(
        self,
        spec: ClipSpec,
        on_step: "Callable[[Step], None] | None" = None,
        on_decoded: Callable[[float], None] | None = None,
        new_sink: NewFrameSink = FrameArray,
    ) -> Clip:
        """Make a clip; raises `JobError`, and what the callbacks raise."""


@runtime_checkable
class CompilingModels(Protocol):
    """`LoadedModels` that may compile code while they make a clip."""

    on_compiling: Callable[[], None]
    """Called before that; what it raises ends the clip."""


class ModelSource(Protocol):
    """Loads models."""

    def load(self, variant: str, options: RuntimeOptions, ranks: Ranks, exhausted: tuple[str, ...]) -> LoadedModels:
        """Load the models of a variant; raises `JobError` if files are missing.

        Args:
            exhausted: for the clips' records, see `ClipRunner`.
        """

    def tier(self, variant: str, options: RuntimeOptions) -> str | None:
        """Return the memory tier that a single process would load the models for; None where there are no tiers."""


class OviModels:
    """The `ModelSource` that loads checkpoints."""

    def load(self, variant: str, options: RuntimeOptions, ranks: Ranks, exhausted: tuple[str, ...]) -> "Pipeline":
        """See `ModelSource`."""
        with without_collecting():
            from ovi_studio.checkpoints.layout import require
            from ovi_studio.runtime.compute import Compute
            from ovi_studio.runtime.pipeline import Pipeline

        inventory = require(variant, options.checkpoints)
        return Pipeline.load(inventory, Compute.of(options, exhausted), AdapterLibrary(options.adapters).path, ranks)

    def tier(self, variant: str, options: RuntimeOptions) -> str | None:
        """See `ModelSource`."""
        with without_collecting():
            from ovi_studio.runtime.compute import Compute
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
        ranks: the ranks that make each clip together; all but the leader call `follow`.
        exhausted: memory tiers or fallbacks that ran out of memory before.
        new_sink: where the frames of a clip go; a film encodes them as they come and keeps only a few.
    """

    def __init__(
        self,
        options: RuntimeOptions,
        *,
        models: str = OVI_MODELS,
        ranks: Ranks = ALONE,
        exhausted: tuple[str, ...] = (),
        new_sink: NewFrameSink = Film,
    ) -> None:
        self.options = options
        self.variant: str | None = None
        """The variant whose models are loaded."""
        self.in_step = True
        """False after an error that the other ranks do not share: no more clips can be made."""
        self._adapters = AdapterLibrary(options.adapters)
        self._source: ModelSource = _import(models)()
        self._ranks = ranks
        self._exhausted = exhausted
        self._new_sink = new_sink
        self._models: LoadedModels | None = None
        self._first_frames = FirstFrames(self.unload)
        self._requested: str | None = None
        """The variant that was requested last."""

    def make(
        self,
        spec: ClipSpec,
        directory: Path,
        progress: ProgressSink | None = None,
        on_step_down: Callable[[StepDown], None] | None = None,
        *,
        file: Path | None = None,
    ) -> Path:
        """Make a clip and write it; returns its path.

        Args:
            file: the path of the mp4 in `directory`, instead of a name made from the prompt.
            on_step_down: called when memory ran out, before the clip is made again with less; None: do not try again.

        Raises `JobError`, and what `progress` raises.
        """
        check_writable(directory)
        spec = self.draw(spec, directory / PICTURES_FOLDER, progress)
        while (path := self._attempt(spec, directory, progress, file)) is None:
            below = self.next_step_down()
            if below is None or on_step_down is None or not self.alone:
                automatic = "leave out --no-step-down" if below is not None and self.alone else None
                raise JobError(out_of_memory_advice(below, offloaded=self.options.offloaded, automatic=automatic))
            self.step_down(below)
            on_step_down(below)
        return path

    def _attempt(
        self, spec: ClipSpec, directory: Path, progress: ProgressSink | None, file: Path | None
    ) -> Path | None:
        """Return None if memory ran out; the memory that the error kept alive is free when this returns."""
        try:
            clip = self.run(spec, progress)
            return write_clip(clip, directory) if file is None else write_clip_as(clip, file)
        except MemoryError:
            return None

    def draw(self, spec: ClipSpec, folder: Path, progress: ProgressSink | None = None) -> ClipSpec:
        """Draw the first frame if the clip asks for one; returns the clip with the picture, which is in `folder`.

        On several ranks the leader draws, and the others wait. Raises `JobError`, and what `progress` raises.
        """
        if spec.to_draw is None:
            return spec
        self._check(spec)
        loaded = self._models is not None and self.variant == spec.variant
        return self._first_frames.draw(spec, self.options, folder, progress or StepSink(), loaded=loaded)

    def run(self, spec: ClipSpec, progress: ProgressSink | None = None) -> Clip:
        """Make a clip, whose first frame is drawn if it has one. Raises `JobError`, `OutOfMemory`, and what `progress`
        raises."""
        if spec.to_draw is not None:
            raise ValueError("the clip's first frame must be drawn first")
        self._check(spec)
        try:
            return self._run(spec, progress or StepSink())
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            log.warning("Memory ran out: %s", error)
        # Only here the error is gone, and with it the references that kept memory alive.
        free_unused_memory()
        raise OutOfMemory

    @property
    def alone(self) -> bool:
        """Whether this process makes clips without other ranks."""
        return self._ranks.count == 1

    def follow(self) -> None:
        """Make the same clips as the leader until it closes its runner."""
        run_follower(self._produce, _require_group(self._ranks))

    def next_step_down(self) -> StepDown | None:
        """Return options that need less memory than those that were tried last; None if there are none."""
        if not self.alone:
            return below_sharding(self.options)
        if self._models is not None:
            tier = self._models.tier
        else:  # memory ran out while models were loaded
            tier = None if self._requested is None else self._source.tier(self._requested, self.options)
        return None if tier is None else below_tier(self.options, tier)

    def step_down(self, step: StepDown) -> None:
        """Load models with less memory from now on; for a single rank."""
        self.options = step.options
        self._exhausted = (*self._exhausted, step.exhausted)
        self._drop()

    def unload(self) -> None:
        """Free the memory of the models, which are loaded again for the next clip; does nothing for several ranks."""
        if self.alone:
            self._drop()

    def on_peer_loss(self, call: Callable[[bool], None]) -> None:
        """Set a callback for the loss of another rank, which ends this process.

        Its argument says whether a rank ran out of memory. It is called in another thread, while this one waits.
        """
        if isinstance(self._ranks, RankGroup):
            ranks = self._ranks
            ranks.watchdog.on_peer_loss = lambda: call(ranks.ran_out_of_memory())

    def close(self) -> None:
        """Dismiss the other ranks."""
        if isinstance(self._ranks, RankGroup) and self.in_step:
            dismiss(self._ranks)

    def _check(self, spec: ClipSpec) -> None:
        """Raise `JobError` for a bad spec before models are loaded, which takes minutes."""
        read_first_frame(spec)
        if spec.source is not None:
            check_source(spec, find_variant(spec.variant, self.options.checkpoints))
        for use in spec.stack:
            if not use.zero:
                self._adapters.find(use.name)

    def _run(self, spec: ClipSpec, progress: ProgressSink) -> Clip:
        if self.alone:
            return self._produce(spec, progress)
        self.in_step = False
        try:
            clip = run_leader(self._produce, _require_group(self._ranks), spec, progress)
        except (JobError, Stopped):
            self.in_step = True
            raise
        self.in_step = True
        return clip

    def _produce(self, spec: ClipSpec, progress: ProgressSink) -> Clip:
        """Make a clip on this rank."""
        self._requested = spec.variant
        models = self._load_models(spec.variant, progress)
        progress.phase(ClipPhase.TEXT)
        if isinstance(models, CompilingModels):
            models.on_compiling = lambda: progress.phase(ClipPhase.COMPILING)

        def on_step(step: "Step") -> None:
            progress.step(step.index, step.total, step.latents.video)

        return models(spec, on_step, progress.decoded, self._new_sink)

    def _load_models(self, variant: str, progress: ProgressSink) -> LoadedModels:
        if self._models is None or self.variant != variant:
            progress.phase(ClipPhase.LOADING)
            self._drop()  # memory does not hold two variants
            self._models = self._source.load(variant, self.options, self._ranks, self._exhausted)
            self.variant = variant
        return self._models

    def _drop(self) -> None:
        self._models = self.variant = None
        free_unused_memory()


def _import(name: str) -> Any:
    """Import `module:attribute`."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _require_group(ranks: Ranks) -> RankGroup:
    if not isinstance(ranks, RankGroup):
        raise TypeError("this process is not one of several ranks")
    return ranks
