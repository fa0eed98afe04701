"""Shared helpers for tests of the queue; also imported by their child processes."""

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from dataclasses import replace

from places import PYTHON_PATH

from ovi_studio.core.spec import ClipSpec
from ovi_studio.queue.model import ClipPhase, Job, JobProgress, JobState
from ovi_studio.queue.recovery import live_engines, recover_dead_engines
from ovi_studio.queue.store import Store
from ovi_studio.queue.work import EngineSession

SPEC = ClipSpec(prompt="A <S>small<E> clip", variant="720x720_5s", seed=7)
STEP = JobProgress(ClipPhase.DENOISING, 3, 50, 1.5, 70.0)


def specs(count: int) -> list[ClipSpec]:
    return [replace(SPEC, seed=seed) for seed in range(count)]


def queued(store: Store) -> list[str]:
    return store.ids(states=[JobState.QUEUED])


def states(store: Store) -> list[JobState]:
    return [job.state for job in sorted(store.jobs(), key=lambda job: job.number)]


def work_through(store: Store, count: int, act: Callable[[EngineSession, Job], object]) -> None:
    with EngineSession(store.database, "worker") as work:
        for _ in range(count):
            act(work, work.claim())


_PRELUDE = f"""
import os, sys, time
from dataclasses import replace
from pathlib import Path
sys.path[:0] = {PYTHON_PATH.split(os.pathsep)!r}
from job_helpers import *
from ovi_studio.core.errors import JobError
from ovi_studio.queue.locks import Lock
"""


def run_python(code: str, *arguments: object) -> subprocess.Popen:
    """Start a child process that has this module's names, and a few more."""
    command = [sys.executable, "-c", _PRELUDE + textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def run_together(children: list[subprocess.Popen]) -> list[str]:
    """Start all children at the same time; returns their outputs."""
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    threads_output = [""] * len(children)

    def drain(index: int) -> None:
        threads_output[index] = children[index].communicate(timeout=60)[0]

    threads = [threading.Thread(target=drain, args=(index,)) for index in range(len(children))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return threads_output


CLAIM_AND_WAIT = """
    store = Store.open(sys.argv[1])
    work = EngineSession(store.database, sys.argv[2]).__enter__()
    print(work.claim().id, flush=True)
    sys.stdin.readline()
"""


def kill_holder(store: Store, owner: str, before_death: Callable[[Job], object] = lambda job: None) -> str:
    """Let a process claim a job, and kill it; returns the job's id."""
    child = run_python(CLAIM_AND_WAIT, store.paths.outputs, owner)
    job = child.stdout.readline().strip()
    assert recover_dead_engines(store.database) == []
    assert live_engines(store.database) == [owner]
    before_death(store.get(job))
    child.kill()
    child.wait()
    return job
