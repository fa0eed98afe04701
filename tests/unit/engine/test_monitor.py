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
