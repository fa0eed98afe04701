"""The durable queue as engines use it: no job runs twice at once, and none is lost when an engine dies."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from job_helpers import CLAIM_AND_WAIT, SPEC, STEP, kill_holder, queued, run_python, run_together, specs, states

from ovi_studio.core.clip import Clip
from ovi_studio.core.errors import JobError
from ovi_studio.media import clip_files
from ovi_studio.queue.files import clip_name
from ovi_studio.queue.locks import Lock, is_held
from ovi_studio.queue.model import ENDED, Job, JobState, Verdict
from ovi_studio.queue.recovery import recover_dead_engines
from ovi_studio.queue.store import Store
from ovi_studio.queue.work import EngineSession


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(tmp_path / "outputs")) as store:
        yield store


# Engines


def test_progress_is_what_was_reported(store):
    store.add([SPEC])
    with EngineSession(store.database, "worker") as work:
        job = work.claim()
        progress = replace(STEP, fraction=0.25, preview=store.paths.previews / "x.jpg")
        work.report(job, progress)
        assert store.get(job.id).progress == progress
        work.finish(job, store.paths.outputs / "x.mp4", 12.5)
    done = store.get(job.id)
    assert (done.progress, done.seconds, done.clip) == (None, 12.5, store.paths.outputs / "x.mp4")


def test_released_job_goes_back_to_its_place_and_the_attempt_does_not_count(store):
    ids = store.add(specs(2))
    with EngineSession(store.database, "worker") as work:
        work.release(work.claim())
        assert queued(store) == ids
        assert store.get(ids[0]).attempt == 0
        job = work.claim()
        store.cancel([job.id])
        work.release(job)
    assert store.get(ids[0]).state is JobState.CANCELLED


def test_job_keeps_who_made_it_and_forgets_it_when_it_waits_again(store):
    store.add(specs(4))
    with EngineSession(store.database, "farm.rig-1") as work:
        done, failed, released = (work.claim() for _ in range(3))
        assert done.made_by == store.get(done.id).made_by == work.owner
        work.finish(done, store.paths.outputs / "x.mp4", 1.0)
        work.fail(failed, "x")
        work.release(released)
    assert [store.get(job.id).made_by for job in (done, failed, released)] == ["farm.rig-1", "farm.rig-1", None]
    store.retry([failed.id])
    assert store.get(failed.id).made_by is None
    with EngineSession(store.database, "farm.rig-2") as work:
        lost = work.claim()
    assert store.get(lost.id).made_by == "farm.rig-2"
    recover_dead_engines(store.database)
    assert store.get(lost.id).made_by is None


def test_engine_claims_the_next_job_that_it_can_make_and_leaves_the_others_at_their_place(store):
    first, second = store.add([replace(SPEC, variant="960x960_10s"), SPEC])
    with EngineSession(store.database, "worker") as work:
        assert work.claim([]) is None
        assert work.claim([SPEC.variant, "another"]).id == second
        assert work.claim([SPEC.variant]) is None
        assert queued(store) == [first]
        assert work.claim().id == first


def test_engine_that_lost_its_job_changes_nothing(store):
    store.add([SPEC])
    with EngineSession(store.database, "worker") as work:
        job = work.claim()
        with EngineSession(store.database, "impostor") as impostor:
            assert impostor.report(job, STEP) is Verdict.LOST
            for end in (impostor.cancelled, impostor.release, lambda job: impostor.fail(job, "x")):
                assert not end(job)
        assert store.get(job.id).state is JobState.RUNNING
        work.cancelled(job)


def test_engine_is_told_to_stop_with_its_progress(store):
    store.add([SPEC])
    with EngineSession(store.database, "worker") as work:
        job = work.claim()
        store.stop_engine("worker")
        assert work.stop_requested()
        assert work.report(job, STEP) is Verdict.STOP
        work.release(job)
    assert store.engines() == []


@pytest.mark.slow
def test_two_engines_cannot_have_one_name(store):
    with (
        EngineSession(store.database, "worker"),
        pytest.raises(JobError, match="already"),
        EngineSession(store.database, "worker"),
    ):
        pass


@pytest.mark.slow
def test_thousand_jobs_are_claimed_by_four_processes_without_a_duplicate(store):
    store.add(specs(1000))
    code = """
        store = Store.open(sys.argv[1])
        with EngineSession(store.database, sys.argv[2]) as work:
            print("ready", flush=True)
            sys.stdin.readline()
            while (job := work.claim()) is not None:
                print(job.id)
                work.finish(job, Path("x.mp4"), 0.0)
    """
    children = [run_python(code, store.paths.outputs, f"engine-{n}") for n in range(4)]
    assert [child.stdout.readline() for child in children] == ["ready\n"] * 4
    claimed = [line for child in run_together(children) for line in child.split()]
    assert len(claimed) == 1000
    assert set(claimed) == set(store.ids(states=[JobState.DONE]))


def test_threads_of_one_process_do_not_disturb_each_other(store):
    errors: list[BaseException] = []

    def use() -> None:
        try:
            for _ in range(20):
                (job,) = store.add([SPEC])
                store.get(job)
                store.cancel([job])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.counts()[JobState.CANCELLED] == 120


# Engines that die


@pytest.mark.slow
def test_job_of_a_killed_engine_runs_again_and_the_second_time_fails_while_others_go_on(store):
    first, second = store.add(specs(2))
    assert kill_holder(store, "one") == first
    assert store.get(first).state is JobState.RUNNING
    assert recover_dead_engines(store.database) == [first]
    assert queued(store) == [first, second]
    assert kill_holder(store, "two") == first
    recover_dead_engines(store.database)
    failed = store.get(first)
    assert failed.state is JobState.FAILED
    assert "stopped twice on this job" in failed.error
    assert kill_holder(store, "three") == second
    assert store.engines()[0].owner == "three"
    recover_dead_engines(store.database)
    assert store.engines() == []
    assert list(store.paths.owners.iterdir()) == []


@pytest.mark.slow
def test_retry_gives_a_job_that_stopped_the_engine_all_its_attempts(store):
    (job,) = store.add([SPEC])
    for owner in ("one", "two"):
        kill_holder(store, owner)
        recover_dead_engines(store.database)
    store.retry([job])
    kill_holder(store, "three")
    recover_dead_engines(store.database)
    assert store.get(job).state is JobState.QUEUED


@pytest.mark.slow
def test_engine_that_was_killed_on_purpose_does_not_cost_an_attempt(store):
    (job,) = store.add([SPEC])
    for owner in ("one", "two", "three"):
        kill_holder(store, owner)
        recover_dead_engines(store.database, deliberate=True)
    assert (store.get(job).state, store.get(job).attempt) == (JobState.QUEUED, 0)


@pytest.mark.slow
def test_job_that_was_to_be_cancelled_is_cancelled_when_its_engine_dies(store):
    (job,) = store.add([SPEC])
    kill_holder(store, "one", lambda running: store.cancel([running.id]))
    recover_dead_engines(store.database)
    assert store.get(job).state is JobState.CANCELLED


def write_clip_of(job: Job, store: Store) -> Path:
    clip = Clip(job.spec, np.zeros((2, 32, 32, 3), np.uint8), np.zeros(1400, np.float32), record={"job": job.id})
    return clip_files.write_clip(clip, store.paths.outputs, clip_name(job.number, job.id, job.spec.prompt))


@pytest.mark.slow
def test_job_whose_clip_is_in_the_library_is_done_and_not_made_again(store):
    (job,) = store.add([replace(SPEC, prompt="word " * 100)])
    written = []
    kill_holder(store, "one", lambda running: written.append(write_clip_of(running, store)))
    recover_dead_engines(store.database)
    assert (store.get(job).state, store.get(job).clip) == (JobState.DONE, written[0])
    assert store.get(job).poster.is_file()


def test_clip_of_another_job_under_the_name_does_not_count(store):
    (job,) = store.add([SPEC])

    def write(running: Job) -> None:
        name = write_clip_of(replace(running, id="0" * 10), store).name
        target = store.paths.outputs / name.replace("0" * 10, running.id)
        (store.paths.outputs / name).rename(target)

    kill_holder(store, "one", write)
    recover_dead_engines(store.database)
    assert store.get(job).state is JobState.QUEUED


def test_what_a_killed_engine_left_half_written_is_removed_and_nothing_else(store):
    store.add([SPEC])
    others = [store.paths.outputs / name for name in ("a.mp4.part", "a.jpg", "00001_x.mp4", "00001_x.jpg.part")]
    for path in others:
        path.touch()

    def leave(running: Job) -> None:
        stem = f"00001_{running.id}_A_small_clip"
        for suffix in (".mp4.part", ".jpg", ".jpg.part"):
            (store.paths.outputs / (stem + suffix)).touch()
        (store.paths.previews / f"{running.id}.jpg").touch()
        (store.paths.previews / f"{running.id}.jpg.part").touch()

    kill_holder(store, "one", leave)
    recover_dead_engines(store.database)
    assert set(store.paths.outputs.iterdir()) == set(others)
    assert list(store.paths.previews.iterdir()) == []


@pytest.mark.slow
def test_two_who_notice_a_death_at_once_put_it_right_once(store):
    store.add([SPEC])
    kill_holder(store, "one")
    code = """
        store = Store.open(sys.argv[1])
        print("ready", flush=True)
        sys.stdin.readline()
        print(len(recover_dead_engines(store.database)))
    """
    children = [run_python(code, store.paths.outputs) for _ in range(3)]
    assert [child.stdout.readline() for child in children] == ["ready\n"] * 3
    assert sorted(run_together(children)) == ["0\n", "0\n", "1\n"]
    assert store.jobs()[0].attempt == 1


@pytest.mark.slow
def test_deleted_lock_files_do_not_keep_jobs_running_for_ever(store):
    store.add([SPEC])
    kill_holder(store, "one")
    shutil.rmtree(store.paths.owners)
    recover_dead_engines(store.database)
    assert states(store) == [JobState.QUEUED]


@pytest.mark.slow
@pytest.mark.parametrize("now", [0.0, 10.0**10])
def test_clock_that_is_set_back_or_forward_changes_no_decision(store, monkeypatch, now):
    first = store.add(specs(2))
    kill_holder(store, "one")
    child = run_python(CLAIM_AND_WAIT, store.paths.outputs, "living")
    child.stdout.readline()
    monkeypatch.setattr(time, "time", lambda: now)
    second = store.add(specs(1))
    assert recover_dead_engines(store.database) == [first[0]]
    assert [job.id for job in store.jobs(states=[JobState.RUNNING])] == [first[1]]
    assert queued(store) == [first[0], *second]
    store.cancel([first[0]])
    monkeypatch.setattr(time, "time", lambda: now - 10)
    store.cancel(second)
    assert store.ids(states=ENDED) == [*second, first[0]]
    child.communicate("\n", timeout=20)


# Locks


@pytest.mark.slow
def test_lock_is_free_as_soon_as_its_process_is_gone(tmp_path):
    path = tmp_path / "a.lock"
    code = """
        lock = Lock.try_acquire(Path(sys.argv[1]))
        print("held", flush=True)
        sys.stdin.readline()
    """
    child = run_python(code, path)
    child.stdout.readline()
    assert Lock.try_acquire(path) is None
    assert is_held(path)
    child.kill()
    child.wait()
    assert not is_held(path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on Windows")
def test_forked_helper_that_lives_on_does_not_keep_the_lock(tmp_path):
    code = """
        lock = Lock.try_acquire(Path(sys.argv[1]))
        if os.fork() == 0:
            print("child", os.getpid(), flush=True)
            time.sleep(60)
        time.sleep(60)
    """
    parent = run_python(code, tmp_path / "a.lock")
    helper = int(parent.stdout.readline().split()[1])
    assert is_held(tmp_path / "a.lock")
    parent.kill()
    parent.wait()
    try:
        assert not is_held(tmp_path / "a.lock")
    finally:
        os.kill(helper, 9)


def test_removed_lock_file_is_not_held_by_whoever_still_has_it_open(tmp_path):
    for _ in range(50):
        lock = Lock.try_acquire(tmp_path / "a.lock")
        assert Lock.try_acquire(tmp_path / "a.lock") is None
        lock.release(remove=True)
        assert not is_held(tmp_path / "a.lock")
