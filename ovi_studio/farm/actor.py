"""`ClipActor`: the actor on a machine of the farm, around the executor that makes clips at home, too.

`make` is a generator of events, so that progress arrives as it happens and the machine shows that it is there even
while nothing happens; `stop` is called beside it, and ends the clip at its next step. Ray makes an actor of the class
(`executor`); nothing here imports ray, and torch only when the machine is described.
"""

import queue
import threading
import traceback
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ovi_studio.checkpoints.hashes import cache_directory
from ovi_studio.core.clip import Clip
from ovi_studio.core.compiler_cache import keep_compiled_code
from ovi_studio.core.errors import FolderError, JobError, Stopped
from ovi_studio.core.spec import ClipSpec
from ovi_studio.engine.executor import ExecutorFault, LocalExecutor, MadeClip
from ovi_studio.engine.monitor import is_previewed
from ovi_studio.farm.files import CACHE_BYTES, PIECE_BYTES, Content, FileCache
from ovi_studio.farm.machine import Machine, describe
from ovi_studio.farm.wire import (
    AliveEvent,
    ClipRequest,
    DecodedEvent,
    DoneEvent,
    Event,
    FailedEvent,
    Failure,
    KeptFrames,
    PhaseEvent,
    PieceEvent,
    StepEvent,
)
from ovi_studio.media.clip_files import encode_clip
from ovi_studio.media.frames import spread_frames
from ovi_studio.queue.model import ClipPhase
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
    """Makes the clips of one seat of a machine, one at a time."""

    def __init__(self, name: str, setup: ActorSetup) -> None:
        folder = cache_directory() / "farm"
        keep_compiled_code(folder / "compiled")
        self._name = name
        self._setup = setup
        self._files = FileCache(folder / "files", setup.cache_bytes)
        options = replace(setup.options, adapter_directory=self._files.folder)
        self._runner = ClipRunner(options, models=setup.models)
        self._executor = LocalExecutor(self._runner)
        self._stop = threading.Event()

    def describe(self) -> Machine:
        """Describe the machine; takes minutes if its checkpoints were never hashed."""
        options = self._executor.options
        return describe(self._name, options.checkpoints, options.device)

    def lacks(self, contents: Collection[Content]) -> list[Content]:
        """See `FileCache`."""
        return self._files.lacks(contents)

    def receive(self, content: Content, offset: int, piece: bytes) -> FailedEvent | None:
        """Take a piece of a file; returns why it could not be taken."""
        try:
            self._files.append(content, offset, piece)
        except JobError as error:
            return _failed(error)
        return None

    def make(self, request: ClipRequest) -> Iterator[Event]:
        """Make a clip; the last event is a `DoneEvent` or a `FailedEvent`."""
        self._stop.clear()
        events: queue.SimpleQueue[Event | MadeClip] = queue.SimpleQueue()
        threading.Thread(target=self._make, args=(request, events), name="clip", daemon=True).start()
        while True:
            try:
                event = events.get(timeout=ALIVE_SECONDS)
            except queue.Empty:
                yield AliveEvent()
                continue
            if isinstance(event, MadeClip):
                yield from self._delivery(event)
                return
            yield event
            if isinstance(event, FailedEvent):
                return

    def stop(self) -> None:
        """End the clip at its next step."""
        self._stop.set()

    def next_step_down(self) -> StepDown | None:
        """See `Executor`."""
        return self._executor.next_step_down()

    def step_down(self, step: StepDown) -> None:
        """See `Executor`."""
        self._executor.step_down(step)

    def memory_advice(self, spec: ClipSpec, below: StepDown | None) -> str:
        """See `Executor`."""
        return self._executor.memory_advice(spec, below)

    def _make(self, request: ClipRequest, events: "queue.SimpleQueue[Event | MadeClip]") -> None:
        try:
            relay = _Relay(events, self._stop, previews=self._setup.previews)
            clip = self._runner.run(self._here(request), relay)
            relay.phase(ClipPhase.WRITING)
            events.put(MadeClip(encode_clip(self._recorded(clip, request)), clip.frames))
        except BaseException as error:  # sent to the head, which decides
            failed = _failed(error)
            events.put(replace(failed, text=_with_names(failed.text, request)))

    def _recorded(self, clip: Clip, request: ClipRequest) -> Clip:
        """Return the clip with the names that its files have on the head, and with the machine in its record."""
        record = {**clip.record, **request.facts, "machine": {**clip.record.get("machine", {}), "name": self._name}}
        if "adapters" in record:
            record["adapters"] = {_with_names(name, request): report for name, report in record["adapters"].items()}
        return replace(clip, spec=replace(request.spec, image=clip.spec.image), record=record)

    def _here(self, request: ClipRequest) -> ClipSpec:
        """Return the spec with the names that its files have on this machine."""
        stack = tuple(
            replace(use, name=request.adapters[use.name], sha256=None) if use.name in request.adapters else use
            for use in request.spec.stack
        )
        image = None if request.image is None else self._files.path(request.image)
        return replace(request.spec.with_stack(stack), image=image)

    def _delivery(self, made: MadeClip) -> Iterator[Event]:
        movie = made.files.movie
        for start in range(0, len(movie), PIECE_BYTES):
            yield PieceEvent(movie[start : start + PIECE_BYTES])
        shape = made.frames.shape
        kept = {index: np.asarray(made.frames[index]) for index in spread_frames(shape[0])}
        yield DoneEvent(made.files.poster, KeptFrames(shape, kept), len(movie), self._executor.variant)


class _Relay:
    """A `ProgressSink` that sends what it receives."""

    def __init__(self, events: "queue.SimpleQueue[Event | MadeClip]", stop: threading.Event, *, previews: bool) -> None:
        self._events = events
        self._stop = stop
        self._previews = previews

    def phase(self, phase: ClipPhase) -> None:
        self._send(PhaseEvent(phase))

    def step(self, index: int, total: int, latents: Any = None) -> None:
        shown = latents is not None and self._previews and (index == total or is_previewed(index, total))
        self._send(StepEvent(index, total, _sent_latents(latents, whole=index == total) if shown else None))

    def decoded(self, fraction: float) -> None:
        self._send(DecodedEvent(fraction))

    def _send(self, event: Event) -> None:
        self._events.put(event)
        if self._stop.is_set():
            raise Stopped


def _sent_latents(latents: Any, *, whole: bool) -> np.ndarray:
    middle = latents.shape[1] // 2
    chosen = latents if whole else latents[:, middle : middle + 1]
    return chosen.detach().float().cpu().numpy().astype(np.float16)


def _failed(error: BaseException) -> FailedEvent:
    match error:
        case Stopped():
            return FailedEvent(Failure.STOPPED)
        case ExecutorFault() | FolderError():
            return FailedEvent(Failure.MACHINE, str(error))
        case JobError():
            return FailedEvent(Failure.JOB, str(error))
        case MemoryError():
            return FailedEvent(Failure.MEMORY)
    return FailedEvent(Failure.DEFECT, "".join(traceback.format_exception(error)))


def _with_names(text: str, request: ClipRequest) -> str:
    """Return a text with the names that adapters have on the head."""
    for name, cached in request.adapters.items():
        text = text.replace(cached, name)
    return text
