"""What was just done can be taken back, once, by the page that did it, for a short time."""

import threading

import pytest

from ovi_studio.core.errors import JobError
from ovi_studio.services.undo import KEPT_SECONDS, MAX_OFFERS, OFFERED_SECONDS, UndoLog


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_act_is_taken_back_once() -> None:
    log, undone = UndoLog(), []
    offer = log.offer("page", "A job was deleted.", lambda: undone.append(1))
    assert log.undo("page", offer.id).label == "A job was deleted."
    with pytest.raises(JobError, match="too late"):
        log.undo("page", offer.id)
    assert undone == [1]


def test_another_session_cannot_take_it_back() -> None:
    log, undone = UndoLog(), []
    offer = log.offer("page", "A job was deleted.", lambda: undone.append(1))
    with pytest.raises(JobError, match="too late"):
        log.undo("other page", offer.id)
    log.undo("page", offer.id)
    assert undone == [1]


def test_offers_outlive_the_toast_but_not_for_long() -> None:
    clock = Clock()
    log = UndoLog(clock)
    early, late = (log.offer("page", "Gone.", lambda: None) for _ in range(2))
    clock.now = OFFERED_SECONDS + 5
    log.undo("page", early.id)
    clock.now = KEPT_SECONDS + 1
    with pytest.raises(JobError, match="too late"):
        log.undo("page", late.id)


def test_the_number_of_kept_offers_is_bounded() -> None:
    log = UndoLog()
    offers = [log.offer("page", "Gone.", lambda: None) for _ in range(MAX_OFFERS + 1)]
    with pytest.raises(JobError, match="too late"):
        log.undo("page", offers[0].id)
    log.undo("page", offers[1].id)


def test_an_act_that_cannot_be_reversed_says_why() -> None:
    def refuse() -> None:
        raise JobError("The preset was saved again in the meantime.")

    log = UndoLog()
    offer = log.offer("page", "A preset was deleted.", refuse)
    with pytest.raises(JobError, match="in the meantime"):
        log.undo("page", offer.id)


def test_what_cannot_be_reversed_is_done_only_when_it_can_no_longer_be_taken_back() -> None:
    done = threading.Event()
    log = UndoLog(kept_seconds=0.02)
    offer = log.offer("page", "The trash was emptied.", lambda: None, done.set)
    assert not done.is_set()
    assert done.wait(5)
    with pytest.raises(JobError, match="too late"):
        log.undo("page", offer.id)


@pytest.mark.slow
@pytest.mark.parametrize("ends", ["taken back", "program ends"])
def test_what_is_taken_back_or_outlived_is_not_done(ends: str) -> None:
    done = threading.Event()
    log = UndoLog(kept_seconds=0.1)
    offer = log.offer("page", "The trash was emptied.", lambda: None, done.set)
    if ends == "taken back":
        log.undo("page", offer.id)
    else:
        log.close()
    assert not done.wait(0.2)
