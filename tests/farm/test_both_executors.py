"""What an engine does must be the same in this process and on another machine: the same tests, run twice."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from engine_helpers import assert_done_exactly_once, running, wait_for, wait_until_ended
from farm_helpers import VARIANT, dispatcher, home, spec
from PIL import Image
from training_helpers import own_clip

from ovi_studio.core.adapter_stack import AdapterUse
from ovi_studio.media.clip_files import read_record
from ovi_studio.media.sources import pin_source
from ovi_studio.queue.estimates import ClipKind, History, made_clips
from ovi_studio.queue.model import ClipPhase, Job, JobState
from ovi_studio.queue.store import PAUSED, Store, enable_memory_fallback

Serve = Callable[[Store], AbstractContextManager[object]]


@pytest.fixture(params=["home", "farm"])
def serve(request: pytest.FixtureRequest) -> Serve:
    if request.param == "home":
        return home
    request.getfixturevalue("farm")
    return dispatcher


def followed(store: Store) -> list[Job]:
    """The running job at every change of its progress, until no job is left."""
    seen: list[Job] = []

    def look() -> bool:
        for job in store.jobs(states=[JobState.RUNNING]):
            if job.progress and (not seen or seen[-1].progress != job.progress):
                seen.append(job)
        return not store.ids(states=[JobState.QUEUED, JobState.RUNNING])

    wait_for(look, 60)
    return seen


def test_progress_phases_previews_and_times(serve: Serve, store: Store) -> None:
    (job,) = store.add([spec("wait, sketch and decode", steps=8)])
    previews = []
    with serve(store):
        seen = [one.progress for one in followed(store)]
        previews = [one.preview for one in seen if one.preview]
    assert_done_exactly_once(store, [job])
    steps = [one.step for one in seen if one.phase is ClipPhase.DENOISING]
    assert steps == sorted(steps)
    assert len(set(steps)) >= 4
    assert {ClipPhase.DENOISING, ClipPhase.DECODING} <= {one.phase for one in seen}
    assert any(one.fraction for one in seen if one.phase is ClipPhase.DECODING)
    assert previews
    assert store.database.setting(f"preview/{VARIANT}") is not None
    ((maker, made),) = made_clips(store.database).items()
    assert made.clips == 1
    assert 0.04 < History(store.database).phase_times(ClipKind.of(store.get(job).spec), maker).step < 0.5


def test_cancelling_ends_a_clip_within_a_step(serve: Serve, store: Store) -> None:
    (job,) = store.add([spec("wait slowly", steps=500)])
    with serve(store):
        wait_for(lambda: running(store), 60)
        before = store.get(job).progress.step
        store.cancel([job])
        assert store.get(job).progress is None or store.get(job).progress.step <= before + 1
        wait_for(lambda: store.get(job).state is JobState.CANCELLED, 5)


def test_paused_queue_finishes_its_clip_and_begins_no_other(serve: Serve, store: Store) -> None:
    first, second = store.add([spec("wait", steps=20), spec()])
    with serve(store):
        wait_for(lambda: running(store), 60)
        store.database.put_setting(PAUSED, True)
        wait_for(lambda: store.get(first).state is JobState.DONE, 30)
        wait_for(lambda: not store.ids(states=[JobState.RUNNING]))
        assert store.get(second).state is JobState.QUEUED
        store.database.put_setting(PAUSED, False)
        wait_until_ended(store)
    assert_done_exactly_once(store, [first, second])


@pytest.mark.parametrize("allowed", [True, False])
def test_shortage_of_memory(serve: Serve, store: Store, allowed: bool) -> None:
    enable_memory_fallback(store.database, allowed)
    (job,) = store.add([spec("crowded")])
    with serve(store):
        wait_until_ended(store)
    found = store.get(job)
    if allowed:
        assert (found.state, found.note) == (JobState.DONE, "Made in tier 8: memory ran out in tier 12.")
    else:
        assert found.state is JobState.FAILED
        assert found.error.startswith("There is not enough memory for this clip.")
        assert "--memory 12" in found.error


def test_a_clip_is_made_from_its_own_files(serve: Serve, store: Store, tmp_path: Path) -> None:
    picture = tmp_path / "first.png"
    Image.new("RGB", (32, 32), "red").save(picture)
    uses = (AdapterUse(name="demo-lightning.safetensors"),)
    source = own_clip(tmp_path, "own", 1, caption=None)
    ids = store.add(
        [
            spec("one", image=picture),
            spec("two", adapters=uses),
            pin_source(spec("three", source=source, strength=0.5)),
            spec("refuse"),
        ]
    )
    with serve(store):
        wait_until_ended(store)
    *made, refused = ids
    assert_done_exactly_once(store, made)
    records = [read_record(store.get(job).clip)["spec"] for job in made]
    assert Path(records[0]["image"]).name == store.get(ids[0]).spec.image.name
    assert records[1]["adapters"][0]["name"] == "demo-lightning.safetensors"
    # From the folder of the clips, so that the clip can be made again.
    assert records[2]["source"] == "../own.mp4"
    assert store.get(refused).error == "This cannot be done; try something else."


def test_source_that_was_replaced_is_refused(serve: Serve, store: Store, tmp_path: Path) -> None:
    source = own_clip(tmp_path, "own", 1, caption=None)
    (job,) = store.add([pin_source(spec(source=source, strength=0.5))])
    source.write_bytes(source.read_bytes() + b" ")
    with serve(store):
        wait_until_ended(store)
    assert store.get(job).error == "own.mp4 is not the file that the clip was made with; choose the original one."
