"""`Downloads`: a download in a thread of the web process, one at a time, that every page sees and can stop.

The state is the server's, so a reload shows it again. A process that ends stops the download; what has arrived stays,
and the next one resumes. Imports no torch.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from ovi_studio.checkpoints.download import DownloadPlan, DownloadProgress, fetch, plan
from ovi_studio.core.errors import JobError, Stopped
from ovi_studio.core.variants import Variant, published_variants


class DownloadPhase(StrEnum):
    """Where a download is."""

    NONE = "none"
    ASKING = "asking"
    """The hub is asked for sizes."""
    FETCHING = "fetching"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class DownloadState:
    """The last download since the start."""

    phase: DownloadPhase = DownloadPhase.NONE
    variant: str = ""
    """What is downloaded, as it was begun: a variant, or a preset's adapters."""
    progress: DownloadProgress | None = None
    reason: str = ""
    """Why it failed: a sentence."""
    cancelling: bool = False
    revision: int = 0
    """Grows with every change."""

    @property
    def busy(self) -> bool:
        return self.phase in (DownloadPhase.ASKING, DownloadPhase.FETCHING)


class Downloads:
    """Brings published variants, or other files of the hub, into one directory. Thread-safe."""

    def __init__(
        self,
        directory: Path,
        *,
        find: Callable[[Variant, Path], DownloadPlan] = plan,
        bring: Callable[[DownloadPlan, Callable[[DownloadProgress], None]], object] = fetch,
    ) -> None:
        self.directory = directory
        self._find = find
        self._bring = bring
        self._lock = threading.Lock()
        self._state = DownloadState()

    def state(self) -> DownloadState:
        """How it is now."""
        return self._state

    def start(self, name: str) -> None:
        """Begin, or go on with, the download of a published variant; raises `JobError` if it cannot be begun."""
        variant = published_variants().get(name)
        if variant is None:
            raise JobError("There is no such model to download; look again.")
        self.begin(name, lambda: self._find(variant, self.directory))

    def begin(self, name: str, find: Callable[[], DownloadPlan]) -> None:
        """Begin a download under a name for people; raises `JobError` if another one is going on."""
        with self._lock:
            if self._state.busy:
                raise JobError(f"{self._state.variant} is being downloaded; wait for it or cancel it first.")
            self._state = DownloadState(DownloadPhase.ASKING, name, revision=self._state.revision + 1)
        threading.Thread(target=self._run, args=(name, find), name="download", daemon=True).start()

    def cancel(self) -> None:
        """Let the download end; what has arrived stays."""
        with self._lock:
            if self._state.busy:
                self._change(cancelling=True)

    def _run(self, name: str, find: Callable[[], DownloadPlan]) -> None:
        try:
            wanted = find()
            self._report(DownloadProgress("", wanted.already, wanted.total, 0.0))
            self._bring(wanted, self._report)
            self._end(DownloadPhase.DONE)
        except Stopped:
            self._end(DownloadPhase.CANCELLED)
        except JobError as error:
            self._end(DownloadPhase.FAILED, str(error).replace("repeat the command", "press Download again"))
        except Exception as error:
            # Whatever it is, the page must not wait for ever.
            logging.getLogger(__name__).exception("The download of %s failed", name)
            self._end(
                DownloadPhase.FAILED, f"The download ended unexpectedly ({type(error).__name__}); press Download again."
            )

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
