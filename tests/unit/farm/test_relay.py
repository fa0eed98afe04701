"""The way of a clip from another process: what happens there happens here."""

import errno
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from ovi_studio.core.errors import FolderError, JobError, Stopped
from ovi_studio.engine.executor import ExecutorFault, MadeClip
from ovi_studio.farm import relay
from ovi_studio.farm.relay import Defect, EventSink, clip_events, failed_event, receive
from ovi_studio.farm.wire import AliveEvent, DoneEvent, Event, PhaseEvent, PieceEvent, StepEvent
from ovi_studio.media.clip_files import EncodedClip
from ovi_studio.queue.model import ClipPhase
from ovi_studio.runtime.progress import StepSink


class Impatient(StepSink):
    """Must end while nothing happens."""

    def waiting(self) -> None:
        raise Stopped


def made() -> MadeClip:
    return MadeClip(EncodedClip(b"0123456789", b"poster"), np.zeros((5, 2, 2, 3), np.uint8))


@pytest.mark.parametrize(
    ("error", "arrives", "text"),
    [
        (JobError("Choose another."), JobError, "Choose another."),
        (FolderError("No room."), ExecutorFault, "No room."),
        (ExecutorFault("No card."), ExecutorFault, "No card."),
        (MemoryError(), MemoryError, ""),
        (OSError(errno.ENOSPC, "No space left"), ExecutorFault, "its disk is full"),
        (Stopped(), Stopped, ""),
        (ZeroDivisionError("zero"), Defect, "ZeroDivisionError: zero"),
    ],
    ids=["job", "folder", "fault", "memory", "disk", "stopped", "defect"],
)
def test_error_arrives_as_what_it_was(error: Exception, arrives: type[Exception], text: str) -> None:
    with pytest.raises(arrives) as found:
        receive(iter([PhaseEvent(ClipPhase.TEXT), failed_event(error)]), StepSink())
    assert type(found.value) is arrives
    assert text in str(found.value)


def test_clip_arrives_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "PIECE_BYTES", 4)
    events = list(clip_events(made()))
    assert [type(event) for event in events] == [PieceEvent, PieceEvent, PieceEvent, DoneEvent]
    assert receive(iter(events), StepSink()).files.movie == b"0123456789"
    with pytest.raises(ExecutorFault, match="4 bytes of a clip were lost"):
        receive(iter(events[1:]), StepSink())
    with pytest.raises(ExecutorFault, match="without a result"):
        receive(iter(events[:-1]), StepSink())


def test_clip_can_be_ended_during_a_step() -> None:
    def step() -> Iterator[Event]:
        yield AliveEvent()
        raise AssertionError("the step went on")

    with pytest.raises(Stopped):
        receive(step(), Impatient())
    assert receive(iter([AliveEvent(), *clip_events(made())]), StepSink()).files.poster == b"poster"


def test_only_latents_that_are_shown_travel_and_the_last_ones_whole() -> None:
    sent: list[Event] = []
    sink = EventSink(lambda event: sent.append(event) is None, previews=True)
    for index in range(1, 101):
        sink.step(index, 100, torch.full((4, 5, 2, 2), index / 10))
    shapes = [event.latents.shape for event in sent if isinstance(event, StepEvent) and event.latents is not None]
    assert len(sent) == 100
    assert 8 <= len(shapes) <= 13
    assert set(shapes[:-1]) == {(4, 1, 2, 2)}
    assert shapes[-1] == (4, 5, 2, 2)


def test_sink_ends_the_clip_when_it_is_told_not_to_continue() -> None:
    with pytest.raises(Stopped):
        EventSink(lambda event: False, previews=False).step(1, 2)
