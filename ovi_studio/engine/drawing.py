"""Drawing pictures to choose from, between two jobs of an engine."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ovi_studio.core.errors import JobError, Stopped
from ovi_studio.core.spec import ClipSpec
from ovi_studio.queue.database import Database
from ovi_studio.queue.drawings import Candidates, end_candidates, release_candidates, report_candidates
from ovi_studio.queue.model import ClipPhase
from ovi_studio.runtime.progress import ProgressSink, StepSink

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

Draw = Callable[[ClipSpec, Path, ProgressSink], ClipSpec]
"""Draws the first frame that a clip asks for into a folder; returns the clip with it (`ClipRunner.draw`)."""


def draw_candidates(database: Database, request: Candidates, draw: Draw, stopping: Callable[[], bool]) -> None:
    """Draw the pictures of a request; its error is stored with it, and it goes back if the engine is to end."""
    drawn: list[ClipSpec] = []
    try:
        for spec in request.specs():
            drawn.append(draw(spec, database.paths.drawings, _Sink(database, request, drawn, stopping)))
    except Stopped:
        if stopping():
            release_candidates(database, request.id)
    except JobError as error:
        log.warning("The pictures %s were not drawn: %s", request.id, error)
        end_candidates(database, request.id, drawn, str(error))
    else:
        end_candidates(database, request.id, drawn)


class _Sink(StepSink):
    """Reports the steps of a picture; raises `Stopped` when no more are wanted."""

    def __init__(
        self, database: Database, request: Candidates, drawn: list[ClipSpec], stopping: Callable[[], bool]
    ) -> None:
        super().__init__()
        self._database, self._request, self._drawn, self._stopping = database, request, drawn, stopping

    def phase(self, phase: ClipPhase) -> None:
        """See `ProgressSink`."""
        self._report(0, 0)

    def drawn(self, index: int, total: int, latents: "Tensor | None" = None) -> None:
        """See `ProgressSink`."""
        self._report(index, total)

    def _report(self, step: int, total: int) -> None:
        wanted = report_candidates(self._database, self._request.id, step, total, self._drawn)
        if self._stopping() or not wanted:
            raise Stopped
