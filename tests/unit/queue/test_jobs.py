"""The durable queue as people use it: what they ask for happens or is refused, and ten thousand jobs are no burden."""

import json
import random
import shutil
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from job_helpers import (
    SPEC,
    STEP,
    queued,
    specs,
    states,
    work_through,
)
from PIL import Image

from ovi_studio.core.errors import JobError
from ovi_studio.core.spans import ALL
from ovi_studio.queue import trash
from ovi_studio.queue.estimates import PhaseTimes, record_phase_times
from ovi_studio.queue.model import JobState, Verdict
from ovi_studio.queue.schedule import estimate_clip, estimate_queue
from ovi_studio.queue.store import Store
from ovi_studio.queue.work import EngineSession


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(tmp_path / "outputs")) as store:
        yield store


# Adding and looking


def test_job_comes_back_as_it_was_added(store):
    spec = replace(
        SPEC, size=(512, 992), solver="dpm++", slg_layer=-1, audio_negative_prompt="", prompt="雨 🌧 'x' %_\\"
    )
    (job_id,) = store.add([spec], "evening", priority=2)
    job = store.get(job_id)
    assert (job.number, job.spec, job.batch_name, job.priority) == (1, spec, "evening", 2)
    assert (job.state, job.attempt, job.progress, job.error, job.clip, job.poster) == (
        JobState.QUEUED,
        0,
        None,
        None,
        None,
        None,
    )
    assert store.jobs() == [job]


def test_batch_counts_its_jobs(store):
    store.add(specs(2), "first")
    ids = store.add(specs(3), "second\n line")
    store.cancel(ids[:1])
    second, first = store.batches()
    assert (first.name, first.total, second.name, second.total) == ("first", 2, "second line", 3)
    assert (second.counts[JobState.CANCELLED], second.counts[JobState.QUEUED], second.counts[JobState.DONE]) == (
        1,
        2,
        0,
    )
    assert store.counts(second.id) == second.counts
    assert not second.ended
    store.cancel(ids)
    assert store.batches()[0].ended


def test_batch_without_a_name_is_called_after_its_first_prompt(store):
    assert store.get(store.add([SPEC])[0]).batch_name == SPEC.prompt


def test_batch_is_added_whole_or_not_at_all(store, tmp_path):
    with pytest.raises(JobError, match="no picture"):
        store.add([SPEC, replace(SPEC, image=tmp_path / "missing.png")])
    with pytest.raises(JobError, match="no clip"):
        store.add([])
    assert store.jobs() == []
    assert store.batches() == []


def test_jobs_are_filtered_counted_and_cut_into_pages(store):
    ids = store.add(
        [replace(SPEC, prompt=f"a 100% {colour} car_{n}") for n in range(5) for colour in ("red", "blue")], "x"
    )
    other = store.add([SPEC], "Fleet of Cars")
    store.cancel(ids[:3])
    assert len(store.jobs(text="RED car")) == store.count(text="RED car") == 5
    assert set(store.ids(text="100%")) == set(ids)
    assert store.ids(text="fleet of") == other
    assert store.ids(text="c_r") == []
    assert len(store.ids(states=[JobState.CANCELLED])) == 3
    assert store.ids(batch=2) == other
    assert [job.id for offset in (0, 4, 8) for job in store.jobs(offset=offset, limit=4)] == store.ids()
    assert store.counts() == {
        JobState.QUEUED: 8,
        JobState.RUNNING: 0,
        JobState.DONE: 0,
        JobState.FAILED: 0,
        JobState.CANCELLED: 3,
    }


def test_jobs_are_shown_running_then_waiting_then_the_latest_that_ended(store):
    ids = store.add(specs(5)) + store.add(specs(1), priority=1)
    store.cancel([ids[1]])
    store.cancel([ids[0]])
    with EngineSession(store.database, "worker") as work:
        work.claim()
        assert store.ids() == [ids[5], ids[2], ids[3], ids[4], ids[0], ids[1]]


def test_missing_job_is_refused(store):
    with pytest.raises(JobError, match="no longer exists"):
        store.get("nothing")


def test_change_counter_tells_every_thread_of_every_change(store):
    with closing(Store.open(store.paths.outputs)) as other:
        seen = [other.change_counter()]
        (job,) = store.add([SPEC])
        seen.append(other.change_counter())
        with EngineSession(store.database, "worker") as work:
            claimed = work.claim()
            seen.append(other.change_counter())
            work.report(claimed, STEP)
            seen.append(other.change_counter())
            work.cancelled(claimed)
        seen.append(other.change_counter())
        store.delete([job])
        seen.append(other.change_counter())
        assert seen == sorted(set(seen))
        assert other.change_counter() == seen[-1]


# What people do with jobs


def test_waiting_job_is_cancelled_at_once_and_a_running_one_by_its_flag(store):
    ids = store.add(specs(2))
    with EngineSession(store.database, "worker") as work:
        job = work.claim()
        assert work.report(job, STEP) is Verdict.CONTINUE
        assert store.cancel(ids) == 2
        assert states(store) == [JobState.RUNNING, JobState.CANCELLED]
        assert store.get(ids[0]).cancelling
        assert work.report(job, STEP) is Verdict.CANCEL
        assert work.cancelled(job)
    assert states(store) == [JobState.CANCELLED, JobState.CANCELLED]
    assert store.cancel(ids) == 0


def test_failed_and_cancelled_jobs_are_retried_at_the_end_and_no_others(store):
    ids = store.add(specs(4))
    with EngineSession(store.database, "worker") as work:
        work.fail(work.claim(), "for a reason")
        work.finish(work.claim(), store.paths.outputs / "x.mp4", 2.0)
    store.cancel([ids[2]])
    assert store.get(ids[0]).error == "for a reason"
    assert store.retry(ids) == 2
    assert queued(store) == [ids[3], ids[0], ids[2]]
    again = store.get(ids[0])
    assert (again.attempt, again.error, again.finished, again.cancelling) == (0, None, None, False)


def test_duplicates_are_new_jobs_in_the_same_batch(store):
    ids = store.add(specs(2), "mine", priority=3)
    store.cancel(ids)
    new = store.duplicate(ids)
    assert [store.get(job).spec for job in new] == specs(2)
    assert {store.get(job).batch_name for job in new} == {"mine"}
    assert states(store) == [JobState.CANCELLED] * 2 + [JobState.QUEUED] * 2
    assert len({*ids, *new}) == 4


def test_only_a_waiting_job_can_be_edited(store):
    (job,) = store.add([SPEC])
    store.edit(job, replace(SPEC, prompt="another", steps=9))
    assert (store.get(job).spec.prompt, store.get(job).spec.steps) == ("another", 9)
    with EngineSession(store.database, "worker") as work:
        work.claim()
        with pytest.raises(JobError, match="Only a waiting job"):
            store.edit(job, SPEC)
    with pytest.raises(JobError, match="Only a waiting job"):
        store.edit("nothing", SPEC)


def test_deleting_and_clearing_leave_the_running_and_the_clips(store):
    ids = store.add(specs(5))
    with EngineSession(store.database, "worker") as work:
        work.finish(work.claim(), store.paths.outputs / "x.mp4", 2.0)
        work.fail(work.claim(), "reason")
        work.claim()
        (store.paths.outputs / "x.mp4").touch()
        assert store.delete(ids[2:4]) == 1
        assert store.clear_finished([JobState.FAILED]) == 1
        assert store.clear_finished() == 1
        assert states(store) == [JobState.RUNNING, JobState.QUEUED]
    assert (store.paths.outputs / "x.mp4").exists()


def test_batches_without_jobs_are_forgotten(store):
    ids = store.add(specs(2))
    store.add([SPEC], "stays")
    store.delete(ids)
    assert [batch.name for batch in store.batches()] == ["stays"]


def test_pause_holds_the_queue_also_after_a_restart(store):
    store.add([SPEC])
    store.pause()
    store.close()
    again = Store.open(store.paths.outputs)
    with EngineSession(again.database, "worker") as work:
        assert again.paused
        assert work.claim() is None
        again.resume()
        assert work.claim() is not None
    again.close()


def test_settings_keep_json(store):
    assert store.database.setting("sound") is None
    store.database.put_setting("sound", {"on": True})
    store.database.put_setting("sound", {"on": False})
    assert store.database.setting("sound") == {"on": False}


def test_notices_stay_until_they_are_put_away(store):
    store.database.add_notice("first")
    store.database.add_notice("second")
    second, first = store.database.notices()
    store.database.dismiss_notice(second.id)
    assert store.database.notices() == [first]


# Order


def test_higher_priority_runs_first_and_then_the_order_of_adding(store):
    ids = store.add(specs(2))
    urgent = store.add(specs(2), priority=5)
    first = store.add(specs(1), priority=9)
    order: list[str] = []
    work_through(store, 5, lambda work, job: (order.append(job.id), work.cancelled(job)))
    assert order == [*first, *urgent, *ids]


@pytest.mark.slow
def test_moving_is_the_same_as_moving_in_a_list(store):
    """Two thousand moves from a fixed seed; many go between the same two neighbours, which uses the room up."""
    dice = random.Random(5)
    expected = store.add(specs(12))
    for turn in range(2000):
        anchor = expected[3] if turn % 2 else dice.choice(expected)
        moving = dice.sample([job for job in expected if job != anchor], dice.choice([1, 1, 1, 3]))
        side = dice.choice(["before", "after"])
        store.move(moving, **{side: anchor})
        rest = [job for job in expected if job not in moving]
        at = rest.index(anchor) + (side == "after")
        expected = rest[:at] + moving + rest[at:]
        if turn % 50 == 0:
            store.move_to_front(expected[5:7])
            expected = expected[5:7] + expected[:5] + expected[7:]
        assert queued(store) == expected


def test_moved_job_takes_the_priority_of_its_new_neighbour(store):
    low, high = store.add(specs(2)), store.add(specs(2), priority=4)
    store.move([low[1]], after=high[0])
    assert queued(store) == [high[0], low[1], high[1], low[0]]
    assert store.get(low[1]).priority == 4
    store.move([high[0]], after=low[0])
    assert queued(store) == [low[1], high[1], low[0], high[0]]


def test_new_jobs_come_after_moved_ones(store):
    ids = store.add(specs(3))
    store.move([ids[0]], after=ids[2])
    (new,) = store.add([SPEC])
    assert queued(store) == [ids[1], ids[2], ids[0], new]


def test_all_jobs_can_be_put_in_front_in_another_order(store):
    ids = store.add(specs(3))
    store.move_to_front([ids[2], ids[0], ids[1]])
    assert queued(store) == [ids[2], ids[0], ids[1]]


def test_only_waiting_jobs_are_moved(store):
    ids = store.add(specs(3))
    store.cancel([ids[0]])
    for moving, anchor in [([ids[0]], ids[1]), ([ids[1]], ids[0]), (["nothing"], ids[1])]:
        with pytest.raises(JobError, match="Only waiting jobs"):
            store.move(moving, before=anchor)
    assert queued(store) == ids[1:]


# Pictures


def save_picture(path: Path, level: int = 90) -> Path:
    Image.fromarray(np.full((40, 30, 3), level, np.uint8)).save(path)
    return path


def test_first_frame_is_copied_so_that_an_upload_may_vanish(store, tmp_path):
    upload = save_picture(tmp_path / "upload.png")
    data = upload.read_bytes()
    ids = store.add([replace(SPEC, image=upload)] * 2)
    upload.unlink()
    paths = {store.get(job).spec.image for job in ids}
    assert [path.read_bytes() for path in paths] == [data]
    (path,) = paths
    assert path.parent == store.paths.pictures
    store.edit(ids[0], replace(store.get(ids[0]).spec, steps=3))
    assert store.get(store.duplicate(ids[:1])[0]).spec.image == path


def test_a_first_frame_that_is_not_a_picture_is_refused(store, tmp_path):
    (tmp_path / "page.png").write_text("<script>")
    with pytest.raises(JobError, match="not a picture"):
        store.add([replace(SPEC, image=tmp_path / "page.png")])
    assert list(store.paths.pictures.iterdir()) == []


def test_pictures_go_with_the_last_job_that_needs_them(store, tmp_path, monkeypatch):
    uploads = [save_picture(tmp_path / f"{level}.png", level) for level in (10, 20)]
    ids = store.add([replace(SPEC, image=uploads[0]), replace(SPEC, image=uploads[1]), replace(SPEC, image=uploads[1])])
    store.delete(ids[:2])
    later = time.time() + trash.KEPT_SECONDS + 1
    monkeypatch.setattr(trash.time, "time", lambda: later)
    store.delete([])
    assert [path.name for path in store.paths.pictures.iterdir()] == [store.get(ids[2]).spec.image.name]


def test_moved_studio_finds_its_pictures_and_clips(tmp_path):
    old = Store.open(tmp_path / "old" / "outputs")
    (job,) = old.add([replace(SPEC, image=save_picture(tmp_path / "a.png"))])
    work_through(old, 1, lambda work, job: work.finish(job, old.paths.outputs / "x.mp4", 1.0))
    old.close()
    shutil.move(tmp_path / "old", tmp_path / "new")
    with closing(Store.open(tmp_path / "new" / "outputs")) as new:
        assert new.get(job).spec.image.is_file()
        assert new.get(job).clip == tmp_path / "new" / "outputs" / "x.mp4"
        assert new.get(job).poster == tmp_path / "new" / "outputs" / "x.jpg"


# Estimates


def test_cost_is_estimated_from_what_was_measured(store):
    assert estimate_clip(store.database, SPEC) is None
    record_phase_times(store.database, SPEC, PhaseTimes(text=1.0, step=2.0, decode=5.0, write=0.5))
    assert estimate_clip(store.database, replace(SPEC, steps=10)) == 26.5
    unguided = replace(SPEC, video_guidance=1, audio_guidance=1)
    assert estimate_clip(store.database, unguided) is None
    store.add([replace(SPEC, steps=10)] * 3 + [unguided] * 2)
    estimate = estimate_queue(store.database)
    assert (estimate.seconds, estimate.unmeasured) == (3 * 26.5, 2)


def test_steps_that_are_left_out_or_made_again_count_as_often_as_they_are_computed(store):
    source = replace(SPEC, steps=10, source=Path("clip.mp4"), keep_sound=ALL)
    record_phase_times(
        store.database, replace(source, resamples=1), PhaseTimes(text=1.0, step=4.0, decode=5.0, write=0.5)
    )
    kinds = [replace(SPEC, steps=10), replace(source, strength=0.5), replace(source, resamples=2)]
    expected = [26.5, 16.5, 66.5]
    assert [estimate_clip(store.database, spec) for spec in kinds] == expected
    store.add(kinds)
    assert estimate_queue(store.database).seconds == sum(expected)


def test_clips_that_leave_out_passes_have_times_of_their_own(store):
    whole, cached = SPEC, replace(SPEC, step_cache="fast")
    unguided = replace(cached, video_guidance=1, audio_guidance=1)
    for spec, step in ((whole, 3.0), (cached, 2.0), (unguided, 1.0)):
        record_phase_times(store.database, spec, PhaseTimes(text=1.0, step=step, decode=5.0, write=0.5))
    store.add([whole, cached, unguided])
    expected = [6.5 + step * SPEC.steps for step in (3.0, 2.0, 1.0)]
    assert [estimate_clip(store.database, spec) for spec in (whole, cached, unguided)] == expected
    assert estimate_clip(store.database, replace(unguided, step_cache="off")) == expected[2]
    assert estimate_queue(store.database).seconds == sum(expected)


# Load


def median_ms(action: Callable[[], object], times: int) -> float:
    """Of processor time: the clock says little where other things run too."""
    taken = []
    for _ in range(times):
        start = time.thread_time()
        action()
        taken.append(time.thread_time() - start)
    return statistics.median(taken) * 1000


@pytest.mark.slow
def test_ten_thousand_jobs_are_no_burden(store):
    store.add([replace(SPEC, prompt="word " * 100)] * 10_000)
    ids = store.ids()
    assert median_ms(lambda: store.add([SPEC]), 31) < 5
    assert median_ms(store.jobs, 11) < 50
    assert median_ms(lambda: store.jobs(offset=9000), 11) < 100
    assert median_ms(lambda: store.jobs(states=[JobState.DONE]), 11) < 100
    assert median_ms(store.counts, 11) < 50
    assert median_ms(store.count, 11) < 50
    assert median_ms(store.batches, 11) < 50
    assert median_ms(lambda: store.jobs(text="nothing like it"), 5) < 200
    assert median_ms(store.change_counter, 31) < 1
    assert median_ms(lambda: estimate_queue(store.database), 5) < 100
    assert median_ms(lambda: store.move([ids[-1]], before=ids[0]), 11) < 20
    with EngineSession(store.database, "worker") as work:
        assert median_ms(work.claim, 11) < 20
        job = work.claim()
        assert median_ms(lambda: work.report(job, STEP), 101) < 5


def test_record_of_a_job_is_plain_json_in_the_database(store):
    """Another program can read the queue."""
    store.add([replace(SPEC, prompt="雨")])
    with closing(sqlite3.connect(store.paths.database)) as connection:
        (text,) = connection.execute("SELECT spec FROM jobs").fetchone()
    assert json.loads(text)["prompt"] == "雨"
