"""The pulse: its answer waits for news, which arrive at once, and for progress, which arrives twice a second."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ovi_studio.core.spec import ClipSpec
from ovi_studio.queue.work import EngineSession
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.studio import Studio
from ovi_studio.web.live import HOLD_SECONDS, PROGRESS_SECONDS, next_pulse, pulse_of

SPEC = ClipSpec(prompt="a red ball", variant="demo")


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    studio = Studio.open(tmp_path / "outputs", RuntimeOptions(checkpoint_directory=tmp_path / "checkpoints"))
    yield studio
    studio.close()


def waited(studio: Studio, happens: Callable[[], object]) -> float:
    """Return the seconds that an answer waits if this happens just after the question."""

    async def ask() -> float:
        known = pulse_of(studio)
        start = time.monotonic()
        answer = asyncio.create_task(next_pulse(studio, str(known)))
        await asyncio.sleep(0.01)
        happens()
        await answer
        return time.monotonic() - start

    # In a thread of its own: a browser that an earlier test opened keeps an event loop running in this one.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, ask()).result()


def test_a_job_that_is_added_or_starts_is_news_at_once(studio: Studio) -> None:
    assert waited(studio, lambda: studio.store.add([SPEC], "")) < PROGRESS_SECONDS
    with EngineSession(studio.store.database, "engine") as work:
        assert waited(studio, work.claim) < PROGRESS_SECONDS


@pytest.mark.slow
def test_what_is_no_news_waits_for_the_next_beat(studio: Studio) -> None:
    _, last = studio.store.add([SPEC, SPEC], "")
    assert waited(studio, lambda: studio.store.move_to_front([last])) >= PROGRESS_SECONDS


@pytest.mark.slow
def test_without_any_change_the_answer_comes_after_a_while(studio: Studio) -> None:
    assert HOLD_SECONDS <= waited(studio, lambda: None) < 3 * HOLD_SECONDS
