"""Jobs that begin with the last frame of another job's clip: when they run, with what, and what holds them up."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from job_helpers import SPEC, kill_holder, queued, specs, states
from PIL import Image

from ovi_studio.core.clip import Clip
from ovi_studio.core.errors import JobError
from ovi_studio.media import clip_files
from ovi_studio.media.frames import read_frame
from ovi_studio.queue.files import clip_name
from ovi_studio.queue.model import Job, JobState
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.recovery import recover_dead_engines
from ovi_studio.queue.rows import spec_columns
from ovi_studio.queue.schema import MIGRATIONS
from ovi_studio.queue.store import Store
from ovi_studio.queue.work import EngineSession


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(tmp_path / "outputs")) as store:
        yield store


@pytest.fixture
def work(store: Store) -> Iterator[EngineSession]:
    with EngineSession(store.database, "worker") as work:
        yield work


def write_clip(job: Job, store: Store) -> Path:
    frames = np.stack([np.full((32, 32, 3), level, np.uint8) for level in (0, 200 + job.spec.seed)])
    clip = Clip(job.spec, frames, np.zeros(1400, np.float32), record={"job": job.id})
    return clip_files.write_clip(clip, store.paths.outputs, clip_name(job.number, job.id, job.spec.prompt))


def make(work: EngineSession, store: Store) -> Job:
    """Claim a job and make its clip."""
    job = work.claim()
    assert job is not None
    assert work.finish(job, write_clip(job, store), 1.0)
    return store.get(job.id)


def sentence(store: Store, job: str) -> str | None:
    dependency = store.get(job).dependency
    return None if dependency is None else dependency.sentence


def test_job_waits_for_its_parent_and_begins_with_its_last_frame(store: Store, work: EngineSession) -> None:
    parent, child = store.add(specs(2), parents=[None, 0])
    assert sentence(store, child) == "Waits for the last frame of job 1."
    running = work.claim()
    assert running is not None
    assert running.id == parent
    assert work.claim() is None
    assert not work.waiting()
    clip = write_clip(running, store)
    work.finish(running, clip, 1.0)
    assert sentence(store, child) is None
    claimed = work.claim()
    assert claimed is not None
    assert claimed.id == child
    assert claimed.spec.image is not None
    np.testing.assert_array_equal(np.asarray(Image.open(claimed.spec.image)), read_frame(clip))
    assert store.get(child).spec == claimed.spec


def test_jobs_without_dependence_overtake_and_the_order_holds_otherwise(store: Store, work: EngineSession) -> None:
    first, second, third, free, last = store.add(specs(5), parents=[None, 0, 1, None, 0])
    urgent = store.add([SPEC], priority=1, parents=[second])[0]
    made = [make(work, store).id for _ in range(6)]
    assert made == [first, second, urgent, third, free, last]


def test_two_engines_make_independent_shots_at_once(store: Store, work: EngineSession) -> None:
    first, _, other = store.add(specs(3), parents=[None, 0, None])
    with EngineSession(store.database, "another") as second:
        found = [work.claim(), second.claim(), second.claim()]
    assert [job and job.id for job in found] == [first, other, None]


@pytest.mark.parametrize("end", ["failed", "was cancelled"])
def test_failed_and_cancelled_parents_block_all_that_follows_until_they_are_retried(
    store: Store, work: EngineSession, end: str
) -> None:
    parent, child, grandchild = store.add(specs(3), parents=[None, 0, 1])
    job = work.claim()
    assert job is not None
    if end == "failed":
        work.fail(job, "no")
    else:
        work.cancelled(job)
    expected = f"Blocked: job 1, on which it depends, {end}; retry job 1, or give this one a first frame of its own."
    assert [sentence(store, child), sentence(store, grandchild)] == [expected] * 2
    assert work.claim() is None
    assert states(store)[1:] == [JobState.QUEUED] * 2
    store.retry([parent])
    assert sentence(store, child) == "Waits for the last frame of job 1."
    assert [make(work, store).id for _ in range(3)] == [parent, child, grandchild]


def test_deleted_parent_blocks_until_it_is_put_back(store: Store, work: EngineSession) -> None:
    parent, child, grandchild = store.add(specs(3), parents=[None, 0, 1])
    store.delete([parent])
    for job in (child, grandchild):
        assert "a job on which it depends was deleted" in (sentence(store, job) or "")
    assert work.claim() is None
    store.restore([parent])
    assert sentence(store, grandchild) == "Waits for the last frame of job 2."
    assert [make(work, store).id for _ in range(3)] == [parent, child, grandchild]


def test_finished_parent_may_leave_the_list_before_its_child_runs(store: Store, work: EngineSession) -> None:
    parent, child = store.add(specs(2), parents=[None, 0])
    make(work, store)
    store.delete([parent])
    claimed = work.claim()
    assert claimed is not None
    assert claimed.id == child


@pytest.mark.parametrize("back", ["child", "parent"])
def test_child_finds_the_clip_that_was_made_while_one_of_them_was_deleted(
    store: Store, work: EngineSession, back: str
) -> None:
    parent, child = store.add(specs(2), parents=[None, 0])
    store.delete([child])
    make(work, store)
    if back == "parent":
        store.delete([parent])
        store.restore([child])
        assert "deleted" in (sentence(store, child) or "")
        store.restore([parent])
    else:
        store.restore([child])
    claimed = work.claim()
    assert claimed is not None
    assert claimed.id == child


def test_child_that_was_cancelled_before_its_parent_ended_can_be_retried(store: Store, work: EngineSession) -> None:
    _, child = store.add(specs(2), parents=[None, 0])
    store.cancel([child])
    make(work, store)
    store.retry([child])
    assert make(work, store).id == child


def test_clip_that_is_gone_fails_its_child_with_advice_and_others_run(store: Store, work: EngineSession) -> None:
    parent, child, _, other = store.add(specs(4), parents=[None, 0, 1, None])
    clip = make(work, store).clip
    assert clip is not None
    clip.rename(clip.with_suffix(".aside"))
    job = work.claim()
    assert job is not None
    assert job.id == other
    assert store.get(child).state is JobState.FAILED
    assert "put it back and retry this job" in (store.get(child).error or "")
    clip.with_suffix(".aside").rename(clip)
    store.retry([child])
    assert make(work, store).id == child
    assert store.get(parent).state is JobState.DONE


def test_job_after_one_that_is_done_starts_at_once_and_one_after_nothing_is_refused(
    store: Store, work: EngineSession
) -> None:
    (parent,) = store.add([SPEC])
    make(work, store)
    (child,) = store.add([SPEC], parents=[parent])
    assert make(work, store).id == child
    with pytest.raises(JobError, match="no longer exists"):
        store.add([SPEC], parents=["0000000000"])
    assert queued(store) == []


def test_copy_of_a_waiting_child_waits_too(store: Store, work: EngineSession) -> None:
    parent, child = store.add(specs(2), parents=[None, 0])
    (copy,) = store.duplicate([child])
    assert store.get(copy).parent == parent
    make(work, store)
    assert {make(work, store).spec.image is None for _ in range(2)} == {False}


def test_first_frame_of_its_own_frees_a_job(store: Store, work: EngineSession, tmp_path: Path) -> None:
    parent, child = store.add(specs(2), parents=[None, 0])
    Image.new("RGB", (32, 32), "red").save(tmp_path / "frame.png")
    store.delete([parent])
    store.edit(child, replace(SPEC, seed=9))
    assert store.get(child).dependency is not None
    store.edit(child, replace(SPEC, image=tmp_path / "frame.png"))
    assert store.get(child).dependency is None
    assert make(work, store).id == child


@pytest.mark.slow
def test_engine_that_died_after_the_parents_clip_was_written_frees_the_child(store: Store) -> None:
    parent, child = store.add(specs(2), parents=[None, 0])
    assert kill_holder(store, "one", lambda running: write_clip(running, store)) == parent
    assert recover_dead_engines(store.database) == [parent]
    with EngineSession(store.database, "worker") as work:
        assert make(work, store).id == child


@pytest.mark.slow
def test_job_of_a_killed_engine_keeps_its_place_in_the_line(store: Store) -> None:
    parent, child = store.add(specs(2), parents=[None, 0])
    with EngineSession(store.database, "worker") as work:
        make(work, store)
    assert kill_holder(store, "one") == child
    recover_dead_engines(store.database)
    with EngineSession(store.database, "worker") as work:
        again = make(work, store)
    assert (again.id, again.attempt, again.parent) == (child, 2, parent)


def test_long_line_is_explained_quickly_and_without_repeating_itself(store: Store) -> None:
    ids = store.add(specs(500), parents=[None, *range(499)])
    store.cancel([ids[0]])
    found = store.jobs(states=[JobState.QUEUED], limit=500)
    assert len({job.dependency and job.dependency.sentence for job in found}) == 1


def test_database_from_before_dependencies_opens_with_its_jobs(tmp_path: Path) -> None:
    paths = StudioPaths.of(tmp_path / "outputs")
    paths.prepare()
    with closing(sqlite3.connect(paths.database, isolation_level=None)) as connection:
        for statements in MIGRATIONS[:7]:
            for statement in statements:
                connection.execute(statement)
        connection.execute("PRAGMA user_version = 7")
        connection.execute("INSERT INTO batches (id, name, created) VALUES (1, 'old', 0)")
        columns = {**spec_columns(SPEC), "id": "old", "batch": 1, "state": "queued", "priority": 0, "position": 1}
        names, places = ", ".join(columns), ", ".join(f":{name}" for name in columns)
        connection.execute(f"INSERT INTO jobs ({names}, created) VALUES ({places}, 0)", columns)
    with closing(Store.open(tmp_path / "outputs")) as store, EngineSession(store.database, "worker") as work:
        (child,) = store.add([SPEC], parents=["old"])
        assert [make(work, store).id, make(work, store).id] == ["old", child]
