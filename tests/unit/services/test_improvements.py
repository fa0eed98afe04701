"""Improvements of many clips at once: one that cannot be improved is refused, and keeps no other out."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from job_helpers import SPEC
from stored_clips import make_clip
from upscaler_files import write_upscaler

from ovi_studio.core.errors import JobError
from ovi_studio.media.remade_clip import StoredClip
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services import improvements
from ovi_studio.services.studio import Studio

OPEN = StoredClip.open


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    options = RuntimeOptions(checkpoint_directory=tmp_path / "none", upscaler_directory=tmp_path / "upscalers")
    with closing(Studio.open(tmp_path / "outputs", options)) as studio:
        studio.paths.prepare()
        yield studio


def clip_ids(studio: Studio, count: int) -> list[str]:
    return [studio.library.find(make_clip(studio.paths.outputs, f"clip {n}", frames=2).name) for n in range(count)]


def test_many_clips_of_the_library_are_queued_as_one_batch(studio):
    clips = clip_ids(studio, 3)
    queued = studio.improvements.improve_clips(clips, {"fps": 60}, "smooth", priority=2)
    assert queued.refused == {}
    jobs = queued.jobs
    found = [studio.store.get(job) for job in jobs]
    assert {job.batch_name for job in found} == {"smooth"}
    assert [job.improves.clip for job in found] == [studio.library.path(clip) for clip in clips]
    assert [job.improves.pixels for job in found] == [2 * 64 * 96] * 3
    assert {job.priority for job in found} == {2}


@pytest.mark.parametrize("wanted", [{}, {"fps": 30}, {"upscaler": "missing"}, {"fps": 48, "strength": 1}])
def test_what_cannot_be_done_is_refused_when_it_is_queued(studio, wanted):
    with pytest.raises(JobError):
        studio.improvements.improve_clips(clip_ids(studio, 1), wanted)
    assert studio.store.jobs() == []


def test_a_clip_that_cannot_be_improved_keeps_no_other_out(studio, monkeypatch):
    clips = clip_ids(studio, 2)
    smooth = make_clip(studio.paths.outputs, "smooth", frames=2)
    monkeypatch.setattr(StoredClip, "open", lambda path: replace(OPEN(path), rate=60 if path == smooth else 24))
    fast, gone = studio.library.find(smooth.name), "0" * 32
    queued = studio.improvements.improve_clips([clips[0], fast, gone, clips[1]], {"fps": 48})
    assert [studio.store.get(job).improves.clip for job in queued.jobs] == [studio.library.path(clip) for clip in clips]
    assert list(queued.refused) == [fast, gone]
    assert "60 frames a second already" in queued.refused[fast]
    assert "no longer in the library" in queued.refused[gone]


def test_without_a_clip_that_can_be_improved_nothing_is_queued_and_the_reasons_are_told(studio):
    clips = clip_ids(studio, 2)
    with pytest.raises(JobError, match="no longer in the library"):
        studio.improvements.improve_clips(["0" * 32, ""], {"fps": 48})
    with pytest.raises(JobError, match="1 to 1000"):
        studio.improvements.improve_clips([], {"fps": 48})
    with pytest.raises(JobError, match="priority"):
        studio.improvements.improve_clips(clips, {"fps": 48}, priority=101)
    assert studio.store.jobs() == []


def test_upscaler_is_pinned_by_its_hash_and_needs_its_package(studio, tmp_path, monkeypatch):
    write_upscaler(tmp_path / "upscalers" / "double.pth")
    assert studio.improvements.upscalers() == ["double"]
    monkeypatch.setattr(improvements.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(JobError, match="spandrel"):
        studio.improvements.improve_clips(clip_ids(studio, 1), {"upscaler": "double"})
    monkeypatch.setattr(improvements.importlib.util, "find_spec", lambda name: object())
    (job,) = studio.improvements.improve_clips(clip_ids(studio, 1), {"upscaler": "double"}).jobs
    assert len(studio.store.get(job).improves.improvement.sha256) == 64


def test_improvements_go_behind_jobs_that_are_not_done(studio):
    (first,) = studio.store.add([SPEC])
    (second,) = studio.improvements.improve_jobs([first], {"fps": 48}).jobs
    (third,) = studio.improvements.improve_jobs([second], {"fps": 60}).jobs
    assert [studio.store.get(job).dependency.sentence for job in (second, third)] == [
        "Waits for the clip of job 1.",
        "Waits for the clip of job 2.",
    ]
    assert studio.store.get(second).improves.pixels > 0
    studio.store.cancel([first])
    with pytest.raises(JobError, match="Job 1 is cancelled"):
        studio.improvements.improve_jobs([first], {"fps": 48})
    both = studio.improvements.improve_jobs([first, *studio.store.add([SPEC])], {"fps": 48})
    assert (len(both.jobs), list(both.refused)) == (1, [first])
