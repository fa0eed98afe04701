"""`ProgressSink`: receives the progress of a clip. An exception that it raises ends the clip. Imports no torch."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ovi_studio.queue.model import ClipPhase

if TYPE_CHECKING:
    from torch import Tensor


class ProgressSink(Protocol):
    """Receives a clip's progress; raises `core.errors.Stopped` to end the clip cleanly."""

    def phase(self, phase: ClipPhase) -> None:
        """A phase other than denoising begins."""

    def drawn(self, index: int, total: int, latents: "Tensor | None" = None) -> None:
        """Step `index`, from 1 to `total`, of drawing the first frame is done.

        Latents are (channels, 1, height, width); None if they cannot be shown.
        """

    def step(self, index: int, total: int, latents: "Tensor | None" = None) -> None:
        """Step `index`, from 1 to `total`, is done; the video latents are (channels, frames, height, width)."""

    def decoded(self, fraction: float) -> None:
        """This fraction of the picture is decoded."""


class StepSink:
    """A `ProgressSink` that reports only steps.

    Args:
        on_step: called with the number of the completed step, from 1, and the total; None: reports nothing.
        on_drawn: the same for the steps of drawing the first frame.
    """

    def __init__(
        self,
        on_step: Callable[[int, int], None] | None = None,
        on_drawn: Callable[[int, int], None] | None = None,
    ) -> None:
        self._on_step = on_step
        self._on_drawn = on_drawn

    def phase(self, phase: ClipPhase) -> None:
        """See `ProgressSink`."""

    def drawn(self, index: int, total: int, latents: "Tensor | None" = None) -> None:
        """See `ProgressSink`."""
        if self._on_drawn is not None:
            self._on_drawn(index, total)

    def step(self, index: int, total: int, latents: "Tensor | None" = None) -> None:
        """See `ProgressSink`."""
        if self._on_step is not None:
            self._on_step(index, total)

    def decoded(self, fraction: float) -> None:
        """See `ProgressSink`."""
