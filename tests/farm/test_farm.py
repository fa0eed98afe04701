"""Clips that are made on other machines: Ray nodes that are real processes, which are really killed."""

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from engine_helpers import assert_done_exactly_once, running, wait_for, wait_until_ended
from fake_models import FULL_DISK, NAME, SLOW
from farm_helpers import VARIANT, add_machine, dispatcher, kill_actors, kill_node, spec, wait_for_machines
from PIL import Image

from ovi_studio.checkpoints.hashes import cache_directory
from ovi_studio.core.adapter_stack import AdapterUse
from ovi_studio.engine.slot import EngineSlot
from ovi_studio.farm import files
from ovi_studio.farm.command import FarmAddress, farm_command
from ovi_studio.farm.files import read_pieces
from ovi_studio.farm.machine import Machine, Versions
from ovi_studio.farm.roster import MachineState, Order, dashboard, give_order, machines
from ovi_studio.media.clip_files import read_record
from ovi_studio.queue.model import JobState
from ovi_studio.queue.store import Store
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.machines import machine_figures


@pytest.fixture
def dashboard_address(farm: object) -> Iterator[str]:
    """What Ray's dashboard says of itself when it runs."""
    from ray._private.ray_constants import DASHBOARD_ADDRESS, KV_NAMESPACE_DASHBOARD
    from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_put

    _internal_kv_put(DASHBOARD_ADDRESS, "127.0.0.1:8265", namespace=KV_NAMESPACE_DASHBOARD)
    yield "http://127.0.0.1:8265"
    _internal_kv_del(DASHBOARD_ADDRESS, namespace=KV_NAMESPACE_DASHBOARD)


def test_clips_come_from_another_machine_and_say_so(dashboard_address: str, store: Store) -> None:
    (job,) = store.add([spec()])
    with dispatcher(store):
        wait_for(lambda: dashboard(store.database) == dashboard_address, 30)
        wait_until_ended(store, 120)
        wait_for(lambda: all(one.free and one.clips == 1 for one in machine_figures(store, [], {})), 30)
        (rig,) = machine_figures(store, [], {})
    assert 0 < rig.free < rig.memory
    assert 0 < rig.clips_per_hour < 3600 / rig.seconds_per_step
    assert EngineSlot.of(store.get(job).made_by).title == rig.name == "rig"
    assert_done_exactly_once(store, [job])
    for file in (store.get(job).clip, store.get(job).poster):
        assert read_record(file)["machine"]["name"] == "rig"
    assert dashboard(store.database) is None


def test_job_that_ends_its_process_is_tried_twice_and_others_are_made(farm: object, store: Store) -> None:
    deadly, other = store.add([spec("die"), spec()])
    with dispatcher(store):
        wait_until_ended(store, 120)
    assert (store.get(deadly).state, store.get(deadly).attempt) == (JobState.FAILED, 2)
    assert "stopped twice" in store.get(deadly).error
    assert_done_exactly_once(store, [other])


def test_clip_of_a_killed_process_is_made_again_and_is_there_once(farm: object, store: Store) -> None:
    ids = store.add([spec("wait", steps=40)])
    with dispatcher(store):
        wait_for(lambda: running(store), 60)
        assert kill_actors() == 1
        wait_until_ended(store, 90)
    assert_done_exactly_once(store, ids)
    assert store.get(ids[0]).attempt == 2


def test_paused_machine_takes_nothing_and_removed_one_gives_its_job_back(farm: object, store: Store) -> None:
    with dispatcher(store):
        wait_for_machines(store, "rig")
        (job,) = store.add([spec("wait", steps=500)])
        wait_for(lambda: running(store), 30)
        give_order(store.database, "rig", Order.REMOVE)
        wait_for(lambda: store.get(job).state is JobState.QUEUED, 30)
        assert store.get(job).attempt == 0
        give_order(store.database, "rig", None)
        wait_for(lambda: running(store), 60)
        give_order(store.database, "rig", Order.PAUSE)
        store.cancel([job])
        wait_for(lambda: machines(store.database)[0].state is MachineState.PAUSED, 30)
        (waiting,) = store.add([spec()])
        threading.Event().wait(1)
        assert store.get(waiting).state is JobState.QUEUED


def test_machine_with_other_model_files_is_set_aside_and_the_job_that_only_it_could_make_says_so(
    farm: object, store: Store
) -> None:
    head = Machine("head", Versions.here(), variants={VARIANT: "another hash"})
    store.add([spec(), replace(spec(), variant="960x960_10s")])
    with dispatcher(store, head):
        wait_for(lambda: [m.state for m in machines(store.database)] == [MachineState.SET_ASIDE], 60)
        assert f"The files of {VARIANT} are not those of the head" in machines(store.database)[0].reason
        wait_for(store.database.notices, 10)
    assert [notice.text for notice in store.database.notices()] == [
        "A job waits for a machine that can make 960x960_10s: no machine has it at present."
    ]
    assert store.counts()[JobState.QUEUED] == 2


def test_farm_process_uses_a_cluster_that_is_there_and_at_a_signal_leaves_in_order(
    farm: object, store: Store, tmp_path: Path
) -> None:
    made, given_back = store.add([spec(), spec("wait", steps=1000)])
    command = farm_command(store.paths, FarmAddress.parse(farm.address, own=False), RuntimeOptions(), NAME)
    with (tmp_path / "farm.log").open("wb") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        try:
            wait_for(lambda: store.get(made).state is JobState.DONE and running(store), 120)
            process.terminate()
            assert process.wait(20) == 0, (tmp_path / "farm.log").read_text()
        finally:
            process.kill()
    assert store.get(made).state is JobState.DONE
    assert read_record(store.get(made).clip)["machine"]["name"] == "rig"
    assert (store.get(given_back).state, store.get(given_back).attempt) == (JobState.QUEUED, 0)
    assert machines(store.database) == []


def test_farm_ends_at_once_while_a_machine_is_still_looked_at(farm: object, store: Store) -> None:
    with dispatcher(store, models=SLOW):
        wait_for(lambda: [machine.state for machine in machines(store.database)] == [MachineState.STARTING], 30)
        threading.Event().wait(1)
        before = time.monotonic()
    assert time.monotonic() - before < 10
    # One that is still in Ray when the process ends would abort it.
    assert "rig" not in [thread.name for thread in threading.enumerate()]


def test_file_that_is_damaged_on_the_way_is_sent_again_and_then_fails_its_job(
    farm: object, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.effect_noise((32, 32), 50).save(tmp_path / "first.png")
    sent: list[str] = []

    def spoiled(path: Path) -> Iterator[bytes]:
        sent.append(path.suffix)
        for piece in read_pieces(path):
            yield piece if path.suffix == ".png" and sent.count(".png") > 1 else bytes([piece[0] ^ 1]) + piece[1:]

    monkeypatch.setattr("ovi_studio.farm.executor.read_pieces", spoiled)
    shutil.rmtree(cache_directory() / "farm" / "files", ignore_errors=True)
    adapters = (AdapterUse(name="demo-lightning.safetensors"),)
    healed, failed = store.add([spec(image=tmp_path / "first.png"), spec(adapters=adapters)])
    with dispatcher(store):
        wait_until_ended(store, 60)
    assert_done_exactly_once(store, [healed])
    assert store.get(failed).error == (
        "demo-lightning.safetensors was damaged on its way to a machine; queue the job again."
    )
    assert sent == [".png", ".png", ".safetensors", ".safetensors"]


def test_job_is_cancelled_while_its_files_are_sent(
    farm: object, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.effect_noise((256, 256), 50).save(tmp_path / "first.png")
    monkeypatch.setattr(files, "PIECE_BYTES", 1)
    (job,) = store.add([spec(image=tmp_path / "first.png")])
    with dispatcher(store):
        wait_for(lambda: store.get(job).progress, 60)
        store.cancel([job])
        wait_for(lambda: store.get(job).state is JobState.CANCELLED, 5)


def test_machine_with_a_full_disk_gives_its_job_back_and_says_why(farm: object, store: Store, tmp_path: Path) -> None:
    Image.effect_noise((32, 32), 50).save(tmp_path / "first.png")
    (job,) = store.add([spec(image=tmp_path / "first.png")])
    with dispatcher(store, models=FULL_DISK, back_off=[0.1]):
        wait_for(lambda: [machine.state for machine in machines(store.database)] == [MachineState.SET_ASIDE], 60)
        (rig,) = machines(store.database)
    assert re.fullmatch(r"Machine rig: Only 0 MB are free in .*; free up some space there\.", rig.reason)
    assert (store.get(job).state, store.get(job).attempt) == (JobState.QUEUED, 0)


def test_job_of_a_machine_that_loses_power_is_made_by_another_without_counting(farm: object, store: Store) -> None:
    doomed = add_machine(farm, "doomed")
    ids = store.add([spec("wait", steps=100), spec("wait", steps=100)])
    with dispatcher(store):
        wait_for(lambda: len(store.ids(states=[JobState.RUNNING])) == 2 and running(store), 90)
        kill_node(doomed)
        wait_until_ended(store, 120)
    assert_done_exactly_once(store, ids)
    assert [store.get(job).attempt for job in ids] == [1, 1]
    assert {read_record(store.get(job).clip)["machine"]["name"] for job in ids} == {"rig"}
