"""The service behind every way to make clips: specs in, files out, the models loaded once for each variant."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ovi_studio.adapters.library import AdapterLibrary, default_adapter_directory
from ovi_studio.capacity.advice import shortage_advice
from ovi_studio.capacity.fallback import MemoryFallback
from ovi_studio.capacity.tiers import Tier, tier_below
from ovi_studio.checkpoints.layout import require
from ovi_studio.core.allocator import free_unused_memory
from ovi_studio.core.clip import Clip
from ovi_studio.core.errors import JobError, is_out_of_memory
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import find_variant
from ovi_studio.distributed.ranks import ALONE, Ranks
from ovi_studio.media.clip_files import check_writable, write_clip
from ovi_studio.media.pictures import read_picture
from ovi_studio.runtime.pipeline import Compute, Pipeline
from ovi_studio.runtime.placement import choose_plan
from ovi_studio.sampling.denoise import OnStep

log = logging.getLogger(__name__)

PICTURES_FOLDER = "pictures"
"""Below the output folder: first frames that came out of mp4 files."""


@dataclass(frozen=True)
class Failure:
    """A clip that could not be made; the others go on."""

    spec: ClipSpec
    reason: str


class Generator:
    """Makes clips with one variant's models in memory at a time.

    Args:
        adapter_directory: None is the default one (see `adapters.library`).
        ranks: those that make each clip together with this process.
        make: makes the clips in place of `pipeline`: the leader of several ranks.
        on_step_down: told in a sentence when memory ran out and a clip is made again in a smaller tier; None: it is
            not made again.
    """

    def __init__(
        self,
        checkpoint_directory: Path,
        compute: Compute,
        adapter_directory: Path | None = None,
        *,
        ranks: Ranks = ALONE,
        make: Callable[[ClipSpec, OnStep | None], Clip] | None = None,
        on_step_down: Callable[[str], None] | None = None,
    ) -> None:
        self.checkpoint_directory = checkpoint_directory
        self.compute = compute
        self.adapters = AdapterLibrary(adapter_directory or default_adapter_directory())
        self._ranks = ranks
        self._make = make or (lambda spec, on_step: self.pipeline(spec.variant)(spec, on_step))
        self._on_step_down = on_step_down
        self._pipeline: Pipeline | None = None

    def pipeline(self, variant_name: str) -> Pipeline:
        """The pipeline of a variant, loaded if it is not the one in use; raises `JobError` if it is not complete."""
        if self._pipeline is None or self._pipeline.variant.name != variant_name:
            inventory = require(variant_name, self.checkpoint_directory)
            self._drop()  # two variants do not fit into memory together
            self._pipeline = Pipeline.load(inventory, self.compute, self.adapters.path, self._ranks)
        return self._pipeline

    def make(self, spec: ClipSpec, directory: Path, on_step: OnStep | None = None) -> Path:
        """Make one clip and write it; returns its path. Raises `JobError`, and whatever `on_step` raises."""
        # Before models are loaded, which takes minutes.
        check_writable(directory)
        if spec.image is not None:
            read_picture(spec.image)
        for use in spec.stack:
            if not use.zero:
                self.adapters.find(use.name)
        while (clip := self._attempt(spec, on_step)) is None:
            free_unused_memory()
            self._step_down(spec.variant)
        return write_clip(clip, directory)

    def _attempt(self, spec: ClipSpec, on_step: OnStep | None) -> Clip | None:
        """The clip; None if memory ran out. What the error held on to is free when this returns."""
        try:
            return self._make(spec, on_step)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            log.warning("Memory ran out: %s", error)
            return None

    def _step_down(self, variant_name: str) -> None:
        """Go on in the next smaller tier; raises `JobError` with advice if there is none, or if it is not wanted."""
        below = self._below(variant_name)
        if self._on_step_down is None or not isinstance(below, Tier):
            by_itself = "leave --no-step-down out" if isinstance(below, Tier) else None
            raise JobError(shortage_advice(below, offloaded=self.compute.offloaded, by_itself=by_itself))
        lacked = self.tier(variant_name)
        self.use_tier(below.name, lacked)
        self._on_step_down(f"Memory ran out in tier {lacked}; the clip is made again in tier {below.name}.")

    def tier(self, variant_name: str) -> str | None:
        """The memory tier in which a variant's models are or would be loaded; None where there are no tiers."""
        if self.compute.device.type != "cuda" or self._ranks.count > 1:
            return None
        if self._pipeline is not None and self._pipeline.variant.name == variant_name:
            return self._pipeline.plan.tier.name
        variant = find_variant(variant_name, self.checkpoint_directory)
        return choose_plan(variant, self.compute.device, self.compute.memory, self.compute.weights).tier.name

    def _below(self, variant_name: str) -> Tier | MemoryFallback | None:
        """What would take less memory."""
        if self._ranks.count > 1:
            return MemoryFallback(self.compute.sharding, self.compute.weights).below()
        tier = self.tier(variant_name)
        return None if tier is None else tier_below(tier)

    def use_tier(self, name: str, lacked: str) -> None:
        """Load models in this memory tier from now on, since another one was not enough."""
        self.compute = replace(self.compute, memory=name, lacked=(*self.compute.lacked, lacked))
        self._drop()

    def _drop(self) -> None:
        self._pipeline = None
        free_unused_memory()

    def make_all(
        self,
        specs: Iterable[ClipSpec],
        directory: Path,
        announce: Callable[[ClipSpec], OnStep | None],
        on_result: Callable[[Path | Failure], None],
    ) -> None:
        """Make clips one after the other; a failed one is passed to `on_result` with its reason."""
        for spec in specs:
            try:
                on_result(self.make(spec, directory, announce(spec)))
            except JobError as error:
                on_result(Failure(spec, str(error)))
