"""The engine improves clips: behind the job that makes them, through a kill, and until it is cancelled."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clip_reading import read_frames
from engine_helpers import assert_done_exactly_once, engine, spec, studio, wait_for, wait_until_ended
from stored_clips import make_clip

from ovi_studio.core.improvement import Improvement
from ovi_studio.media.clip_files import read_record
from ovi_studio.queue.estimates import History
from ovi_studio.queue.model import ClipPhase, ImprovementOrder, JobState
from ovi_studio.queue.recovery import recover_dead_engines
from ovi_studio.queue.store import Store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills processes as only POSIX can")
SMOOTH = Improvement(fps=48)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with studio(tmp_path / "outputs", monkeypatch) as store:
        store.paths.prepare()
        yield store


def improving(store: Store) -> bool:
    """Whether some chunks of a clip are done."""
    running = [job for job in store.jobs(states=[JobState.RUNNING]) if job.progress]
    return any(job.progress.phase is ClipPhase.IMPROVING and job.progress.step > 24 for job in running)


def test_clip_is_improved_as_soon_as_it_is_made(store):
    (first,) = store.add([spec("a clip")])
    (second,) = store.add_improvements([ImprovementOrder(spec("a clip"), SMOOTH, 100, job=first)], priority=9)
    with engine(store):
        wait_until_ended(store)
    assert_done_exactly_once(store, [first, second])
    made, better = store.get(first).clip, store.get(second).clip
    assert len(read_frames(better)) == 2 * len(read_frames(made))
    assert read_record(better)["improvements"][0]["source"] == made.name
    assert History(store.database).improvement(SMOOTH, 100) > 0


def test_improvement_goes_on_after_a_kill_and_leaves_nothing_when_it_is_cancelled(store, tmp_path):
    clip = make_clip(tmp_path, frames=120, size=(192, 320))
    clip = clip.rename(store.paths.outputs / clip.name)
    order = ImprovementOrder(spec("a clip"), SMOOTH, 100, clip=clip.name)
    (job,) = store.add_improvements([order])
    with engine(store) as child:
        wait_for(lambda: improving(store), 60)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    recover_dead_engines(store.database)
    assert store.get(job).state is JobState.QUEUED
    kept = {path: path.stat().st_mtime_ns for path in store.paths.improving.rglob("*.mp4")}
    assert kept
    with engine(store):
        wait_for(lambda: store.get(job).state is JobState.RUNNING, 60)
        wait_for(lambda: improving(store), 60)
        assert {path: path.stat().st_mtime_ns for path in kept} == kept
        store.cancel([job])
        wait_until_ended(store)
    assert store.get(job).state is JobState.CANCELLED
    assert list(store.paths.improving.iterdir()) == []
    assert [path.name for path in store.paths.outputs.iterdir()] == [clip.name]
