"""When the queue will be done, with engines and machines of different speeds."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from job_helpers import SPEC

from ovi_studio.core.spec import ClipSpec
from ovi_studio.queue.estimates import PhaseTimes, made_clips, record_phase_times
from ovi_studio.queue.model import ClipPhase
from ovi_studio.queue.schedule import Maker, estimate_clip, estimate_queue
from ovi_studio.queue.store import Store

OTHER = replace(SPEC, variant="960x960_10s")
BOTH = frozenset({SPEC.variant, OTHER.variant})
SLOW, FAST = Maker("farm.slow", BOTH), Maker("farm.fast", BOTH)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(tmp_path / "outputs")) as store:
        yield store


def measure(store: Store, maker: str, seconds: float, spec: ClipSpec = SPEC) -> None:
    record_phase_times(store.database, spec, PhaseTimes(0.0, 0.0, 0.0, seconds / spec.steps), maker)


def pulled(jobs: Sequence[tuple[float | None, ...]], busy: Sequence[float]) -> float:
    """The end of a queue by the rule itself: whoever is free takes the next job that it can make.

    Args:
        jobs: the seconds that each job takes each maker; None where it cannot make it.
    """
    free, waiting = list(busy), list(jobs)
    while waiting:
        moment, maker, job = min(
            (free[maker], maker, index)
            for index, job in enumerate(waiting)
            for maker, seconds in enumerate(job)
            if seconds is not None
        )
        free[maker] = moment + waiting.pop(job)[maker]
    return max(free)


@pytest.mark.parametrize("jobs", [1, 2, 5, 6, 10, 37])
@pytest.mark.parametrize("busy", [(0.0, 0.0), (3.0, 0.0), (0.0, 100.0), (2.5, 7.5)])
def test_the_end_of_the_queue_is_that_of_the_pull_schedule_for_speeds_of_1_and_4(store, jobs, busy):
    measure(store, SLOW.name, 40.0)
    measure(store, FAST.name, 10.0)
    store.add([SPEC] * jobs)
    makers = [replace(SLOW, busy=busy[0]), replace(FAST, busy=busy[1])]
    expected = pulled([(40.0, 10.0)] * jobs, busy)
    assert estimate_queue(store.database, makers).seconds == pytest.approx(expected)
    if not any(busy):
        assert estimate_clip(store.database, SPEC, makers, jobs) == pytest.approx(expected)


def test_jobs_that_only_one_machine_can_make_wait_for_it(store):
    for name, seconds in ((SLOW.name, 40.0), (FAST.name, 10.0)):
        measure(store, name, seconds)
        measure(store, name, 2 * seconds, OTHER)
    store.add([OTHER] * 3 + [SPEC] * 8)
    makers = [SLOW, replace(FAST, variants=frozenset({SPEC.variant}))]
    expected = pulled([(80.0, None)] * 3 + [(40.0, 10.0)] * 8, (0.0, 0.0))
    assert estimate_queue(store.database, makers).seconds == pytest.approx(expected) == 240.0
    assert estimate_queue(store.database, [makers[1]]).unmeasured == 3


def test_jobs_of_a_higher_priority_are_made_first(store):
    measure(store, SLOW.name, 40.0)
    measure(store, FAST.name, 10.0)
    measure(store, SLOW.name, 70.0, OTHER)
    store.add([SPEC] * 7)
    store.add([OTHER], priority=1)
    makers = [replace(SLOW, busy=1.0), replace(FAST, variants=frozenset({SPEC.variant}))]
    expected = pulled([(70.0, None)] + [(40.0, 10.0)] * 7, (1.0, 0.0))
    assert estimate_queue(store.database, makers).seconds == pytest.approx(expected) == 71.0


def test_a_machine_that_made_nothing_yet_counts_as_fast_as_the_others(store):
    measure(store, FAST.name, 10.0)
    store.add([SPEC] * 4)
    assert estimate_queue(store.database, [FAST]).seconds == pytest.approx(40.0)
    assert estimate_queue(store.database, [SLOW, FAST]).seconds == pytest.approx(20.0)
    assert estimate_queue(store.database, [SLOW]) == replace(estimate_queue(store.database, [SLOW]), unmeasured=4)


def test_what_was_never_made_here_is_expected_only_of_the_machines_that_can_make_it(store):
    measure(store, FAST.name, 10.0)
    store.add([SPEC] * 4)
    assert estimate_queue(store.database, [Maker(), FAST]).seconds == pytest.approx(40.0)
    measure(store, "engine", 10.0)
    assert estimate_queue(store.database, [Maker(), Maker("engine1"), FAST]).seconds == pytest.approx(20.0)


def test_machines_have_times_of_their_own(store):
    measure(store, "engine", 10.0)
    assert estimate_clip(store.database, SPEC, [FAST]) is None
    assert estimate_clip(store.database, SPEC) == pytest.approx(10.0)


def test_what_a_machine_has_made_is_counted_by_phase(store):
    times = PhaseTimes(text=1.0, step=2.0, decode=5.0, write=0.5)
    for once in ({ClipPhase.LOADING: 30.0}, {}):
        record_phase_times(store.database, SPEC, times, "farm.rig", once)
    made = made_clips(store.database)["farm.rig"]
    assert made.clips == 2
    assert made.seconds == {"loading": 30, "text": 2, "denoising": 4 * SPEC.steps, "decoding": 10, "writing": 1}


@pytest.mark.slow
def test_the_end_of_ten_thousand_jobs_on_fifty_machines_is_found_at_once(store):
    machines = [Maker(f"farm.rig{number}", BOTH, busy=float(number)) for number in range(50)]
    for number, machine in enumerate(machines):
        measure(store, machine.name, 10.0 + number)
    store.add([SPEC] * 10_000)
    rate = sum(1 / (10.0 + number) for number in range(50))
    ahead = sum(number / (10.0 + number) for number in range(50))
    found = estimate_queue(store.database, machines).seconds
    assert (10_000 + ahead) / rate <= found <= (10_000 + ahead) / rate + 60
    start = time.thread_time()
    for _ in range(5):
        estimate_queue(store.database, machines)
    assert (time.thread_time() - start) / 5 < 0.05
