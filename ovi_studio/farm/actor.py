"""`ClipActor`: the actor on a machine of the farm, around the executor that makes clips at home, too.

`make` is a generator of events, so that progress arrives as it happens and the machine shows that it is there even
while nothing happens; `stop` is called beside it, and ends the clip at its next step. Ray makes an actor of the class
(`executor`); nothing here imports ray, and torch only when the machine is described.
"""

import os
import queue
import shutil
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from ovi_studio.checkpoints.hashes import cache_directory
from ovi_studio.core.compiler_cache import keep_compiled_code
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.engine.executor import Executor, LocalExecutor
from ovi_studio.farm.files import CACHE_BYTES, Content, FileCache
from ovi_studio.farm.machine import Machine, describe, free_memory
from ovi_studio.farm.rank_executor import RankExecutor
from ovi_studio.farm.relay import EventSink, clip_events, failed_event
from ovi_studio.farm.wire import ADAPTERS, PICTURE, SOURCE, AliveEvent, ClipRequest, DoneEvent, Event, FailedEvent
from ovi_studio.runtime.clip_runner import OVI_MODELS, ClipRunner
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.step_down import StepDown

ALIVE_SECONDS = 2.0


@dataclass(frozen=True)
class ActorSetup:
    """How an actor makes clips; the same for all machines."""

    options: RuntimeOptions
    """Without folders, which are the machine's own."""
    previews: bool = True
    models: str = OVI_MODELS
    cache_bytes: int = CACHE_BYTES


class ClipActor:
    """Makes the clips of one seat of a machine, one at a time.

    Args:
        ranks: how many processes share a clip, each with a GPU of this actor's.
    """

    def __init__(self, name: str, setup: ActorSetup, ranks: int = 1) -> None:
        folder = cache_directory() / "farm"
        keep_compiled_code(folder / "compiled")
        self._name = name
        self._previews = setup.previews
        self._files = FileCache(folder / "files", setup.cache_bytes)
        self._folder = _own_folder(folder / "clips")
        self._options = replace(setup.options, adapter_directory=self._folder / ADAPTERS)
        self._ranks = ranks
        self._executor: Executor = (
            LocalExecutor(ClipRunner(self._options, models=setup.models))
            if ranks == 1
            else RankExecutor(self._options, setup.models, ranks)
        )
        self._stop = threading.Event()

    def describe(self) -> Machine:
        """Describe the machine; takes minutes if its checkpoints were never hashed."""
        return describe(self._name, self._options.checkpoints, self._options.device, self._ranks)

    def lacks(self, contents: Collection[Content]) -> list[Content]:
        """See `FileCache`."""
        return self._files.lacks(contents)

    def receive(self, content: Content, offset: int, piece: bytes) -> FailedEvent | None:
        """Take a piece of a file; returns why it could not be taken."""
        try:
            self._files.append(content, offset, piece)
        except JobError as error:
            return failed_event(error)
        return None

    def make(self, request: ClipRequest) -> Iterator[Event]:
        """Make a clip; the last event is a `DoneEvent` or a `FailedEvent`."""
        self._stop.clear()
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        threading.Thread(target=self._make, args=(request, events), name="clip", daemon=True).start()
        event: Event = AliveEvent()
        while not isinstance(event, DoneEvent | FailedEvent):
            try:
                event = events.get(timeout=ALIVE_SECONDS)
            except queue.Empty:
                event = AliveEvent()
            yield event

    def stop(self) -> None:
        """End the clip at its next step."""
        self._stop.set()

    def memory(self) -> tuple[float, float]:
        """See `free_memory`."""
        return free_memory(self._options.device)

    def next_step_down(self) -> StepDown | None:
        """See `Executor`."""
        return self._executor.next_step_down()

    def step_down(self, step: StepDown) -> None:
        """See `Executor`."""
        self._executor.step_down(step)

    def memory_advice(self, spec: ClipSpec, below: StepDown | None) -> str:
        """See `Executor`."""
        return self._executor.memory_advice(spec, below)

    def _make(self, request: ClipRequest, events: "queue.SimpleQueue[Event]") -> None:
        def send(event: Event) -> bool:
            events.put(event)
            return not self._stop.is_set()

        try:
            sink = EventSink(send, previews=self._previews)
            for event in clip_events(self._executor.make(self._here(request), sink, request.facts)):
                events.put(event)
        except BaseException as error:  # sent to the head, which decides
            events.put(failed_event(error))

    def _here(self, request: ClipRequest) -> ClipSpec:
        """Lay out the files of a clip, and return its spec with their paths."""
        self._files.lay_out(request.files, self._folder)

        def here(path: Path | None, folder: str) -> Path | None:
            return None if path is None else self._folder / folder / path.name

        spec = request.spec
        return replace(spec, image=here(spec.image, PICTURE), source=here(spec.source, SOURCE))


def _own_folder(parent: Path) -> Path:
    """Return a folder of this process; removes those of processes that are gone."""
    if parent.is_dir():
        for folder in parent.iterdir():
            if not folder.name.isdigit() or not psutil.pid_exists(int(folder.name)):
                shutil.rmtree(folder, ignore_errors=True)
    return parent / str(os.getpid())
