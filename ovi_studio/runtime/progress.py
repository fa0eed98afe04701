"""`ProgressSink`: hears what is done for a clip. Whatever it raises ends the clip. Imports no torch."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ovi_studio.queue.model import ClipPhase

if TYPE_CHECKING:
    from torch import Tensor


class ProgressSink(Protocol):
    """Where a clip's progress goes; see `core.errors.Stopped` for what it raises to end a clip in order."""

    def phase(self, phase: ClipPhase) -> None:
        """Something else than denoising begins."""

    def step(self, index: int, total: int, latents: "Tensor | None" = None) -> None:
        """A step, from 1 to `total`, is done; the latents of the video are (channels, frames, height, width)."""

    def decoded(self, fraction: float) -> None:
        """So much of the picture is decoded."""


class StepSink:
    """A `ProgressSink` that is interested in the steps alone.

    Args:
        on_step: told the number of the step that is done, from 1, and how many there are; None: nothing is told.
    """

    def __init__(self, on_step: Callable[[int, int], None] | None = None) -> None:
        self._on_step = on_step

    def phase(self, phase: ClipPhase) -> None:
        """See `ProgressSink`."""

    def step(self, index: int, total: int, latents: "Tensor | None" = None) -> None:
        """See `ProgressSink`."""
        if self._on_step is not None:
            self._on_step(index, total)

    def decoded(self, fraction: float) -> None:
        """See `ProgressSink`."""
