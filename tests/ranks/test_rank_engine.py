"""An engine on two ranks: it processes the queue as one engine, and if one rank dies all end within seconds."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from engine_helpers import (
    assert_done_exactly_once,
    command,
    running,
    spec,
    studio,
    wait_for,
    wait_until_ended,
)
from places import SUPPORT
from processes import is_alive, ranks_of
from warm_start import PIPELINES, Forked

from ovi_studio.engine.command import MODULE
from ovi_studio.engine.supervisor import Supervisor
from ovi_studio.queue.model import JobState
from ovi_studio.queue.store import Store, enable_memory_fallback

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="several ranks need Linux")
STARTING = 240
"""Seconds; two processes import torch, on a machine that may be busy."""
SOON = 20
"""Seconds; on an idle machine it takes one second."""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with studio(tmp_path / "outputs", monkeypatch) as store:
        yield store


def on_two_ranks(store: Store) -> list[str]:
    return [*command(store), "--gpus", "2"]


def forked_on_two_ranks(store: Store) -> Forked:
    _, *arguments = on_two_ranks(store)
    return PIPELINES.start(*arguments, environment=os.environ)


@contextlib.contextmanager
def two_supervised(store: Store, *options: str) -> Iterator[list[Forked]]:
    """Run a supervisor whose engines have two ranks; returns the engines that it has started."""
    engines = []

    def start(*given: Any) -> Forked:
        engines.append(PIPELINES.start_engine(*given))
        return engines[-1]

    command = [*on_two_ranks(store), *options]
    found = Supervisor(store, command, back_off=(0.05, 0.1, 0.2), patience=30, start_engine=start)
    found.start()
    try:
        yield engines
    finally:
        found.stop()


def gone(processes: list[psutil.Process]) -> bool:
    return not any(map(is_alive, processes))


def test_two_ranks_process_a_queue_as_one_engine_and_end_cleanly(store: Store) -> None:
    first, cancelled, refused, last = store.add(
        [spec(), spec("wait", steps=1000), spec("refuse"), spec("wait", steps=5)]
    )
    engine = forked_on_two_ranks(store)
    try:
        wait_for(lambda: running(store), STARTING)
        processes = ranks_of(engine.pid, MODULE)
        assert len(processes) == 2
        # One of them has the store; cancelling reaches both.
        wait_for(lambda: store.get(cancelled).state is JobState.RUNNING and running(store), STARTING)
        store.cancel([cancelled])
        wait_until_ended(store, STARTING)
        assert len(store.engines()) == 1
        store.stop_engine(store.engines()[0].owner)
        assert engine.wait(60) == 0
    finally:
        engine.kill()
    assert gone(processes)
    assert store.get(cancelled).state is JobState.CANCELLED
    assert store.get(refused).error == "This cannot be done; try something else."
    assert_done_exactly_once(store, [first, last])


def test_a_rank_that_dies_ends_the_others_and_the_job_is_tried_again(store: Store) -> None:
    (job,) = store.add([spec("wait", steps=60)])
    with two_supervised(store) as engines:
        wait_for(lambda: running(store), STARTING)
        processes = ranks_of(engines[0].pid, MODULE)
        # The one that has the store; below, the other one crashes.
        leader = store.engines()[0].pid
        next(process for process in processes if process.pid == leader).kill()
        killed = time.monotonic()
        wait_for(lambda: gone(processes), 60)
        assert time.monotonic() - killed < SOON
        wait_until_ended(store, STARTING)
        assert store.get(job).attempt == 2
    assert_done_exactly_once(store, [job])


def test_a_rank_that_crashes_ends_all_at_once_even_with_threads_that_never_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is forked here: engine, launcher and ranks are started as users do."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SUPPORT / "lingering"), os.environ["PYTHONPATH"]]))
    store.add([spec("wait and crash on rank 1", steps=60)])
    processes: list[psutil.Process] = []
    with subprocess.Popen(on_two_ranks(store), stderr=subprocess.PIPE, text=True) as engine:
        try:
            wait_for(lambda: len(ranks_of(engine.pid, MODULE)) == 2, STARTING)
            processes = ranks_of(engine.pid, MODULE)
            assert any("RuntimeError: a defect" in line for line in engine.stderr)
            crashed = time.monotonic()
            wait_for(lambda: gone(processes), 60)
            assert time.monotonic() - crashed < SOON
            assert engine.wait(60) != 0
        finally:
            for process in (engine, *filter(is_alive, processes)):
                process.kill()


def test_a_rank_that_runs_out_of_memory_fails_the_job_with_advice_and_the_next_is_made(store: Store) -> None:
    enable_memory_fallback(store.database, False)
    short, good = store.add([spec("memory on rank 1"), spec()])
    with two_supervised(store):
        wait_until_ended(store, STARTING)
    assert store.get(short).state is JobState.FAILED
    assert "let each GPU hold less with --fsdp-strategy FULL_SHARD --resident-blocks 0" in store.get(short).error
    assert_done_exactly_once(store, [good])


def test_a_job_is_made_again_with_less_on_each_rank_and_says_so(store: Store) -> None:
    (job,) = store.add([spec("cramped on rank 1")])
    with two_supervised(store, "--fsdp-strategy", "FULL_SHARD", "--resident-blocks", "0"):
        wait_until_ended(store, STARTING)
        assert store.get(job).attempt == 1  # it is not to blame
        assert "--fsdp-offload" in store.get(job).note
        assert any(
            "are made with" in notice.text and "--fsdp-offload" in notice.text for notice in store.database.notices()
        )
    assert_done_exactly_once(store, [job])


def test_ranks_end_when_their_launcher_is_killed(store: Store) -> None:
    store.add([spec("wait", steps=1000)])
    engine = forked_on_two_ranks(store)
    try:
        wait_for(lambda: running(store), STARTING)
        processes = ranks_of(engine.pid, MODULE)
        assert len(processes) == 2
    finally:
        engine.kill()
    wait_for(lambda: gone(processes), SOON)
