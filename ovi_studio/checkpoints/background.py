"""`Downloads`: a background download in the web process, one at a time, that every page can show and cancel.

The state belongs to the server, so it survives a page reload. The download stops when the process ends; partial files
stay, and the next download resumes. Imports no torch.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from ovi_studio.checkpoints.adopt import adopt
from ovi_studio.checkpoints.download import DownloadPlan, DownloadProgress, fetch, plan
from ovi_studio.core.errors import JobError, Stopped
from ovi_studio.core.variants import Variant, published_variants


class DownloadPhase(StrEnum):
    """The phase of a download."""

    NONE = "none"
    ASKING = "asking"
    """Requesting file sizes from the hub."""
    FETCHING = "fetching"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class DownloadState:
    """The state of the current or last download since the start of the process."""

    phase: DownloadPhase = DownloadPhase.NONE
    variant: str = ""
    """The name given to `begin`: a variant, or a preset's adapters."""
    progress: DownloadProgress | None = None
    reason: str = ""
    """Why the download failed, as a sentence."""
    cancelling: bool = False
    revision: int = 0
    """Increases with every change."""

    @property
    def busy(self) -> bool:
        """Whether a download is running."""
        return self.phase in (DownloadPhase.ASKING, DownloadPhase.FETCHING)


def plan_rest(variant: Variant, directory: Path) -> DownloadPlan:
    """Link the files that are elsewhere on this machine, and plan the download of the others; raises `JobError`."""
    adopt(variant, directory)
    return plan(variant, directory)


class Downloads:
    """Downloads published variants, or other files from the hub, into one directory. Thread-safe."""

    def __init__(
        self,
        directory: Path,
        *,
        make_plan: Callable[[Variant, Path], DownloadPlan] = plan_rest,
        execute: Callable[[DownloadPlan, Callable[[DownloadProgress], None]], object] = fetch,
    ) -> None:
        self.directory = directory
        self._make_plan = make_plan
        self._execute = execute
        self._lock = threading.Lock()
        self._state = DownloadState()

    def state(self) -> DownloadState:
        """The current state."""
        return self._state

    def start(self, name: str) -> None:
        """Start or resume the download of a published variant; raises `JobError` if it cannot be started."""
        variant = published_variants().get(name)
        if variant is None:
            raise JobError("There is no such model to download; reload the page.")
        self.begin(name, lambda: self._make_plan(variant, self.directory))

    def begin(self, name: str, make_plan: Callable[[], DownloadPlan]) -> None:
        """Start a download with a display name; raises `JobError` if another one is running."""
        with self._lock:
            if self._state.busy:
                raise JobError(f"{self._state.variant} is being downloaded; wait for it or cancel it first.")
            self._state = DownloadState(DownloadPhase.ASKING, name, revision=self._state.revision + 1)
        threading.Thread(target=self._run, args=(name, make_plan), name="download", daemon=True).start()

    def cancel(self) -> None:
        """Cancel the download; partial files stay."""
        with self._lock:
            if self._state.busy:
                self._change(cancelling=True)

    def _run(self, name: str, make_plan: Callable[[], DownloadPlan]) -> None:
        try:
            planned = make_plan()
            self._report(DownloadProgress("", planned.already, planned.total, 0.0))
            self._execute(planned, self._report)
            self._end(DownloadPhase.DONE)
        except Stopped:
            self._end(DownloadPhase.CANCELLED)
        except JobError as error:
            self._end(DownloadPhase.FAILED, str(error).replace("repeat the command", "press Download again"))
        except Exception:
            # Whatever the error is, the page must not wait forever.
            logging.getLogger(__name__).exception("The download of %s failed", name)
            sentence = "The download ended unexpectedly; press Download again. The log of the page says why."
            self._end(DownloadPhase.FAILED, sentence)

    def _report(self, progress: DownloadProgress) -> None:
        with self._lock:
            if self._state.cancelling:
                raise Stopped
            self._change(phase=DownloadPhase.FETCHING, progress=progress)

    def _end(self, phase: DownloadPhase, reason: str = "") -> None:
        with self._lock:
            self._change(phase=phase, reason=reason, cancelling=False)

    def _change(self, **changes: Any) -> None:
        self._state = replace(self._state, revision=self._state.revision + 1, **changes)
