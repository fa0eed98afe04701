"""Shared helpers for tests of the engine: real processes with a separate queue."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fake_models import NAME
from places import PYTHON_PATH, SUPPORT
from warm_start import ENGINES, Forked

from ovi_studio.core.spec import ClipSpec
from ovi_studio.engine.command import engine_command
from ovi_studio.engine.supervisor import Supervisor
from ovi_studio.media import clip_files
from ovi_studio.queue.model import JobState
from ovi_studio.queue.recovery import live_engines
from ovi_studio.queue.store import Store
from ovi_studio.runtime.options import RuntimeOptions


@contextlib.contextmanager
def studio(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A queue whose engines can import the package and the fake models; they are killed at the end of the test."""
    monkeypatch.setenv("PYTHONPATH", PYTHON_PATH)
    with closing(Store.open(outputs)) as store:
        yield store
        kill_engines(store)


def spec(prompt: str = "a clip", **settings: object) -> ClipSpec:
    return ClipSpec(**{"prompt": prompt, "variant": "720x720_5s", "steps": 3} | settings)


def command(store: Store, models: str = NAME) -> list[str]:
    return engine_command(store.paths, RuntimeOptions(checkpoint_directory=Path("none")), models)


@contextlib.contextmanager
def engine(store: Store, *more: str, models: str = NAME) -> Iterator[Forked]:
    """An engine without a supervisor; those of supervisors are started by their command."""
    _, *arguments = [*command(store, models), *more]
    with Path(os.devnull).open("w") as nothing:
        child = ENGINES.start(*arguments, environment={**os.environ}, stderr=nothing.fileno())
    try:
        yield child
    finally:
        child.kill()
        child.wait()


@contextlib.contextmanager
def supervisor(store: Store, models: str = NAME, **options: object) -> Iterator[Supervisor]:
    options = {"back_off": (0.05, 0.1, 0.2), "patience": 10} | options
    found = Supervisor(store, command(store, models), **options)
    found.start()
    try:
        yield found
    finally:
        found.stop()


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)  # a look at the queue takes a millisecond or two


def wait_until_ended(store: Store, seconds: float = 60) -> None:
    wait_for(lambda: not store.ids(states=[JobState.QUEUED, JobState.RUNNING]), seconds)


def running(store: Store) -> bool:
    """Whether a job is between its first and last step."""
    return any(job.progress and job.progress.step for job in store.jobs(states=[JobState.RUNNING]))


def assert_done_exactly_once(store: Store, ids: list[str]) -> None:
    assert [store.get(job).state for job in ids] == [JobState.DONE] * len(ids)
    clips = sorted(store.paths.outputs.glob("*.mp4"))
    assert sorted(clip_files.read_record(clip)["job"] for clip in clips) == sorted(ids)
    assert sorted(store.get(job).clip for job in ids) == clips
    posters = sorted(clip.with_suffix(".jpg") for clip in clips)
    assert sorted(store.paths.outputs.iterdir()) == sorted([*clips, *posters])
    assert list(store.paths.previews.iterdir()) == []


def engine_pids(store: Store) -> list[int]:
    """The process ids of live engines, including those that are starting."""
    pids = []
    for owner in live_engines(store.database):
        with contextlib.suppress(OSError, ValueError):
            pids.append(int((store.paths.owners / f"{owner}.lock").read_text()))
    return pids


def kill_engines(store: Store) -> None:
    for pid in engine_pids(store):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def start_web(store: Store, *, cold: bool = False) -> Forked | subprocess.Popen[bytes]:
    """Start a process that supervises engines, like the web process; `cold`: its interpreter is started, too."""
    arguments = [str(SUPPORT / "web_process.py"), str(store.paths.outputs), json.dumps(command(store))]
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as said:
        web = (
            subprocess.Popen([sys.executable, *arguments], stdout=writing)
            if cold
            else ENGINES.start(*arguments, environment={**os.environ}, stdout=writing)
        )
        os.close(writing)
        assert said.readline() == b"up\n"
    return web


def end(process: Forked | subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
