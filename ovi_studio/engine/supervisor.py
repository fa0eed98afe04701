"""`Supervisor`: keeps one engine alive, from a thread of the web process. Imports no torch.

The engine is a process group of its own and outlives a web process that is killed, so that its job goes on. The next
supervisor sees by the lock that an engine lives and looks after that one instead of starting a second.

An engine that ends without being asked is started again after 1, 5 and then 30 seconds; a job that gets done in between
sets that back. One that fails three times before it is ready stays down, with the reason and its last words, until
somebody asks for a restart. When the web process ends in order the engine does, too: after its current step its job
goes back to the queue, and the attempt does not count. If that takes too long (a checkpoint is being loaded), the
process group is killed, which does not count either.

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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import ovi_studio
from ovi_studio.core.errors import JobError
from ovi_studio.engine.slot import EngineSlot
from ovi_studio.media.small_files import folder_errors
from ovi_studio.queue.database import Database
from ovi_studio.queue.locks import Lock, is_held
from ovi_studio.queue.model import EngineInfo
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.recovery import live_engines, recover_dead_engines
from ovi_studio.queue.store import FALLBACK_LEVEL, Store
from ovi_studio.queue.work import ENDED_CLEANLY

BACK_OFF_SECONDS = (1.0, 5.0, 30.0)
MAX_MISFIRES = 3
"""Starts in a row that may fail before the engine is ready."""
PATIENCE_SECONDS = 30.0
"""How long an engine may take to end when it is asked to."""
POLL_SECONDS = 0.2
LAST_LINES = 20
_SETTING = "supervision"


class Condition(StrEnum):
    """How it is about the engine."""

    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    """It ended by itself and is started again in a moment."""
    DOWN = "down"
    """It is not started again until somebody asks."""
    STOPPED = "stopped"
    """The web process has ended in order."""


@dataclass(frozen=True)
class Supervision:
    """What the page shows about the engine beside what the engine says itself (`Store.engines`)."""

    condition: Condition
    reason: str = ""
    """Why it is not running."""
    last_words: tuple[str, ...] = ()
    """Lines of its log, if it ended badly."""


def read_supervision(database: Database) -> Supervision:
    """The supervisor's last word, from any process."""
    values = database.setting(_SETTING)
    if values is None:
        return Supervision(Condition.STOPPED)
    return Supervision(Condition(values["condition"]), values["reason"], tuple(values["last_words"]))


def tail(path: Path, lines: int = LAST_LINES) -> tuple[str, ...]:
    """The last lines of a log; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 64 * 1024))
            text = file.read().decode(errors="replace")
    except OSError:
        return ()
    return tuple(text.splitlines()[-lines:])


class Supervisor:
    """Looks after the engine of one studio; `start`, then `stop`."""

    def __init__(
        self,
        store: Store,
        command: Sequence[str],
        *,
        back_off: Sequence[float] = BACK_OFF_SECONDS,
        patience: float = PATIENCE_SECONDS,
        slot: EngineSlot | None = None,
    ) -> None:
        self._slot = slot or EngineSlot()
        self._store = store
        self._database = store.database
        self._paths = store.paths
        self._command = tuple(command)
        self._back_off = tuple(back_off)
        self._patience = patience
        self._lock: Lock | None = None
        self._over = threading.Event()
        self._restart = threading.Event()
        self._wake = threading.Event()
        """Set together with either of the two above."""
        self._supervision = Supervision(Condition.STARTING)
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begin; raises `JobError` if another web process serves this database."""
        if not self._slot.first:
            self._thread.start()
            return
        with folder_errors(self._paths.state):
            # An engine that asks whether a page is there holds the lock for a moment.
            self._lock = Lock.acquire(self._paths.web_lock, 2)
            if self._lock is None:
                holder = "".join(tail(self._paths.web_lock, 1))
                raise JobError(
                    f"Another Ovi Studio{f' (process {holder})' if holder else ''} uses the folder "
                    f"{self._paths.outputs}; use its page, end it, or choose another folder with --out."
                )
            self._lock.write(str(os.getpid()))
        self._forget_fallbacks()
        self._thread.start()

    def stop(self) -> None:
        """End the engine in order and let the database go to others; returns when both is done."""
        self._over.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._lock is not None:
            self._lock.release()

    def restart(self) -> None:
        """Let the engine end after its current step, if it runs, and start a new one, also if it was down."""
        self._forget_fallbacks()
        self._restart.set()
        self._wake.set()

    def status(self) -> Supervision:
        """How it is now."""
        return self._supervision

    def _forget_fallbacks(self) -> None:
        """What somebody starts begins with the plan again, however memory was short before."""
        self._keep(FALLBACK_LEVEL, 0)

    def _supervise(self) -> None:
        misfires = failures = 0
        while not self._over.is_set():
            done_before = self._last_done()
            try:
                end = self._look_after(self._adopt() or self._spawn())
            except (JobError, OSError) as error:
                # The engine may well live; then the next look finds it.
                end = _End(was_ready=True, reason=str(error))
            if self._restart.is_set():
                self._restart.clear()
                self._wake.clear()
                misfires = failures = 0
            elif not end.in_order:
                misfires = 0 if end.was_ready else misfires + 1
                failures = 1 if end.was_ready and self._last_done() != done_before else failures + 1
                self._pause(end, misfires, failures)
                if misfires >= MAX_MISFIRES:
                    misfires = failures = 0
            else:
                misfires = failures = 0
                self._wake.wait(POLL_SECONDS)
        self._tell(Supervision(Condition.STOPPED))

    def _pause(self, end: "_End", misfires: int, failures: int) -> None:
        """Wait as long as it takes to start another engine."""
        words = tail(self._slot.file(self._paths.engine_stderr)) or tail(self._slot.file(self._paths.log))
        if misfires >= MAX_MISFIRES:
            reason = (
                f"The engine ended {misfires} times before it was ready ({end.reason}). Restart it when that is mended."
            )
            self._tell(Supervision(Condition.DOWN, reason, words))
            self._wake.wait()
        else:
            delay = self._back_off[min(failures, len(self._back_off)) - 1]
            reason = f"The engine ended unexpectedly ({end.reason}); it is started again after {delay:g} s."
            self._tell(Supervision(Condition.WAITING, reason, words))
            self._wake.wait(delay)
        if not self._over.is_set():
            self._restart.clear()
            self._wake.clear()

    def _adopt(self) -> "_Process | None":
        """An engine that lives already, from a web process before this one or started by a person."""
        recover_dead_engines(self._database)
        alive = [owner for owner in live_engines(self._database) if self._slot.owns(owner)]
        return _Process(self._paths, alive[0]) if alive else None

    def _spawn(self) -> "_Process":
        self._tell(Supervision(Condition.STARTING))
        owner = f"{self._slot.name}-{secrets.token_hex(4)}"
        home = str(Path(ovi_studio.__file__).parents[1])
        search = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
        group: dict[str, Any] = (
            {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
            if sys.platform == "win32"
            else {"start_new_session": True}
        )
        with self._slot.file(self._paths.engine_stderr).open("wb") as words:
            child = subprocess.Popen(
                [*self._command, "--owner", owner, "--supervised"],
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                env={**os.environ, "PYTHONPATH": search, **self._slot.environment},
                **group,
            )
        return _Process(self._paths, owner, child)

    def _look_after(self, engine: "_Process") -> "_End":
        """Until it ends; if this is to end or to restart, ask it to."""
        info: EngineInfo | None = None
        deadline = None
        while engine.alive():
            info = self._info(engine.owner) or info
            if self._wake.is_set():
                if info is not None and not info.supervised:
                    return _End(in_order=True)  # a person's own
                deadline = deadline or time.monotonic() + self._patience
                self._store.stop_engine(engine.owner)
                if time.monotonic() > deadline:
                    engine.kill()
                    recover_dead_engines(self._database, deliberate=True)
                time.sleep(POLL_SECONDS / 4)
                continue
            if info is not None and info.ready and self._supervision.condition is not Condition.RUNNING:
                self._tell(Supervision(Condition.RUNNING))
            self._wake.wait(POLL_SECONDS)
        recover_dead_engines(self._database)
        in_order, was_ready = self._last_report(engine.owner)
        return _End(in_order=in_order or self._wake.is_set(), was_ready=was_ready, reason=engine.exit_reason())

    def _info(self, owner: str) -> EngineInfo | None:
        return next((engine for engine in self._store.engines() if engine.owner == owner), None)

    def _last_report(self, owner: str) -> tuple[bool, bool]:
        """Whether an engine took its leave, and whether it ever was ready."""
        with self._database.read() as connection:
            row = connection.execute("SELECT ended, ready FROM engines WHERE owner = ?", (owner,)).fetchone()
        return (False, False) if row is None else (row["ended"] == ENDED_CLEANLY, bool(row["ready"]))

    def _last_done(self) -> int | None:
        try:
            with self._database.read() as connection:
                return connection.execute("SELECT MAX(ended) FROM jobs WHERE state = 'done'").fetchone()[0]
        except JobError:
            return None

    def _tell(self, supervision: Supervision) -> None:
        self._supervision = supervision
        if self._slot.first:
            self._keep(_SETTING, asdict(supervision))

    def _keep(self, setting: str, value: Any) -> None:
        try:
            self._database.put_setting(setting, value)
        except JobError as error:
            # The page of this process has its own copy; a full disk must not end the supervision.
            logging.getLogger(__name__).warning("The setting %s could not be written: %s", setting, error)


@dataclass(frozen=True)
class _End:
    """How an engine ended."""

    in_order: bool = False
    was_ready: bool = False
    reason: str = ""


class _Process:
    """An engine's process: a child, or one that was there before."""

    def __init__(self, paths: StudioPaths, owner: str, child: subprocess.Popen | None = None) -> None:
        self.owner = owner
        self._lock_path = paths.owners / f"{owner}.lock"
        self._child = child

    def alive(self) -> bool:
        return is_held(self._lock_path) if self._child is None else self._child.poll() is None

    def kill(self) -> None:
        """End the whole process group; returns when it is gone."""
        # The file holds the id of who holds its lock.
        pid = self._child.pid if self._child is not None else int("".join(tail(self._lock_path, 1)) or 0)
        if not pid:
            return
        if sys.platform == "win32":
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(pid)], check=False, capture_output=True)
        else:
            with contextlib.suppress(ProcessLookupError):
                # A group that is not its own would be that of a person's shell.
                (os.killpg if os.getpgid(pid) == pid else os.kill)(pid, signal.SIGKILL)
        while self.alive():
            time.sleep(0.01)

    def exit_reason(self) -> str:
        if self._child is None or self._child.returncode is None:
            return "it is gone"
        code = self._child.returncode
        if code >= 0:
            return f"exit code {code}"
        name = signal.Signals(-code).name
        return f"{name}, often a lack of memory" if name == "SIGKILL" else name
