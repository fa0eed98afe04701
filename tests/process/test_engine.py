"""The engine as a real process: jobs in their order, progress, and what ends a job or the engine.

Most tests use models without weights (`fake_models`).
"""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from engine_helpers import (
    assert_done_exactly_once,
    engine,
    running,
    spec,
    studio,
    wait_for,
    wait_until_ended,
)
from fake_models import STEP_SECONDS
from PIL import Image
from places import PYTHON_PATH
from warm_start import PIPELINES

from ovi_studio.core.spec import ClipSpec
from ovi_studio.engine.command import engine_command
from ovi_studio.media import clip_files
from ovi_studio.queue.model import ClipPhase, EngineState, JobState
from ovi_studio.queue.recovery import live_engines
from ovi_studio.queue.schedule import estimate_clip
from ovi_studio.queue.store import Store
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.preview import Previewer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills processes as only POSIX can")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with studio(tmp_path / "outputs", monkeypatch) as store:
        yield store


# One engine


def test_queue_is_processed_in_order_across_variants(store):
    ids = store.add([spec(variant=name, seed=seed) for seed, name in enumerate(["a", "b", "a"])])
    urgent = store.add([spec()], priority=1)
    with engine(store):
        wait_until_ended(store)
    assert_done_exactly_once(store, [*ids, *urgent])
    assert store.ids() == [*reversed(ids), *urgent]
    record = clip_files.read_record(store.get(ids[1]).clip)
    assert ClipSpec.from_dict(record["spec"]) == store.get(ids[1]).spec


def test_bad_jobs_fail_with_advice_and_the_engine_continues(store):
    refused, memory, good = store.add([spec("refuse"), spec("memory"), spec()])
    with engine(store):
        wait_until_ended(store)
        assert [store.get(job).state for job in (refused, memory, good)] == [
            JobState.FAILED,
            JobState.FAILED,
            JobState.DONE,
        ]
        assert len(live_engines(store.database)) == 1
    assert store.get(refused).error == "This cannot be done; try something else."
    assert "not enough memory" in store.get(memory).error
    assert "demo" in store.get(memory).error
    assert "--cpu-offload" in store.get(memory).error


def test_defect_ends_the_engine_with_its_traceback_in_the_log(store):
    store.add([spec("crash")])
    with engine(store) as child:
        assert child.wait(30) == 1
    assert "RuntimeError: a defect" in store.paths.log.read_text()
    assert store.counts()[JobState.RUNNING] == 1


def test_running_job_is_cancelled_within_a_step(store):
    job, after = store.add([spec("wait", steps=1000), spec()])
    with engine(store):
        wait_for(lambda: running(store))
        store.cancel([job])
        asked = time.monotonic()
        wait_for(lambda: store.get(job).state is JobState.CANCELLED)
        assert time.monotonic() - asked < 10 * STEP_SECONDS
        wait_until_ended(store)
    assert_done_exactly_once(store, [after])


def test_running_job_is_cancelled_within_a_decoded_piece(store):
    job, after = store.add([spec("decode", steps=1000), spec()])
    with engine(store):
        wait_for(lambda: (progress := store.get(job).progress) and progress.fraction and progress.seconds_left)
        progress = store.get(job).progress
        assert (progress.phase, progress.step, progress.total) == (ClipPhase.DECODING, 1000, 1000)
        assert progress.seconds_left > 500 * STEP_SECONDS
        store.cancel([job])
        asked = time.monotonic()
        wait_for(lambda: store.get(job).state is JobState.CANCELLED)
        assert time.monotonic() - asked < 10 * STEP_SECONDS
        wait_until_ended(store)
    assert_done_exactly_once(store, [after])


def test_clip_that_is_being_decoded_is_finished_before_the_engine_ends(store):
    (job,) = store.add([spec("decode", steps=30)])
    with engine(store) as child:
        wait_for(lambda: (progress := store.get(job).progress) and progress.fraction)
        store.stop_engine(store.engines()[0].owner)
        assert child.wait(20) == 0
    assert_done_exactly_once(store, [job])


def test_progress_says_phase_steps_and_time_left(store):
    store.add([spec("wait", steps=40)])
    with engine(store):
        wait_for(lambda: running(store))
        wait_for(lambda: (job := store.jobs()[0]).progress is None or job.progress.step >= 5)
        progress = store.jobs()[0].progress
        assert (progress.phase, progress.total) == (ClipPhase.DENOISING, 40)
        assert STEP_SECONDS <= progress.seconds_per_step < 6 * STEP_SECONDS
        left = progress.seconds_per_step * (40 - progress.step)
        assert progress.seconds_left == pytest.approx(left)
        (info,) = store.engines()
        assert (info.state, info.ready) == (EngineState.WORKING, True)
        wait_until_ended(store)
        # The pace is kept after the clip is.
        wait_for(lambda: store.engines()[0].state is EngineState.IDLE)
    assert STEP_SECONDS * 40 < estimate_clip(store.database, spec("wait", steps=40)) < STEP_SECONDS * 240
    assert store.jobs()[0].seconds > STEP_SECONDS * 40


def test_pause_lets_the_running_job_finish_and_starts_no_other(store):
    first, second = store.add([spec("wait", steps=10), spec()])
    with engine(store):
        wait_for(lambda: running(store))
        store.pause()
        wait_for(lambda: store.get(first).state is JobState.DONE)
        wait_for(lambda: store.engines()[0].state is EngineState.IDLE)
        time.sleep(0.5)
        assert store.get(second).state is JobState.QUEUED
        store.resume()
        wait_until_ended(store)
    assert_done_exactly_once(store, [first, second])


@pytest.mark.parametrize("how", ["store", "signal"])
def test_engine_that_is_asked_to_end_returns_its_job_to_the_queue(store, how):
    (job,) = store.add([spec("wait", steps=1000)])
    with engine(store) as child:
        wait_for(lambda: running(store))
        if how == "store":
            store.stop_engine(store.engines()[0].owner)
        else:
            child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 0
    assert (store.get(job).state, store.get(job).attempt) == (JobState.QUEUED, 0)
    assert store.engines() == []
    assert list(store.paths.owners.iterdir()) == []


def test_output_folder_that_is_not_writable_pauses_the_queue_and_fails_no_job(store):
    with engine(store):
        wait_for(lambda: store.engines() and store.engines()[0].ready)
        store.paths.outputs.rmdir()
        store.paths.outputs.write_text("not a folder")
        ids = store.add([spec(), spec()])
        wait_for(lambda: store.paused)
        wait_for(lambda: not store.ids(states=[JobState.RUNNING]))
        assert store.ids(states=[JobState.QUEUED]) == ids
        assert "choose another one. Then resume the queue" in store.database.notices()[0].text
        store.paths.outputs.unlink()
        store.resume()
        wait_until_ended(store)
    assert_done_exactly_once(store, ids)


def test_two_engines_share_a_queue(store):
    ids = store.add([spec("wait", seed=seed) for seed in range(10)])
    with engine(store), engine(store):
        wait_until_ended(store)
    assert_done_exactly_once(store, ids)


def test_engine_whose_database_was_set_aside_ends(store):
    with engine(store) as child:
        wait_for(lambda: store.engines() and store.engines()[0].ready)
        store.paths.database.rename(store.paths.state / "aside")
        assert child.wait(10) == 1


def test_idle_engine_takes_over_from_one_that_was_killed(store):
    with engine(store) as first:
        (job,) = store.add([spec("wait", steps=1000)])
        wait_for(lambda: running(store))
        with engine(store):
            wait_for(lambda: len(store.engines()) == 2)
            first.kill()
            first.wait()
            wait_for(lambda: store.get(job).attempt == 2)
            store.cancel([job])
            wait_until_ended(store)


def test_tiny_model_makes_a_clip_with_previews_and_learns_from_it(store, tiny_bundle):
    ids = store.add([spec(variant="tiny", steps=30, seed=seed) for seed in range(2)])
    previews: set[bytes] = set()
    _, *arguments = engine_command(store.paths, RuntimeOptions(checkpoint_directory=tiny_bundle))
    with Path(os.devnull).open("w") as nothing:
        child = PIPELINES.start(*arguments, environment=os.environ, stderr=nothing.fileno())
    try:
        deadline = time.monotonic() + 120
        wait_for(lambda: store.ids(states=[JobState.RUNNING]), 60)
        while store.ids(states=[JobState.QUEUED, JobState.RUNNING]):
            assert time.monotonic() < deadline
            for job in store.jobs(states=[JobState.RUNNING]):
                if job.progress and job.progress.preview:
                    with contextlib.suppress(FileNotFoundError):
                        previews.add(job.progress.preview.read_bytes())
            time.sleep(0.005)
    finally:
        child.kill()
        child.wait()
    assert_done_exactly_once(store, ids)
    assert previews
    assert all(data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9") for data in previews)
    assert np.array(store.database.setting("preview/tiny")).shape == (9, 3)
    assert store.paths.log.read_text().count(", starts.") == 2


def test_learned_preview_has_the_colours_of_the_clip(store):
    import torch

    dice = torch.Generator().manual_seed(3)
    latents = torch.randn(8, 5, 4, 4, generator=dice)
    mixing = torch.rand(3, 8, generator=dice) * 40
    colours = (128 + torch.einsum("kc,cthw->thwk", mixing, latents) / 2).clip(0, 255)
    frames = colours.repeat_interleave(16, 1).repeat_interleave(16, 2).repeat_interleave(4, 0)[3:]
    previewer = Previewer(store.database)
    assert previewer.sketch("some", latents)
    previewer.learn("some", latents, frames.to(torch.uint8).numpy())
    with Image.open(io.BytesIO(Previewer(store.database).sketch("some", latents))) as picture:
        shown = np.asarray(picture.resize((4, 4), Image.Resampling.BOX)).astype(float)
    assert np.abs(shown - colours[2].numpy()).mean() < 25


def test_preview_is_drawn_whatever_the_latents_are(store):
    import torch

    previewer = Previewer(store.database)
    for value in (0.0, float("nan"), float("inf"), -1e38):
        assert previewer.sketch("some", torch.full((8, 5, 4, 4), value)).startswith(b"\xff\xd8")


# A disk that fills while a clip is computed


def test_a_disk_that_is_full_when_a_clip_is_written_gives_the_job_back_and_pauses_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=130m", "tmpfs", disk], check=False)
    if mounted.returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        with closing(Store.open(disk / "outputs", tmp_path / "state")) as store:
            monkeypatch.setenv("PYTHONPATH", PYTHON_PATH)
            (job,) = store.add([spec("wait", steps=40)])
            with engine(store):
                wait_for(lambda: running(store))
                with (disk / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
                    while ballast.write(bytes(2**16)):
                        pass
                wait_for(lambda: store.paused and not store.ids(states=[JobState.RUNNING]))
                found = store.get(job)
                assert (found.state, found.attempt) == (JobState.QUEUED, 0)
                (notice,) = store.database.notices()
                assert "The queue was paused. Only 0 MB are free in the output folder" in notice.text
                assert not [path for path in (disk / "outputs").iterdir() if path.suffix in (".mp4", ".part", ".jpg")]
                (disk / "ballast").unlink()
                store.resume()
                wait_until_ended(store)
            assert_done_exactly_once(store, [job])
    finally:
        subprocess.run(["umount", disk], check=True)
