"""Both ends of the way of a clip from the process that makes it: progress, errors and files become events, and again
what they were. Imports no torch until latents arrive, and no ray.
"""

import errno
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ovi_studio.core.errors import FolderError, JobError, Stopped
from ovi_studio.engine.executor import ExecutorFault, MadeClip
from ovi_studio.engine.monitor import is_previewed
from ovi_studio.farm.files import PIECE_BYTES
from ovi_studio.farm.wire import (
    AliveEvent,
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
from ovi_studio.media.clip_files import EncodedClip
from ovi_studio.media.frames import spread_frames
from ovi_studio.queue.model import ClipPhase
from ovi_studio.runtime.progress import ProgressSink


class Defect(RuntimeError):
    """An error that nobody expects, in the other process; the text is its traceback."""


@runtime_checkable
class PatientSink(Protocol):
    """A `ProgressSink` that can end a clip during a step, too."""

    def waiting(self) -> None:
        """Nothing has happened for a while; raises as the other methods do."""


class EventSink:
    """A `ProgressSink` that sends what it receives.

    Args:
        send: returns whether to continue.
        previews: whether to send what previews are made from.
    """

    def __init__(self, send: Callable[[Event], bool], *, previews: bool) -> None:
        self._sent = send
        self._previews = previews

    def phase(self, phase: ClipPhase) -> None:
        """See `ProgressSink`."""
        self._send(PhaseEvent(phase))

    def drawn(self, index: int, total: int, latents: Any = None) -> None:
        """See `ProgressSink`; first frames are drawn beside the page."""
        raise NotImplementedError

    def step(self, index: int, total: int, latents: Any = None) -> None:
        """See `ProgressSink`."""
        shown = latents is not None and self._previews and (index == total or is_previewed(index, total))
        self._send(StepEvent(index, total, _sent_latents(latents, whole=index == total) if shown else None))

    def decoded(self, fraction: float) -> None:
        """See `ProgressSink`."""
        self._send(DecodedEvent(fraction))

    def _send(self, event: Event) -> None:
        if not self._sent(event):
            raise Stopped


def clip_events(made: MadeClip) -> Iterator[Event]:
    """Yield the events that end with a made clip."""
    movie = made.files.movie
    for start in range(0, len(movie), PIECE_BYTES):
        yield PieceEvent(movie[start : start + PIECE_BYTES])
    shape = made.frames.shape
    kept = {index: np.asarray(made.frames[index]) for index in spread_frames(shape[0])}
    yield DoneEvent(made.files.poster, KeptFrames(shape, kept), len(movie))


def failed_event(error: BaseException) -> FailedEvent:
    """Return the event that says why there is no clip."""
    match error:
        case Stopped():
            return FailedEvent(Failure.STOPPED)
        case ExecutorFault() | FolderError():
            return FailedEvent(Failure.MACHINE, str(error))
        case JobError():
            return FailedEvent(Failure.JOB, str(error))
        case MemoryError():
            return FailedEvent(Failure.MEMORY)
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return FailedEvent(Failure.MACHINE, "its disk is full; free up some space there")
    return FailedEvent(Failure.DEFECT, "".join(traceback.format_exception(error)))


def failure_of(failed: FailedEvent) -> Exception:
    """Return the error that an event stands for; the inverse of `failed_event`."""
    match failed.failure:
        case Failure.STOPPED:
            return Stopped()
        case Failure.MACHINE:
            return ExecutorFault(failed.text)
        case Failure.JOB:
            return JobError(failed.text)
        case Failure.MEMORY:
            return MemoryError()
    return Defect(failed.text)


def receive(events: Iterator[Event], progress: ProgressSink) -> MadeClip:
    """Report the progress of a clip until it is made; raises the error that ended it, and what `progress` raises."""
    movie = bytearray()
    for event in events:
        match event:
            case PhaseEvent(phase):
                progress.phase(phase)
            case StepEvent(index, total, latents):
                progress.step(index, total, None if latents is None else _tensor(latents))
            case DecodedEvent(fraction):
                progress.decoded(fraction)
            case AliveEvent():
                if isinstance(progress, PatientSink):
                    progress.waiting()
            case PieceEvent(data):
                movie += data
            case FailedEvent():
                raise failure_of(event)
            case DoneEvent(poster, frames, movie_bytes):
                if len(movie) != movie_bytes:
                    raise ExecutorFault(f"{movie_bytes - len(movie)} bytes of a clip were lost on the way")
                return MadeClip(EncodedClip(bytes(movie), poster), frames)
    raise ExecutorFault("its last clip ended without a result")


def _sent_latents(latents: Any, *, whole: bool) -> np.ndarray:
    middle = latents.shape[1] // 2
    chosen = latents if whole else latents[:, middle : middle + 1]
    return chosen.detach().float().cpu().numpy().astype(np.float16)


def _tensor(latents: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(latents.copy())  # what comes out of an object store is read-only
