"""What the engine's loop asks to make clips, and the one that does it with the models. Imports torch only when made.

A maker is a function of a spec and a `Report`; it tells the report what it is doing, and whatever the report raises
ends the clip. Tests put a maker of their own in its place, by its dotted name.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ovi_studio.capacity.layouts import PLANNED, ShardingOptions
from ovi_studio.capacity.tiers import AUTO
from ovi_studio.core.clip import Clip
from ovi_studio.core.spec import ClipSpec
from ovi_studio.distributed.ranks import join_ranks
from ovi_studio.models.attention_kernels import NATIVE
from ovi_studio.queue.model import Phase

if TYPE_CHECKING:
    from torch import Tensor

    from ovi_studio.sampling.denoise import Step

DEFAULT_MAKER = "ovi_studio.runtime.runner:ModelMaker"


class Report(Protocol):
    """Hears what a maker does."""

    def phase(self, phase: Phase) -> None:
        """Something else than denoising begins."""

    def step(self, index: int, total: int, latents: "Tensor | None" = None) -> None:
        """A step, from 1 to `total`, is done; the latents of the video are (channels, frames, height, width)."""

    def decoded(self, fraction: float) -> None:
        """So much of the picture is decoded."""


Maker = Callable[[ClipSpec, Report], Clip]


@runtime_checkable
class TieredMaker(Protocol):
    """A maker that can do with less memory."""

    @property
    def tier(self) -> str | None:
        """The memory tier of the models that are or were to be loaded; None where less would not help."""

    def use_tier(self, name: str, lacked: str) -> None:
        """Load the models in this tier from now on, since `lacked` was not enough."""


@dataclass(frozen=True)
class MakerOptions:
    """What a maker is made with; the same choices as on the command line."""

    checkpoint_directory: Path
    attention: str = NATIVE
    compiled: bool | None = None
    offloaded: bool = False
    adapter_directory: Path | None = None
    """None is the default one (see `adapters.library`)."""
    gpus: int | None = None
    """That make a clip together; None: as many as there are and can share one."""
    sharding: ShardingOptions = PLANNED
    """How the weights lie on them."""
    weights: str = AUTO
    memory: str = AUTO
    tf32: bool = False
    lacked: tuple[str, ...] = ()
    """Ways to use the memory that were tried before and were not enough."""


class ModelMaker:
    """Makes clips with the models of one variant at a time, which stay loaded until another one is asked for."""

    def __init__(self, options: MakerOptions) -> None:
        from ovi_studio.runtime.generate import Generator
        from ovi_studio.runtime.pipeline import Compute

        compute = Compute.default(
            attention=options.attention,
            compiled=options.compiled,
            offloaded=options.offloaded,
            sharding=options.sharding,
            weights=options.weights,
            memory=options.memory,
            tf32=options.tf32,
            lacked=options.lacked,
        )
        self._generator = Generator(
            options.checkpoint_directory, compute, options.adapter_directory, ranks=join_ranks()
        )
        self._loaded: str | None = None
        self._asked: str | None = None
        """The variant that was to be used last."""

    @property
    def tier(self) -> str | None:
        """See `TieredMaker`."""
        return None if self._asked is None else self._generator.tier(self._asked)

    def use_tier(self, name: str, lacked: str) -> None:
        """See `TieredMaker`."""
        self._generator.use_tier(name, lacked)
        self._loaded = None

    def __call__(self, spec: ClipSpec, report: Report) -> Clip:
        """Make a clip; raises `JobError`, and whatever `report` raises."""
        self._asked = spec.variant
        if spec.variant != self._loaded:
            report.phase(Phase.LOADING)
            self._loaded = None
            self._generator.pipeline(spec.variant)
            self._loaded = spec.variant
        report.phase(Phase.TEXT)

        def on_step(step: "Step") -> None:
            report.step(step.index, step.total, step.latents.video)

        return self._generator.pipeline(spec.variant)(spec, on_step, report.decoded)


def build_maker(name: str, options: MakerOptions) -> Maker:
    """The maker that `module:factory` makes."""
    module, _, attribute = name.partition(":")
    factory: Any = getattr(importlib.import_module(module), attribute)
    return factory(options)
