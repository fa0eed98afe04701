"""Jobs whose first frame is drawn: a phase of the job, kept for later attempts, cancelled, estimated."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_helpers import SPEC

from ovi_studio.core.drawing import Drawing
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.engine.drawing import Draw, draw_candidates
from ovi_studio.engine.executor import ClipFacts, ExecutorFault, MadeClip
from ovi_studio.engine.loop import Engine
from ovi_studio.farm.simulation import SleepingExecutor
from ovi_studio.queue import drawings
from ovi_studio.queue.drawings import (
    ask_for_candidates,
    cancel_candidates,
    candidates,
    claim_candidates,
    drawing_of,
)
from ovi_studio.queue.estimates import DrawingTimes, PhaseTimes, record_drawing, record_phase_times
from ovi_studio.queue.files import keep_frame
from ovi_studio.queue.model import ClipPhase, JobState
from ovi_studio.queue.pictures import remove_unused_pictures
from ovi_studio.queue.schedule import estimate_clip, estimate_queue
from ovi_studio.queue.store import Store
from ovi_studio.queue.work import EngineSession
from ovi_studio.runtime.progress import ProgressSink

DRAWN = replace(SPEC, steps=2, drawing=Drawing(model="a/b", steps=4))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(tmp_path / "outputs")) as store:
        store.paths.prepare()
        yield store


class Maker(SleepingExecutor):
    """Makes clips at once, and notes of what."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__(0.0, 0.0, 0)
        self.made: list[ClipSpec] = []
        self._left = failures

    def variants(self) -> None:
        return None

    def make(self, spec: ClipSpec, progress: ProgressSink, facts: ClipFacts) -> MadeClip:
        self.made.append(spec)
        if self._left:
            self._left -= 1
            raise ExecutorFault("try again")
        return super().make(spec, progress, facts)


def draw(seen: Callable[[int], None] = lambda index: None) -> tuple[Draw, list[ClipSpec]]:
    """What draws pictures, each another one, and the clips for which it did."""
    drawn: list[ClipSpec] = []

    def act(spec: ClipSpec, folder: Path, progress: ProgressSink) -> ClipSpec:
        assert spec.drawing is not None
        drawn.append(spec)
        progress.phase(ClipPhase.LOADING)
        progress.phase(ClipPhase.DRAWING)
        for index in range(1, 5):
            progress.drawn(index, 4)
            seen(index)
        image = keep_frame(np.full((32, 48, 3), len(drawn), np.uint8), folder)
        return replace(spec, image=image, drawing=replace(spec.drawing, sha256="c" * 64))

    return act, drawn


def serve(store: Store, maker: Maker, drawer: Draw | None) -> None:
    """Work until nothing is left to claim."""
    with EngineSession(store.database, "worker") as work:
        engine = Engine(work, maker, threading.Event(), draw=drawer)
        while engine._drew_candidates() or ((job := engine._claim()) is not None and engine._work_on(job) is None):
            pass


def test_a_drawn_picture_stays_with_its_job_and_no_other_attempt_draws_it(store: Store) -> None:
    maker, (drawer, drawn) = Maker(failures=1), draw()
    (job,) = store.add([DRAWN])
    serve(store, maker, drawer)
    assert store.get(job).state is JobState.DONE
    assert len(drawn) == 1
    assert len(maker.made) == 2
    image = maker.made[0].image
    assert image is not None
    assert image.parent == store.paths.pictures
    assert maker.made[0] == maker.made[1] == store.get(job).spec
    assert list(store.paths.drawings.glob("*")) == []  # nothing is left beside it
    remove_unused_pictures(store.database)
    assert image.is_file()


def test_drawing_is_shown_as_a_phase_with_steps(store: Store) -> None:
    (job,) = store.add([DRAWN])
    seen: list[Any] = []
    serve(store, Maker(), draw(lambda index: seen.append(store.get(job).progress))[0])
    assert [(shown.phase, shown.step, shown.total) for shown in seen] == [
        (ClipPhase.DRAWING, index, 4) for index in range(1, 5)
    ]


def test_cancelled_while_its_frame_is_drawn_a_job_ends_at_the_next_step(store: Store) -> None:
    (job,) = store.add([DRAWN])
    steps: list[int] = []

    def seen(index: int) -> None:
        steps.append(index)
        store.cancel([job])

    maker = Maker()
    serve(store, maker, draw(seen)[0])
    assert steps == [1]
    assert store.get(job).state is JobState.CANCELLED
    assert maker.made == []


def test_what_cannot_be_drawn_fails_the_job_with_its_sentence(store: Store) -> None:
    def refuse(spec: ClipSpec, folder: Path, progress: ProgressSink) -> ClipSpec:
        raise JobError("The image model is not here.")

    (job,) = store.add([DRAWN])
    serve(store, Maker(), refuse)
    assert (store.get(job).state, store.get(job).error) == (JobState.FAILED, "The image model is not here.")


def test_an_engine_that_cannot_draw_leaves_these_jobs_to_others(store: Store) -> None:
    waiting, plain = store.add([DRAWN, SPEC])
    maker = Maker()
    serve(store, maker, None)
    assert (store.get(waiting).state, store.get(plain).state) == (JobState.QUEUED, JobState.DONE)


def test_a_clip_that_continues_another_draws_nothing(store: Store) -> None:
    (parent,) = store.add([SPEC])
    with pytest.raises(JobError, match="begins with its last frame"):
        store.add([DRAWN], parents=[parent])


def test_estimates_include_what_drawing_took_before(store: Store) -> None:
    store.add([DRAWN, replace(DRAWN, drawing=Drawing(model="a/b"))])
    record_phase_times(store.database, DRAWN, PhaseTimes(text=1, decode=1, write=1, step=10))
    assert estimate_clip(store.database, DRAWN) is None
    assert estimate_queue(store.database).unmeasured == 2
    record_drawing(store.database, Drawing(model="a/b"), DrawingTimes(step=2, rest=3, steps=28))
    clip = 3 + 2 * 10
    assert estimate_clip(store.database, DRAWN) == 4 * 2 + 3 + clip
    queue = estimate_queue(store.database)
    assert (queue.seconds, queue.unmeasured) == (4 * 2 + 3 + 28 * 2 + 3 + 2 * clip, 0)


def test_the_time_left_counts_the_steps_of_the_picture_and_the_clip(store: Store) -> None:
    record_phase_times(store.database, DRAWN, PhaseTimes(text=1, decode=1, write=1, step=10))
    record_drawing(store.database, Drawing(model="a/b"), DrawingTimes(step=0, rest=3, steps=28))
    (job,) = store.add([DRAWN])
    left: list[Any] = []
    serve(store, Maker(), draw(lambda index: left.append(store.get(job).progress))[0])
    # Its steps take no time here, and the clip 23 seconds.
    assert left[0].seconds_left == pytest.approx(26, abs=1)
    assert left[-1].seconds_left == pytest.approx(26, abs=1)


def test_candidates_come_before_jobs_each_with_a_seed_of_its_own(store: Store) -> None:
    (job,) = store.add([SPEC])
    request = ask_for_candidates(store.database, DRAWN, 3)
    assert candidates(store.database, request).state is JobState.QUEUED
    seen: list[tuple[Any, ...]] = []

    def note(index: int) -> None:
        found = candidates(store.database, request)
        seen.append((found.state, found.step, found.total, len(found.pictures), store.get(job).state))

    drawer, drawn = draw(note)
    serve(store, Maker(), drawer)
    assert [spec.drawing.seed for spec in drawn if spec.drawing] == [7, 8, 9]
    assert seen[0] == (JobState.RUNNING, 1, 4, 0, JobState.QUEUED)
    assert seen[-1] == (JobState.RUNNING, 4, 4, 2, JobState.QUEUED)
    found = candidates(store.database, request)
    assert (found.state, len(set(found.pictures))) == (JobState.DONE, 3)
    assert all(path.is_file() for path in found.pictures)
    # Whoever chooses one has how it was drawn in the clip.
    known = drawing_of(store.database, found.pictures[1])
    assert known == replace(DRAWN.drawing, seed=8, sha256="c" * 64)


def test_a_job_that_draws_the_picture_of_a_candidate_leaves_it_there(store: Store) -> None:
    request = ask_for_candidates(store.database, DRAWN, 1)
    (job,) = store.add([DRAWN])

    def act(spec: ClipSpec, folder: Path, progress: ProgressSink) -> ClipSpec:
        assert spec.drawing is not None
        image = keep_frame(np.zeros((16, 16, 3), np.uint8), folder)
        return replace(spec, image=image, drawing=replace(spec.drawing, sha256="c" * 64))

    serve(store, maker := Maker(), act)
    (picture,) = candidates(store.database, request).pictures
    assert picture.is_file()
    assert store.get(job).state is JobState.DONE
    assert maker.made[0].image is not None
    assert maker.made[0].image.parent == store.paths.pictures


def test_a_request_of_an_engine_that_died_is_removed_after_a_day(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    request = ask_for_candidates(store.database, DRAWN, 1)
    assert claim_candidates(store.database, "nobody") is not None
    monkeypatch.setattr(drawings, "KEPT_SECONDS", -1)
    ask_for_candidates(store.database, DRAWN, 1)
    with pytest.raises(JobError, match="no longer here"):
        candidates(store.database, request)


def test_cancelled_candidates_end_at_the_next_step_and_the_queue_goes_on(store: Store) -> None:
    (job,) = store.add([SPEC])
    request = ask_for_candidates(store.database, DRAWN, 4)
    steps: list[int] = []

    def seen(index: int) -> None:
        steps.append(index)
        cancel_candidates(store.database, request)

    serve(store, Maker(), draw(seen)[0])
    assert steps == [1]
    assert candidates(store.database, request).state is JobState.CANCELLED
    assert store.get(job).state is JobState.DONE


def test_candidates_of_an_engine_that_ends_go_back_and_of_one_that_died_fail(store: Store) -> None:
    request = ask_for_candidates(store.database, DRAWN, 2)
    with EngineSession(store.database, "worker") as work:
        claimed = claim_candidates(store.database, work.owner)
        assert claimed is not None
        draw_candidates(store.database, claimed, draw()[0], stopping=lambda: True)
        assert candidates(store.database, request).state is JobState.QUEUED
        assert claim_candidates(store.database, work.owner) is not None
        assert candidates(store.database, request).state is JobState.RUNNING
    died = candidates(store.database, request)
    assert died.state is JobState.FAILED
    assert died.error is not None
    assert "draw them again" in died.error


def test_candidates_that_cannot_be_drawn_say_why_and_keep_those_that_are(store: Store) -> None:
    drawer, drawn = draw()

    def second_fails(spec: ClipSpec, folder: Path, progress: ProgressSink) -> ClipSpec:
        if drawn:
            raise JobError("The picture has NaN.")
        return drawer(spec, folder, progress)

    request = ask_for_candidates(store.database, DRAWN, 2)
    serve(store, Maker(), second_fails)
    found = candidates(store.database, request)
    assert (found.state, found.error, len(found.pictures)) == (JobState.FAILED, "The picture has NaN.", 1)


@pytest.mark.parametrize("count", [0, 5])
def test_one_to_four_candidates_are_drawn(store: Store, count: int) -> None:
    with pytest.raises(JobError, match="Between 1 and 4 pictures"):
        ask_for_candidates(store.database, DRAWN, count)


def test_candidates_are_removed_after_a_day(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    request = ask_for_candidates(store.database, DRAWN, 1)
    serve(store, Maker(), draw()[0])
    (picture,) = candidates(store.database, request).pictures
    os.utime(picture, (0, 0))
    monkeypatch.setattr(drawings, "KEPT_SECONDS", -1)
    ask_for_candidates(store.database, DRAWN, 1)
    assert not picture.exists()
    with pytest.raises(JobError, match="no longer here"):
        candidates(store.database, request)
