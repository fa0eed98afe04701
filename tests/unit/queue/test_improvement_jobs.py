"""Jobs that improve clips: of a clip that exists, or behind the job that makes it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from job_helpers import SPEC, specs, work_through
from stored_clips import make_clip

from ovi_studio.core.errors import JobError
from ovi_studio.core.improvement import Improvement
from ovi_studio.queue import schema
from ovi_studio.queue.estimates import record_improvement
from ovi_studio.queue.model import ImprovementOrder, JobState
from ovi_studio.queue.recovery import recover_dead_engines
from ovi_studio.queue.schedule import estimate_queue
from ovi_studio.queue.store import Store
from ovi_studio.queue.work import EngineSession

SMOOTH = Improvement(fps=48)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(tmp_path / "outputs")) as store:
        store.paths.prepare()
        yield store


def order(*, pixels: int = 1000, **of: str) -> ImprovementOrder:
    return ImprovementOrder(SPEC, SMOOTH, pixels, **of)


def finish_with(store: Store, name: str) -> None:
    path = make_clip(store.paths.outputs, frames=2)
    work_through(store, 1, lambda work, job: work.finish(job, path.rename(path.with_name(name)), 1.0))


def test_improvement_of_a_clip_that_exists_can_start(store):
    clip = make_clip(store.paths.outputs, frames=2)
    (job,) = store.add_improvements([order(clip=clip.name)])
    assert store.get(job).dependency is None
    assert store.get(job).batch_name == f"48 frames a second: {SPEC.prompt}"
    with EngineSession(store.database, "worker") as work:
        claimed = work.claim()
    assert (claimed.id, claimed.improves.clip, claimed.improves.improvement) == (job, clip, SMOOTH)


def test_improvement_waits_for_the_clip_of_its_job_and_gets_it(store):
    (first,) = store.add([SPEC])
    (job,) = store.add_improvements([order(job=first)], priority=5)
    assert store.get(job).dependency.sentence == "Waits for the clip of job 1."
    finish_with(store, "made.mp4")
    assert store.get(first).state is JobState.DONE
    with EngineSession(store.database, "worker") as work:
        assert work.claim().improves.clip == store.paths.outputs / "made.mp4"


def test_improvement_behind_a_job_that_failed_says_so_and_a_retry_frees_it(store):
    (first,) = store.add([SPEC])
    (job,) = store.add_improvements([order(job=first)])
    work_through(store, 1, lambda work, job: work.fail(job, "no"))
    waits = store.get(job).dependency
    assert waits.blocked
    assert waits.sentence == "Blocked: job 1, on which it depends, failed; retry job 1, or cancel this one."
    store.retry([first])
    assert not store.get(job).dependency.blocked
    store.delete([first])
    assert "was deleted; put that back, or cancel this one" in store.get(job).dependency.sentence


def test_improvement_of_a_clip_that_is_gone_fails_with_advice_and_the_next_job_starts(store):
    (gone,) = store.add_improvements([order(clip="gone.mp4")])
    (other,) = store.add([SPEC])
    with EngineSession(store.database, "worker") as work:
        assert work.claim().id == other
    assert store.get(gone).error == "The clip to improve was moved or deleted; put it back and retry this job."


def test_engine_without_an_improver_leaves_improvements_to_others(store):
    clip = make_clip(store.paths.outputs, frames=2)
    store.add_improvements([order(clip=clip.name)])
    with EngineSession(store.database, "farmed") as work:
        assert work.claim(improves=False) is None
        assert work.claim(["no variant"], improves=True).improves is not None


def test_improvement_survives_a_dead_engine_a_copy_and_a_deletion(store):
    clip = make_clip(store.paths.outputs, frames=2)
    (job,) = store.add_improvements([order(clip=clip.name)])
    work = EngineSession(store.database, "dead").__enter__()
    improves = work.claim().improves
    work._lock.release()
    recover_dead_engines(store.database)
    assert (store.get(job).state, store.get(job).improves) == (JobState.QUEUED, improves)
    (copy,) = store.duplicate([job])
    store.delete([copy])
    store.restore([copy])
    assert store.get(copy).improves == improves
    with pytest.raises(JobError, match="that makes a clip"):
        store.edit(job, SPEC)


def test_estimates_of_improvements_come_from_their_own_history(store):
    clip = make_clip(store.paths.outputs, frames=2)
    (job, _) = store.add_improvements([order(clip=clip.name), order(clip=clip.name, pixels=3000)])
    store.add(specs(2))
    assert estimate_queue(store.database).unmeasured == 4
    record_improvement(store.database, store.get(job).improves, 2.0)
    estimate = estimate_queue(store.database)
    assert (estimate.seconds, estimate.unmeasured) == (pytest.approx(8.0), 2)


def test_database_from_before_improvements_opens(tmp_path, monkeypatch):
    outputs = tmp_path / "outputs"
    with monkeypatch.context() as before:
        before.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[: schema.MIGRATIONS.index(schema._IMPROVEMENTS)])
        with closing(Store.open(outputs)) as old, old.database.write() as connection:
            connection.execute("INSERT INTO batches (name, created) VALUES ('a', 0)")
            assert "improvement" not in [row["name"] for row in connection.execute("PRAGMA table_info(jobs)")]
    with closing(Store.open(outputs)) as store:
        store.add([SPEC])
        assert store.jobs()[0].improves is None
    assert sqlite3.connect(store.paths.database).execute("PRAGMA user_version").fetchone()[0] == len(schema.MIGRATIONS)
