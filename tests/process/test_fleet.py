"""Several engines on one queue, and running out of memory."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_helpers import assert_done_exactly_once, engine, engine_pids, spec, studio, wait_for, wait_until_ended
from fake_models import NAME

from ovi_studio.core.errors import JobError
from ovi_studio.engine.command import engine_command
from ovi_studio.engine.fleet import Fleet, slots
from ovi_studio.engine.slot import EngineSlot
from ovi_studio.engine.supervisor import Condition
from ovi_studio.media import clip_files
from ovi_studio.queue.model import JobState
from ovi_studio.queue.store import Store, enable_memory_fallback
from ovi_studio.runtime.options import RuntimeOptions


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with studio(tmp_path / "outputs", monkeypatch) as store:
        yield store


@contextlib.contextmanager
def fleet(store: Store, engines: int) -> Iterator[Fleet]:
    command = engine_command(store.paths, RuntimeOptions(checkpoint_directory=Path("none")), NAME)
    found = Fleet(store, command, engines, back_off=(0.05, 0.1, 0.2), patience=10)
    found.start()
    try:
        yield found
    finally:
        found.stop()


def gpu_of(pid: int) -> str | None:
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next((entry.partition(b"=")[2].decode() for entry in entries if entry.startswith(b"CUDA_VISIBLE_D")), None)


def test_every_job_of_a_queue_is_done_once_by_some_engine(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    store.pause()
    ids = store.add([spec(f"wait {index}") for index in range(24)])
    with fleet(store, 3) as found:
        wait_for(lambda: sum(one.ready for one in store.engines()) == 3, 120)
        assert found.status().condition in (Condition.RUNNING, Condition.STARTING)
        if Path("/proc/self/environ").is_file():
            assert sorted(gpu_of(pid) for pid in engine_pids(store)) == ["0", "1", "2"]
        store.resume()
        wait_for(lambda: len({job.number for job in store.jobs(states=[JobState.RUNNING])}) > 1, 60)
        wait_until_ended(store, 120)
    assert_done_exactly_once(store, ids)
    assert engine_pids(store) == []


def test_an_engine_that_dies_is_replaced_in_its_own_slot(store: Store) -> None:
    with fleet(store, 2):
        wait_for(lambda: sum(one.ready for one in store.engines()) == 2, 120)
        victim = next(one for one in store.engines() if one.owner.startswith("engine1-"))
        other = next(one for one in store.engines() if one.owner != victim.owner)
        os.kill(victim.pid, 9)
        wait_for(lambda: victim.owner not in [one.owner for one in store.engines()], 60)
        wait_for(lambda: sum(one.ready for one in store.engines()) == 2, 120)
        owners = [one.owner for one in store.engines()]
        assert other.owner in owners
        assert sum(owner.startswith("engine1-") for owner in owners) == 1


def test_slots_use_the_visible_gpus() -> None:
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots(2, None)] == ["0", "1"]
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots(2, "3,5,6")] == ["3", "5"]
    assert slots(1, "3") == [EngineSlot()]
    with pytest.raises(JobError, match="4 engines need 4 GPUs, but CUDA_VISIBLE_DEVICES names 2"):
        slots(4, "0,1")
    with pytest.raises(JobError, match="from 1 to 64, not 0"):
        slots(0, None)


def test_an_engine_belongs_to_the_slot_in_its_name() -> None:
    first, second = EngineSlot.numbered(0, {}), EngineSlot.numbered(1, {})
    assert [first.owns(owner) for owner in ("engine-ab", "engine1-ab", "engine12-ab", "mine")] == [1, 0, 0, 1]
    assert [second.owns(owner) for owner in ("engine-ab", "engine1-ab", "engine12-ab", "mine")] == [0, 1, 0, 0]
    assert first.file(Path("engine.log")) == Path("engine.log")
    assert second.file(Path("engine.log")) == Path("engine-engine1.log")


# Out of memory


@contextlib.contextmanager
def tiered_engine(store: Store) -> Iterator[None]:
    with engine(store, "--memory", "16"):
        yield


def test_out_of_memory_names_the_next_smaller_tier_if_retries_are_off(store: Store) -> None:
    enable_memory_fallback(store.database, False)
    (job,) = store.add([spec("crowded")])
    with tiered_engine(store):
        wait_until_ended(store)
    assert store.get(job).state is JobState.FAILED
    assert "--memory 12, or let the queue do so automatically (System tab)" in store.get(job).error


def test_a_job_is_made_again_in_smaller_tiers_and_says_so(store: Store) -> None:
    job, hopeless, after = store.add([spec("crowded"), spec("memory"), spec("a clip")])
    with tiered_engine(store):
        wait_until_ended(store)
    found = store.get(job)
    assert found.state is JobState.DONE
    assert found.attempt == 1  # it is not to blame
    assert found.note == "Made in tier 8: memory ran out in tier 12."
    assert store.get(after).note is None
    memory = {"tier": "8", "lacked_memory_with": ["16", "12"]}
    assert clip_files.read_record(found.clip)["memory"] == memory
    assert clip_files.read_record(store.get(after).clip)["memory"] == memory
    # In the smallest tier there is nothing to try any more.
    assert store.get(hopeless).state is JobState.FAILED
    assert "--memory" not in store.get(hopeless).error
    texts = [notice.text for notice in store.database.notices()]
    said = "Job 1 ran out of memory in tier 16; it and the following jobs are made in tier 12"
    assert any(said in text for text in texts)
