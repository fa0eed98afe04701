"""An executor that is lost while memory runs out: its job goes back to the queue, and no try counts."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from job_helpers import SPEC

from ovi_studio.core.spec import ClipSpec
from ovi_studio.engine.executor import ClipFacts, ExecutorFault, MadeClip
from ovi_studio.engine.loop import Engine
from ovi_studio.farm.simulation import SleepingExecutor
from ovi_studio.queue.model import JobState
from ovi_studio.queue.store import Store, enable_memory_fallback
from ovi_studio.queue.work import EngineSession
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.progress import ProgressSink
from ovi_studio.runtime.step_down import StepDown, below_tier


class Lost(SleepingExecutor):
    """Runs out of memory, and is gone when it is asked `at`."""

    def __init__(self, at: str) -> None:
        super().__init__(0.0, 0.0, 0)
        self._at = at

    def variants(self) -> None:
        return None

    def make(self, spec: ClipSpec, progress: ProgressSink, facts: ClipFacts) -> MadeClip:
        raise MemoryError

    def next_step_down(self) -> StepDown | None:
        self._lose("next step")
        return below_tier(RuntimeOptions(), "12")

    def step_down(self, step: StepDown) -> None:
        self._lose("step")

    def _lose(self, asked: str) -> None:
        if asked == self._at:
            self.usable = False
            raise ExecutorFault("it has left")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(tmp_path / "outputs")) as store:
        store.paths.prepare()
        yield store


@pytest.mark.parametrize("at", ["next step", "step"])
def test_job_of_an_executor_that_is_gone_when_memory_runs_out_goes_back_at_once(store: Store, at: str) -> None:
    enable_memory_fallback(store.database, True)
    (job,) = store.add([SPEC])
    before = time.monotonic()
    with pytest.raises((RuntimeError, ExecutorFault)), EngineSession(store.database, "worker") as work:
        Engine(work, Lost(at), threading.Event()).serve()
    assert time.monotonic() - before < 1
    assert (store.get(job).state, store.get(job).attempt) == (JobState.QUEUED, 0)
