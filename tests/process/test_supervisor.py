"""Engines and web processes that are really killed: every job ends, and ends once."""

import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import engine_helpers
import numpy as np
import pytest
from engine_helpers import (
    assert_done_exactly_once,
    command,
    end,
    engine,
    engine_pids,
    kill_engines,
    running,
    spec,
    start_web,
    studio,
    wait_for,
    wait_until_ended,
)
from fake_models import BROKEN, NAME
from PIL import Image
from places import SUPPORT
from warm_start import ENGINES

from ovi_studio.core.errors import JobError
from ovi_studio.engine.supervisor import Condition, Supervisor, tail
from ovi_studio.media.frames import read_frame
from ovi_studio.queue.locks import Lock, is_held
from ovi_studio.queue.model import JobState
from ovi_studio.queue.recovery import live_engines, recover_dead_engines
from ovi_studio.queue.store import Store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills processes as only POSIX can")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with studio(tmp_path / "outputs", monkeypatch) as store:
        yield store


def supervisor(store: Store, models: str = NAME, **options: object) -> AbstractContextManager[Supervisor]:
    """Of engines that have their libraries; how they are started by a command is the matter of `test_fleet.py`."""
    return engine_helpers.supervisor(store, models, start_engine=ENGINES.start_engine, **options)


# Killed engines


def test_clip_that_was_renamed_but_not_recorded_is_not_made_twice(store):
    """Killed between the rename and the transaction: what remains is the clip and a row that says running."""
    (job,) = store.add([spec("wait", steps=2)])
    with engine(store):
        wait_until_ended(store)
    with store.database.write() as connection:
        connection.execute("UPDATE jobs SET state = 'running', owner = 'gone', clip = NULL, ended = NULL")
    with engine(store):
        wait_until_ended(store)
    assert_done_exactly_once(store, [job])
    assert store.get(job).attempt == 1


def test_job_that_stops_the_engine_twice_fails_and_the_queue_goes_on(store):
    bad, good = store.add([spec("die"), spec()])
    with supervisor(store):
        wait_until_ended(store)
    assert store.get(bad).state is JobState.FAILED
    assert "stopped twice on this job" in store.get(bad).error
    assert_done_exactly_once(store, [good])


def test_defect_restarts_the_engine_and_the_queue_goes_on(store):
    bad, good = store.add([spec("crash"), spec()])
    with supervisor(store) as found:
        wait_until_ended(store)
        wait_for(lambda: found.status().condition is Condition.RUNNING)
    assert "stopped twice" in store.get(bad).error
    assert_done_exactly_once(store, [good])


# The supervisor


def test_engine_that_is_never_ready_stays_down_with_its_last_words_until_a_restart(store):
    store.add([spec()])
    with supervisor(store, BROKEN) as found:
        wait_for(lambda: found.status().condition is Condition.DOWN)
        down = found.status()
        assert "3 times before it was ready (exit code 1)" in down.reason
        assert any("RuntimeError: no driver" in line for line in down.last_words)
        assert live_engines(store.database) == []
        found.restart()
        wait_for(lambda: found.status().condition is not Condition.DOWN)
    assert found.status().condition is Condition.STOPPED


def test_restart_returns_the_job_to_the_queue_and_starts_another_engine(store):
    (job,) = store.add([spec("wait", steps=60)])
    with supervisor(store) as found:
        wait_for(lambda: running(store))
        (before,) = store.engines()
        found.restart()
        wait_until_ended(store)
        assert store.engines()[0].owner != before.owner
    assert store.get(job).attempt == 1
    assert_done_exactly_once(store, [job])


def test_normal_stop_ends_the_engine_and_returns_its_job_to_the_queue(store):
    (job,) = store.add([spec("wait", steps=1000)])
    with supervisor(store):
        wait_for(lambda: running(store))
        pid = store.engines()[0].pid
    assert (store.get(job).state, store.get(job).attempt) == (JobState.QUEUED, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_engine_that_does_not_end_in_time_is_killed_without_blame(store):
    (job,) = store.add([spec("wait", steps=1000)])
    with supervisor(store, patience=0.3):
        wait_for(lambda: running(store))
        pid = store.engines()[0].pid
        os.kill(pid, signal.SIGSTOP)
    assert (store.get(job).state, store.get(job).attempt) == (JobState.QUEUED, 0)
    assert store.engines() == []


def test_second_web_process_on_one_database_is_refused_with_a_message(store):
    with supervisor(store), pytest.raises(JobError, match=rf"process {os.getpid()}.*--out"):
        Supervisor(store, command(store)).start()
    with supervisor(store):
        pass


def test_engine_outlives_its_web_process_and_the_next_one_adopts_it(store):
    (job,) = store.add([spec("wait", steps=100)])
    web = start_web(store)
    wait_for(lambda: running(store))
    (before,) = store.engines()
    end(web)
    step = store.get(job).progress.step
    wait_for(lambda: store.get(job).progress.step > step + 3)
    with supervisor(store) as found:
        wait_for(lambda: found.status().condition is Condition.RUNNING)
        wait_until_ended(store)
        assert [info.owner for info in store.engines()] == [before.owner]
    assert store.get(job).attempt == 1
    assert_done_exactly_once(store, [job])
    assert store.engines() == []


def test_engine_without_a_web_process_ends_when_nothing_waits(store):
    ids = store.add([spec("wait", seed=seed) for seed in range(3)])
    web = start_web(store)
    wait_for(lambda: running(store))
    end(web)
    wait_for(lambda: not live_engines(store.database))
    assert_done_exactly_once(store, ids)


def test_engine_that_a_person_started_is_used_and_not_ended(store):
    (job,) = store.add([spec()])
    with engine(store) as own:
        wait_for(lambda: store.engines() and store.engines()[0].ready)
        with supervisor(store):
            wait_until_ended(store)
        assert own.poll() is None
        assert [info.pid for info in store.engines()] == [own.pid]
    assert_done_exactly_once(store, [job])


def test_last_lines_of_a_log_can_be_read_in_any_state(tmp_path):
    assert tail(tmp_path / "missing") == ()
    (tmp_path / "log").write_bytes(b"x" * 100_000 + b"\nlast \xff but one\nlast\n")
    assert tail(tmp_path / "log", 2) == ("last \ufffd but one", "last")


# A clock that is set back


def test_clock_that_is_set_back_by_a_day_and_forward_by_a_year_loses_nothing(store, tmp_path, monkeypatch):
    """The clock changes in the web process and the engine, during jobs, with a kill after each change."""
    clock = tmp_path / "clock"
    clock.write_text("0")
    monkeypatch.setenv("OVI_TEST_CLOCK", str(clock))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SUPPORT / "clock"), os.environ["PYTHONPATH"]]))
    web = start_web(store, cold=True)
    try:
        ids = store.add([spec("wait", seed=seed, steps=8) for seed in range(8)])
        for seconds in (-86_400, 365 * 86_400, -3 * 86_400):
            wait_for(lambda: running(store))
            clock.write_text(str(seconds))
            kill_engines(store)
        finish(store, ids)
    finally:
        end(web)
    assert_done_exactly_once(store, ids)
    jobs = [store.get(job) for job in ids]
    assert min(job.finished - job.created for job in jobs) < -2 * 86_400, "the clock was not set back"
    assert max(job.seconds for job in jobs) < 60, "a duration went by the clock"


# Faults at random moments


def test_kill_at_random_moments_of_a_short_queue_loses_nothing(store):
    dice = random.Random(1)
    ids = store.add([spec("wait", seed=seed, steps=2) for seed in range(8)])
    with supervisor(store):
        for _ in range(6):
            time.sleep(dice.uniform(0.05, 0.4))
            kill_engines(store)
        finish(store, ids)
    assert_done_exactly_once(store, ids)


def test_fifty_kills_of_engine_web_process_or_both_lose_nothing(store):
    """Twenty short jobs and fifty kills that hit, each at a random moment of the engine's life.

    Twelve of the jobs are the shots of a film, most of which begin with the last frame of another. A job that happens
    to be hit twice fails with that reason, as it must; then somebody retries it, as a person would.
    """
    dice = random.Random(7)
    shots = [None, 8, 9, 9, 11, 12, None, 14, 15, 15, 15, 18]
    ids = store.add([spec("wait", seed=seed, steps=3) for seed in range(20)], parents=[*[None] * 8, *shots])
    web = start_web(store)
    try:
        for _ in range(50):
            wait_for(lambda: engine_pids(store))
            time.sleep(dice.uniform(0, 0.4))
            victims = dice.choice(["engine", "engine", "web", "both"])
            if victims != "engine":
                end(web)
            if victims != "web":
                kill_engines(store)
            if victims != "engine":
                web = start_web(store)
            retry_those_hit_twice(store)
        finish(store, ids)
    finally:
        end(web)
    assert_done_exactly_once(store, ids)
    for job, parent in zip(ids[8:], shots, strict=True):
        if parent is not None:
            frame = store.get(job).spec.image
            np.testing.assert_array_equal(np.asarray(Image.open(frame)), read_frame(store.get(ids[parent]).clip))


def retry_those_hit_twice(store: Store) -> None:
    failed = store.jobs(states=[JobState.FAILED])
    assert all("stopped twice on this job" in job.error for job in failed)
    store.retry([job.id for job in failed])


def finish(store: Store, ids: list[str]) -> None:
    """Wait until the queue is done; no job may ever be lost."""
    deadline = time.monotonic() + 60
    while store.ids(states=[JobState.DONE]) != ids and store.counts()[JobState.DONE] < len(ids):
        assert time.monotonic() < deadline
        assert sum(store.counts().values()) == len(ids)
        retry_those_hit_twice(store)
        time.sleep(0.05)
    wait_for(lambda: not store.ids(states=[JobState.RUNNING]))
    recover_dead_engines(store.database)


def test_web_lock_is_free_after_a_kill(store):
    web = start_web(store)
    assert is_held(store.paths.web_lock)
    end(web)
    # As the next web process does: an engine that is being started, or that checks for a page, has it for a moment.
    lock = Lock.acquire(store.paths.web_lock, 2)
    assert lock is not None
    lock.release()
