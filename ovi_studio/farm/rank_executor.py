"""`RankExecutor`: the `Executor` of an actor whose GPUs share a clip, with a process for each of them.

The actor launches the ranks as an engine at home is launched, and talks to their leader over a socket that only this
user can open: it sends a clip, and answers each event with whether to continue, so that a clip ends at its next step.
Ranks that fail have ended; the next clip has new ones, which also is the way to options that need less memory.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from multiprocessing.connection import Client, Connection
from pathlib import Path

from ovi_studio.core.errors import JobError, Stopped
from ovi_studio.core.spec import ClipSpec
from ovi_studio.distributed.launch import launch_command
from ovi_studio.engine.executor import ClipFacts, MadeClip, memory_advice
from ovi_studio.farm.relay import receive
from ovi_studio.farm.wire import DoneEvent, Event, FailedEvent
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.progress import ProgressSink
from ovi_studio.runtime.step_down import StepDown, below_sharding, steps_below_sharding

MODULE = "ovi_studio.farm.rank"
_END_SECONDS = 10.0
_REASON_LINES = 20


class RankExecutor:
    """Makes clips on several ranks.

    Args:
        options: without the number of GPUs, which is `ranks`.
        models: see `ClipRunner`.
    """

    usable = True
    steps_down_itself = True

    def __init__(self, options: RuntimeOptions, models: str, ranks: int) -> None:
        self.variant: str | None = None
        """The variant whose models are loaded."""
        self._requested = options
        self._models = models
        self._count = ranks
        self._steps_down = 0
        self._ranks: _Ranks | None = None

    @property
    def options(self) -> RuntimeOptions:
        """How the models compute."""
        return steps_below_sharding(self._requested, self._steps_down)[0]

    def variants(self) -> Collection[str] | None:
        """See `Executor`."""
        return None

    def make(self, spec: ClipSpec, progress: ProgressSink, facts: ClipFacts) -> MadeClip:
        """See `Executor`."""
        if self._ranks is not None and self._ranks.ended:  # between two clips, which is not this one's fault
            self.close()
        if self._ranks is None:
            command = ["--models", self._models, "--steps-down", str(self._steps_down)]
            self._ranks = _Ranks(self._count, [*command, *self._requested.arguments()])
        ranks = self._ranks
        try:
            made = self._receive(ranks, spec, progress, facts)
        except (JobError, Stopped):
            raise
        except BaseException:
            self.close()
            raise
        self.variant = spec.variant
        return made

    def _receive(self, ranks: "_Ranks", spec: ClipSpec, progress: ProgressSink, facts: ClipFacts) -> MadeClip:
        try:
            return receive(ranks.events(spec, facts), progress)
        except Stopped:
            ranks.stop()
            raise

    def next_step_down(self) -> StepDown | None:
        """See `Executor`."""
        return below_sharding(self.options)

    def step_down(self, step: StepDown) -> None:
        """See `Executor`."""
        self._steps_down += 1
        self.close()

    def memory_advice(self, spec: ClipSpec, below: StepDown | None) -> str:
        """See `Executor`."""
        return memory_advice(self.options, spec, below)

    def on_peer_loss(self, call: Callable[[bool], None]) -> None:
        """See `Executor`; a loss of ranks is an error of `make`."""

    def close(self) -> None:
        """End the ranks."""
        self.variant = None
        if self._ranks is not None:
            self._ranks.end()
            self._ranks = None


class _Ranks:
    """The processes, as seen by this one, which has launched them."""

    def __init__(self, count: int, arguments: list[str]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ovi-farm-"))
        self._said = self._folder / "ranks.log"
        socket = self._folder / "leader"
        command = launch_command(count, MODULE, ["--socket", str(socket), "--actor", str(os.getpid()), *arguments])
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )
        try:
            self._connection = self._connect(socket)
        except BaseException:
            self._remove()
            raise

    @property
    def ended(self) -> bool:
        """Whether the leader is gone; it says nothing else between two clips."""
        return self._connection.poll()

    def events(self, spec: ClipSpec, facts: ClipFacts) -> Iterator[Event]:
        """Yield what the leader sends for a clip; it continues when the next event is asked for."""
        self._send((spec, facts))
        while not isinstance(event := self._next(), DoneEvent | FailedEvent):
            yield event
            self._send(True)
        yield event

    def stop(self) -> None:
        """End the clip whose last event was not answered, and wait for that."""
        self._send(False)
        while not isinstance(self._next(), DoneEvent | FailedEvent):
            self._send(False)

    def end(self) -> None:
        """End the processes: in order if they wait for a clip, else at once."""
        self._connection.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        self._remove()

    def _connect(self, socket: Path) -> Connection:
        while self._process.poll() is None:
            with suppress(FileNotFoundError, ConnectionRefusedError):  # it is not there yet
                return Client(str(socket), "AF_UNIX")
            time.sleep(0.05)
        raise RuntimeError(self._reason())

    def _next(self) -> Event:
        try:
            event: Event = self._connection.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError(self._reason()) from error
        return event

    def _send(self, value: object) -> None:
        try:
            self._connection.send(value)
        except OSError as error:
            raise RuntimeError(self._reason()) from error

    def _reason(self) -> str:
        with suppress(subprocess.TimeoutExpired):  # what its processes say last
            self._process.wait(_END_SECONDS)
        lines = self._said.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(["A process that shares the clip has ended.", *lines[-_REASON_LINES:]])

    def _remove(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
