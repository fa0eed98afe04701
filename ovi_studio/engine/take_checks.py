"""`TakeChecks`: starts the process that checks takes of films when there are unchecked ones. Imports no torch.

It is a thread of the page, or of an engine without a page. The process (`film check`) ends when it has checked all; a
lock keeps two of them apart. If it ends in another way, it is started again after a while, and the take that it failed
to check three times is noted as not checkable.
"""

import logging
import subprocess
import sys
import threading
from collections.abc import Sequence

from ovi_studio.core.child_processes import child_environment
from ovi_studio.core.errors import JobError
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.store import Store
from ovi_studio.queue.takes import ERROR, TakeScores
from ovi_studio.runtime.options import RuntimeOptions

POLL_SECONDS = 1.0
RETRY_SECONDS = 10.0
MAX_FAILURES = 3
_PATIENCE_SECONDS = 5.0

log = logging.getLogger(__name__)


def check_command(paths: StudioPaths, options: RuntimeOptions) -> list[str]:
    """Return the command that checks the takes of a studio."""
    command = [sys.executable, "-m", "ovi_studio", "film", "check", "--out", str(paths.outputs)]
    return [*command, "--state", str(paths.state), "--ckpt-dir", str(options.checkpoints)]


class TakeChecks:
    """Has the takes of one studio checked; `start`, then `stop`, or a context manager."""

    def __init__(self, store: Store, command: Sequence[str], *, retry_seconds: float = RETRY_SECONDS) -> None:
        self._scores = TakeScores(store)
        self._log = store.paths.checks_log
        self._command = tuple(command)
        self._retry_seconds = retry_seconds
        self._stopping = threading.Event()
        self._failures: dict[str, int] = {}
        """Unchecked take -> how often the process failed when it was the next one."""
        self._thread = threading.Thread(target=self._serve, name="take-checks", daemon=True)

    def start(self) -> None:
        """Start looking for unchecked takes."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking; a check that is under way is ended, and made again the next time."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def __enter__(self) -> "TakeChecks":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _serve(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            try:
                take = self._scores.unchecked()
                if take is not None and not self._check():
                    self._note_failure(take.job)
            except (JobError, OSError) as error:
                log.warning("Takes cannot be checked: %s", error)
                self._stopping.wait(self._retry_seconds)

    def _check(self) -> bool:
        """Run the process until it ends; returns whether it ended well."""
        with self._log.open("wb") as words:
            child = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=words, stderr=words, env=child_environment()
            )
        while child.poll() is None:
            if self._stopping.wait(POLL_SECONDS / 4):
                child.terminate()
                try:
                    child.wait(_PATIENCE_SECONDS)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
                return True
        return child.returncode == 0

    def _note_failure(self, job: str) -> None:
        unchecked = self._scores.unchecked()
        if unchecked is None or unchecked.job != job:
            return  # it checked this one
        self._failures[job] = self._failures.get(job, 0) + 1
        log.warning("The process that checks takes failed; see %s.", self._log)
        if self._failures[job] < MAX_FAILURES:
            self._stopping.wait(self._retry_seconds)
            return
        self._scores.record(job, {ERROR: f"The check failed {MAX_FAILURES} times; see {self._log.name}."})
        del self._failures[job]
