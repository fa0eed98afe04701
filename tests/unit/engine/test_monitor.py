"""The times that a job's monitor measures and predicts, with a clock that the test sets."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.step_caches import find_step_cache
from ovi_studio.engine import monitor
from ovi_studio.queue.estimates import PhaseTimes, record_phase_times
from ovi_studio.queue.model import ClipPhase, JobProgress
from ovi_studio.queue.store import Store
from ovi_studio.queue.work import EngineSession

STEPS = 50
SPEC = ClipSpec(prompt="a", variant="tiny", steps=STEPS)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(tmp_path / "outputs")) as store:
        yield store


def step_seconds(cache: str) -> list[float]:
    """Two seconds for a step of both passes, one for a step that leaves out one."""
    rule = find_step_cache(cache)
    return [2.0 if rule.computes_both_passes(step, STEPS) else 1.0 for step in range(STEPS)]


@pytest.mark.parametrize("cache", ["off", "fast"])
def test_the_predicted_time_of_a_clip_counts_steps_of_both_lengths(
    store: Store, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(monitor.time, "monotonic", lambda: clock[0])
    store.add([replace(SPEC, step_cache=cache)])
    seconds, left = step_seconds(cache), list[float]()
    with EngineSession(store.database, "worker") as work:
        job = work.claim()
        assert job is not None
        watch = monitor.JobMonitor(work, job, previewer=_no_preview(), stopping=lambda: False)
        watch.phase(ClipPhase.TEXT)
        for index, taken in enumerate(seconds, start=1):
            clock[0] += taken
            watch.step(index, STEPS)
            progress = store.get(job.id).progress
            assert isinstance(progress, JobProgress)
            left.append(progress.seconds_left or 0.0)
        watch.phase(ClipPhase.WRITING)
        pace = watch.pace()
    assert pace is not None
    assert STEPS * pace.step == pytest.approx(sum(seconds), rel=0.03)
    for done in (20, 30, 40):
        assert left[done - 1] == pytest.approx(sum(seconds[done:]), rel=0.12), done


def _no_preview() -> Any:
    """Steps without latents have no preview."""
    return None


def decoding_left(store: Store, fractions: list[tuple[float, float]], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is shown as the time left while decoding; each pair is a time since decoding began, and the part done."""
    clock = [0.0]
    monkeypatch.setattr(monitor.time, "monotonic", lambda: clock[0])
    store.add([SPEC])
    left = []
    with EngineSession(store.database, "worker") as work:
        job = work.claim()
        assert job is not None
        watch = monitor.JobMonitor(work, job, previewer=_no_preview(), stopping=lambda: False)
        watch.phase(ClipPhase.DECODING)
        for now, fraction in fractions:
            clock[0] = now
            watch.decoded(fraction)
            progress = store.get(job.id).progress
            assert progress is not None
            left.append(progress.seconds_left)
    return left


def test_a_slow_first_frame_does_not_make_the_predicted_time_explode(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_phase_times(store.database, SPEC, PhaseTimes(text=1, step=1, decode=20, write=2))
    slow_start = [(8.0, 0.03), (12.0, 0.25), (20.0, 0.75), (24.0, 1.0)]
    left = decoding_left(store, slow_start, monkeypatch)
    assert left[0] < 30
    assert left == sorted(left, reverse=True)
    assert left[-1] == pytest.approx(2)


def test_decoding_is_predicted_from_clips_of_another_kind_with_the_same_model(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(SPEC, step_cache="fast")
    record_phase_times(store.database, other, PhaseTimes(text=1, step=1, decode=20, write=2))
    (left,) = decoding_left(store, [(0.0, 0.0)], monkeypatch)
    assert left == pytest.approx(22)


def test_without_history_nothing_is_promised_before_a_part_is_decoded(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert decoding_left(store, [(8.0, 0.03), (10.0, 0.5)], monkeypatch) == [None, pytest.approx(10)]
