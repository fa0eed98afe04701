"""What was cancelled or deleted comes back as it was."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from job_helpers import SPEC, queued, specs, states
from PIL import Image

from ovi_studio.queue import trash
from ovi_studio.queue.estimates import PhaseTimes, record_phase_times
from ovi_studio.queue.model import JobState
from ovi_studio.queue.schedule import estimate_clip
from ovi_studio.queue.store import Store
from ovi_studio.queue.work import EngineSession


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(tmp_path / "outputs")) as store:
        yield store


def test_deleted_jobs_come_back_at_their_places_with_everything_they_were(store: Store) -> None:
    ids = store.add(specs(5), "evening", priority=1)
    store.move_to_front([ids[3]])
    before = store.jobs()
    assert store.delete([ids[1], ids[3]]) == 2
    assert len(store.jobs()) == 3
    assert store.restore([ids[1], ids[3]]) == 2
    assert store.jobs() == before
    assert store.restore(ids) == 0  # once only


def test_a_deleted_batch_keeps_its_name_and_its_number(store: Store) -> None:
    ids = store.add(specs(2), "evening")
    store.delete(ids)
    store.add(specs(1), "morning")
    store.restore(ids)
    assert {batch.name: batch.total for batch in store.batches()} == {"evening": 2, "morning": 1}


def test_the_first_frame_of_a_deleted_job_is_still_there_when_it_comes_back(store: Store, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), "red").save(tmp_path / "frame.png")
    (job,) = store.add([replace(SPEC, image=tmp_path / "frame.png")])
    (other,) = store.add([SPEC])
    store.delete([job])
    store.delete([other])  # sweeps unused pictures
    store.restore([job])
    picture = store.get(job).spec.image
    assert picture is not None
    assert picture.is_file()


def test_deleted_jobs_are_gone_for_good_after_a_while(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = store.add(specs(2))
    store.delete(ids[:1])
    later = time.time() + trash.KEPT_SECONDS + 1
    monkeypatch.setattr(trash.time, "time", lambda: later)
    store.delete(ids[1:])
    assert store.restore(ids) == 1
    assert states(store) == ["queued"]


def test_a_finished_job_comes_back_finished(store: Store, tmp_path: Path) -> None:
    (job,) = store.add([SPEC])
    with EngineSession(store.database, "worker") as work:
        claimed = work.claim()
        assert claimed is not None
        work.finish(claimed, tmp_path / "clip.mp4", 3.0)
    before = store.get(job)
    store.clear_finished()
    store.restore([job])
    assert store.get(job) == before


def test_cancelled_jobs_wait_again_at_their_old_places(store: Store) -> None:
    ids = store.add(specs(4))
    store.cancel(ids[1:3])
    assert store.take_back_cancel(ids[1:3]) == 2
    assert queued(store) == ids


def test_a_running_job_goes_on_if_its_cancellation_is_taken_back_in_time(store: Store) -> None:
    (job,) = store.add([SPEC])
    with EngineSession(store.database, "worker") as work:
        claimed = work.claim()
        assert claimed is not None
        store.cancel([job])
        assert store.take_back_cancel([job]) == 1
        assert not store.get(job).cancelling
        assert store.get(job).state is JobState.RUNNING


def test_a_running_job_that_has_been_cancelled_starts_anew(store: Store) -> None:
    first, second = store.add(specs(2))
    with EngineSession(store.database, "worker") as work:
        claimed = work.claim()
        assert claimed is not None
        store.cancel([first])
        work.cancelled(claimed)
        store.take_back_cancel([first])
        assert queued(store) == [first, second]
        assert store.get(first).attempt == 0


def test_only_cancelled_jobs_are_taken_back(store: Store) -> None:
    (job,) = store.add([SPEC])
    with EngineSession(store.database, "worker") as work:
        claimed = work.claim()
        assert claimed is not None
        work.fail(claimed, "It failed.")
        assert store.take_back_cancel([job]) == 0
    assert store.get(job).state is JobState.FAILED


def test_one_slow_clip_does_not_spoil_the_next_estimate(store: Store) -> None:
    for decode in (5.0, 5.0, 300.0):
        record_phase_times(store.database, SPEC, PhaseTimes(text=1, step=2, decode=decode, write=1))
    assert estimate_clip(store.database, SPEC) == 7 + 2 * SPEC.steps


def test_times_of_an_older_version_are_still_used(store: Store) -> None:
    old = {"text": 1.0, "step": 2.0, "decode": 5.0, "write": 0.5}
    store.database.put_setting(f"pace/{SPEC.variant}/guided", old)
    assert estimate_clip(store.database, SPEC) == 6.5 + 2 * SPEC.steps
    record_phase_times(store.database, SPEC, PhaseTimes(text=1, step=4, decode=5, write=0.5))
    assert estimate_clip(store.database, SPEC) == 6.5 + 3 * SPEC.steps
