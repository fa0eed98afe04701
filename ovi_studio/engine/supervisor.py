"""`Supervisor`: keeps one engine alive, from a thread of the web process. Imports no torch.

The engine runs in its own process group and outlives a web process that is killed, so that its job continues. The next
supervisor recognises a live engine by its lock and supervises it instead of starting a second one.

An engine that ends without being asked is restarted after 1, 5 and then 30 seconds; a job that is completed in between
resets the delay. After three failures before the engine is ready it stays down, with the reason and the last lines of
its log, until somebody requests a restart. When the web process ends cleanly, the engine ends too: after its current
step its job returns to the queue, and the attempt does not count. If that takes too long (a checkpoint is being
loaded), the process group is killed, which does not count either.

Only one web process may serve a database; it holds a lock as long as it lives.
"""

import contextlib
import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from ovi_studio.core.child_processes import child_environment
from ovi_studio.core.errors import JobError
from ovi_studio.engine.slot import EngineSlot
from ovi_studio.media.small_files import folder_errors
from ovi_studio.queue.locks import Lock, is_held
from ovi_studio.queue.model import EngineInfo
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.recovery import live_engines, recover_dead_engines
from ovi_studio.queue.store import FALLBACK_LEVEL, Store
from ovi_studio.queue.work import ENDED_CLEANLY

BACK_OFF_SECONDS = (1.0, 5.0, 30.0)
MAX_FAILED_STARTS = 3
"""How many starts in a row may fail before the engine is ready."""
PATIENCE_SECONDS = 30.0
"""How long an engine may take to end when it is asked to."""
POLL_SECONDS = 0.2
LAST_LINES = 20

log = logging.getLogger(__name__)


class Condition(StrEnum):
    """Engine health."""

    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    """The engine ended unexpectedly and will be restarted soon."""
    DOWN = "down"
    """The engine is not restarted until somebody requests it."""
    STOPPED = "stopped"
    """The web process has ended cleanly."""


@dataclass(frozen=True)
class Supervision:
    """The supervisor's view of the engine, which the page shows in addition to `Store.engines`."""

    condition: Condition
    reason: str = ""
    """Why the engine is not running."""
    last_words: tuple[str, ...] = ()
    """The last lines of the engine's log, if it failed."""


class Child(Protocol):
    """The process of an engine, as `subprocess.Popen` has it."""

    pid: int
    """It leads its process group."""
    returncode: int | None

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""


StartEngine = Callable[[Sequence[str], Mapping[str, str], BinaryIO], Child]
"""Starts a command in an environment, with a file for all that it prints."""


def start_engine(command: Sequence[str], environment: Mapping[str, str], words: BinaryIO) -> Child:
    """Start an engine in a process group of its own."""
    group: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=words, stderr=words, env=environment, **group)


def tail(path: Path, lines: int = LAST_LINES) -> tuple[str, ...]:
    """Return the last lines of a log; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 64 * 1024))
            text = file.read().decode(errors="replace")
    except OSError:
        return ()
    return tuple(text.splitlines()[-lines:])


class Supervisor:
    """Supervises the engine of one studio; `start`, then `stop`."""

    def __init__(
        self,
        store: Store,
        command: Sequence[str],
        *,
        back_off: Sequence[float] = BACK_OFF_SECONDS,
        patience: float = PATIENCE_SECONDS,
        slot: EngineSlot | None = None,
        start_engine: StartEngine = start_engine,
    ) -> None:
        self._slot = slot or EngineSlot()
        self._start_engine = start_engine
        self._store = store
        self._database = store.database
        self._paths = store.paths
        self._command = tuple(command)
        self._back_off = tuple(back_off)
        self._patience = patience
        self._lock: Lock | None = None
        self._stopping = threading.Event()
        self._restart = threading.Event()
        self._wake = threading.Event()
        """Set together with `_stopping` or `_restart`."""
        self._supervision = Supervision(Condition.STARTING)
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def start(self) -> None:
        """Start supervising; raises `JobError` if another web process serves this database."""
        if not self._slot.first:
            self._thread.start()
            return
        with folder_errors(self._paths.state):
            # An engine that checks for a page holds the lock for a moment.
            self._lock = Lock.acquire(self._paths.web_lock, 2)
            if self._lock is None:
                holder = "".join(tail(self._paths.web_lock, 1))
                raise JobError(
                    f"Another Ovi Studio{f' (process {holder})' if holder else ''} uses the folder "
                    f"{self._paths.outputs}; use its page, end it, or choose another folder with --out."
                )
            self._lock.write(str(os.getpid()))
        self._reset_fallbacks()
        self._thread.start()

    def stop(self) -> None:
        """End the engine cleanly and release the database; returns when both are done."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._lock is not None:
            self._lock.release()

    def restart(self) -> None:
        """Start a new engine, even if the engine was down; a running one ends after its current step."""
        self._reset_fallbacks()
        self._restart.set()
        self._wake.set()

    def status(self) -> Supervision:
        """Return the current supervision."""
        return self._supervision

    def _reset_fallbacks(self) -> None:
        """Start from the original plan again, whatever ran out of memory before."""
        try:
            self._database.put_setting(FALLBACK_LEVEL, 0)
        except JobError as error:
            # A full disk must not stop the supervisor.
            log.warning("The setting %s could not be written: %s", FALLBACK_LEVEL, error)

    def _supervise(self) -> None:
        failed_starts = failures = 0
        while not self._stopping.is_set():
            done_before = self._last_done()
            try:
                end = self._watch(self._adopt() or self._spawn())
            except (JobError, OSError) as error:
                # The engine may still live; then the next check finds it.
                end = _End(was_ready=True, reason=str(error))
            if self._restart.is_set():
                self._restart.clear()
                self._wake.clear()
                failed_starts = failures = 0
            elif not end.clean:
                failed_starts = 0 if end.was_ready else failed_starts + 1
                failures = 1 if end.was_ready and self._last_done() != done_before else failures + 1
                self._pause(end, failed_starts, failures)
                if failed_starts >= MAX_FAILED_STARTS:
                    failed_starts = failures = 0
            else:
                failed_starts = failures = 0
                self._wake.wait(POLL_SECONDS)
        self._supervision = Supervision(Condition.STOPPED)

    def _pause(self, end: "_End", failed_starts: int, failures: int) -> None:
        """Wait before another engine is started."""
        words = tail(self._slot.file(self._paths.engine_stderr)) or tail(self._slot.file(self._paths.log))
        if failed_starts >= MAX_FAILED_STARTS:
            times = f"{failed_starts} times before it was ready ({end.reason})"
            reason = f"The engine ended {times}. Restart it when that is fixed."
            self._supervision = Supervision(Condition.DOWN, reason, words)
            self._wake.wait()
        else:
            delay = self._back_off[min(failures, len(self._back_off)) - 1]
            reason = f"The engine ended unexpectedly ({end.reason}); it will be restarted after {delay:g} s."
            self._supervision = Supervision(Condition.WAITING, reason, words)
            self._wake.wait(delay)
        if not self._stopping.is_set():
            self._restart.clear()
            self._wake.clear()

    def _adopt(self) -> "_Process | None":
        """Return a live engine that was started by an earlier web process or by a person."""
        recover_dead_engines(self._database)
        alive = [owner for owner in live_engines(self._database) if self._slot.owns(owner)]
        return _Process(self._paths, alive[0]) if alive else None

    def _spawn(self) -> "_Process":
        self._supervision = Supervision(Condition.STARTING)
        owner = f"{self._slot.name}-{secrets.token_hex(4)}"
        with self._slot.file(self._paths.engine_stderr).open("wb") as words:
            command = [*self._command, "--owner", owner, "--supervised"]
            child = self._start_engine(command, {**child_environment(), **self._slot.environment}, words)
        return _Process(self._paths, owner, child)

    def _watch(self, engine: "_Process") -> "_End":
        """Watch an engine until it ends; ask it to end if this supervisor stops or restarts."""
        info: EngineInfo | None = None
        deadline = None
        while engine.alive():
            info = self._info(engine.owner) or info
            if self._wake.is_set():
                if info is not None and not info.supervised:
                    return _End(clean=True)  # a person started it
                deadline = deadline or time.monotonic() + self._patience
                self._store.stop_engine(engine.owner)
                if time.monotonic() > deadline:
                    engine.kill()
                    recover_dead_engines(self._database, deliberate=True)
                time.sleep(POLL_SECONDS / 4)
                continue
            if info is not None and info.ready and self._supervision.condition is not Condition.RUNNING:
                self._supervision = Supervision(Condition.RUNNING)
            self._wake.wait(POLL_SECONDS)
        recover_dead_engines(self._database)
        clean, was_ready = self._last_report(engine.owner)
        return _End(clean=clean or self._wake.is_set(), was_ready=was_ready, reason=engine.exit_reason())

    def _info(self, owner: str) -> EngineInfo | None:
        return next((engine for engine in self._store.engines() if engine.owner == owner), None)

    def _last_report(self, owner: str) -> tuple[bool, bool]:
        """Return whether an engine ended cleanly, and whether it was ever ready."""
        with self._database.read() as connection:
            row = connection.execute("SELECT ended, ready FROM engines WHERE owner = ?", (owner,)).fetchone()
        return (False, False) if row is None else (row["ended"] == ENDED_CLEANLY, bool(row["ready"]))

    def _last_done(self) -> int | None:
        try:
            with self._database.read() as connection:
                return connection.execute("SELECT MAX(ended) FROM jobs WHERE state = 'done'").fetchone()[0]
        except JobError:
            return None


@dataclass(frozen=True)
class _End:
    """How an engine ended."""

    clean: bool = False
    was_ready: bool = False
    reason: str = ""


class _Process:
    """An engine's process: a child, or one that was started earlier."""

    def __init__(self, paths: StudioPaths, owner: str, child: Child | None = None) -> None:
        self.owner = owner
        self._lock_path = paths.owners / f"{owner}.lock"
        self._child = child

    def alive(self) -> bool:
        return is_held(self._lock_path) if self._child is None else self._child.poll() is None

    def kill(self) -> None:
        """Kill the whole process group; returns when it has ended."""
        # The lock file contains the process id of its holder.
        pid = self._child.pid if self._child is not None else int("".join(tail(self._lock_path, 1)) or 0)
        if not pid:
            return
        if sys.platform == "win32":
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(pid)], check=False, capture_output=True)
        else:
            with contextlib.suppress(ProcessLookupError):
                # If the engine does not lead its group, the group is that of a person's shell.
                (os.killpg if os.getpgid(pid) == pid else os.kill)(pid, signal.SIGKILL)
        while self.alive():
            time.sleep(0.01)

    def exit_reason(self) -> str:
        if self._child is None or self._child.returncode is None:
            return "the process has ended"
        code = self._child.returncode
        if code >= 0:
            return f"exit code {code}"
        name = signal.Signals(-code).name
        return f"{name}, often because memory ran out" if name == "SIGKILL" else name
