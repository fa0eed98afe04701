"""A machine whose GPUs share a clip: Ray believes in two GPUs, the processes on them compute on the processor."""

import os
import threading
from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest
from engine_helpers import assert_done_exactly_once, running, wait_for, wait_until_ended
from farm_helpers import OPTIONS, add_machine, dispatcher, kill_actors, spec
from processes import is_alive, ranks_of

from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.engine.executor import ExecutorFault
from ovi_studio.farm.actor import ActorSetup
from ovi_studio.farm.rank_executor import MODULE
from ovi_studio.farm.roster import Order, give_order, machines
from ovi_studio.farm.seats import seats
from ovi_studio.media.clip_files import read_record
from ovi_studio.queue.model import JobState
from ovi_studio.queue.store import Store, enable_memory_fallback


@pytest.fixture(scope="module")
def pair(farm: object) -> Iterator[None]:
    node = add_machine(farm, "pair", ranks=2, gpus=2)
    yield
    farm.remove_node(node)


def reservations() -> list[dict]:
    """The placement groups that are there or wait for GPUs."""
    from ray.util import placement_group_table

    return [group for group in placement_group_table().values() if group["state"] != "REMOVED"]


def ranks() -> list[psutil.Process]:
    return ranks_of(os.getpid(), MODULE)


def kill_follower() -> None:
    ranks()[1].kill()


def test_two_ranks_share_clips_and_one_that_dies_costs_its_own_clip_a_try(pair: None, store: Store) -> None:
    # From here the next step down keeps shards in host memory.
    options = replace(OPTIONS, fsdp_strategy="FULL_SHARD", resident_blocks=0)
    with dispatcher(store, options=options):
        wait_for(lambda: {one.name for one in machines(store.database)} == {"rig", "pair"}, 60)
        give_order(store.database, "rig", Order.DRAIN)
        cancelled, refused, crowded, done = store.add(
            [spec("wait slowly", steps=500), spec("refuse"), spec("cramped"), spec()]
        )
        wait_for(lambda: running(store), 120)
        assert len(ranks()) == 2
        (group,) = reservations()
        assert (group["strategy"], group["state"]) == ("STRICT_PACK", "CREATED")
        assert list(group["bundles"].values()) == [{"CPU": 1.0, "GPU": 2.0}]
        store.cancel([cancelled])
        wait_for(lambda: store.get(cancelled).state is JobState.CANCELLED, 10)
        enable_memory_fallback(store.database, True)
        wait_until_ended(store, 120)
        assert store.get(refused).error == "This cannot be done; try something else."
        assert_done_exactly_once(store, [crowded, done])
        assert "--fsdp-offload: memory ran out" in store.get(crowded).note
        assert [read_record(store.get(job).clip)["machine"]["name"] for job in (crowded, done)] == ["pair", "pair"]

        idle = ranks()
        kill_follower()
        wait_for(lambda: not any(map(is_alive, idle)), 20)
        (job,) = store.add([spec("wait slowly", steps=500)])
        wait_for(lambda: running(store), 120)
        assert store.get(job).attempt == 1  # nobody was making it when the process died
        kill_follower()
        wait_for(lambda: store.get(job).attempt == 2 and running(store), 120)

        before = ranks()
        store.cancel([job])
        kill_actors()
        wait_for(lambda: not any(map(is_alive, before)), 20)
        wait_for(lambda: store.get(job).state is JobState.CANCELLED, 60)
    wait_for(lambda: not reservations(), 20)


def test_gpus_of_a_machine_that_does_not_answer_are_free_again(pair: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from ovi_studio.farm import executor

    monkeypatch.setattr(executor, "DESCRIBE_SECONDS", 0.01)
    (seat,) = (seat for seat in seats(ray.nodes()) if seat.gpus)
    with pytest.raises(ExecutorFault, match="has said nothing"):
        executor.ActorExecutor(seat, ActorSetup(OPTIONS), AdapterLibrary(OPTIONS.adapters), 1.0, threading.Event())
    wait_for(lambda: not reservations(), 20)
