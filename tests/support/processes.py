"""What a run of the tests has started: found by a mark in the environment, and ended."""

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterable, Iterator

import psutil

MARK = "OVI_TEST_RUN"
_TEST = "PYTEST_CURRENT_TEST"
"""Which pytest sets while a test runs, so that its own workers lack it and what a test starts has it."""
PATIENCE = 5
"""Seconds in which what was asked to end may do so."""


def mark_processes() -> str:
    """From now on what this process starts carries the mark that is returned; workers of one run share it."""
    return os.environ.setdefault(MARK, secrets.token_hex(8))


def started_by_tests(mark: str) -> list[tuple[psutil.Process, str]]:
    """Living processes that a test with this mark started, with the test's name; children too that hide theirs."""
    found: dict[int, tuple[psutil.Process, str]] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            environment = process.environ()
            if environment.get(MARK) != mark or _TEST not in environment or not is_alive(process):
                continue
            test = environment[_TEST].rpartition(" (")[0]
            for each in (process, *process.children(recursive=True)):
                found[each.pid] = each, test
    return list(found.values())


def end_what_is_left(mark: str, patience: float = PATIENCE) -> list[str]:
    """Kill what the tests of a run should have ended, after a moment in which it may go; a line for each of them."""
    deadline = time.monotonic() + patience
    while (left := started_by_tests(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    lines = []
    for process, test in left:
        with contextlib.suppress(psutil.Error):
            lines.append(f"process {process.pid} of {test}: {' '.join(process.cmdline())[:200]}")
    kill(process for process, _ in left)
    return lines


@contextlib.contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """What is started in the block ignores SIGINT from the beginning, as what a shell starts in the background does."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def with_children(pid: int) -> list[psutil.Process]:
    """A process and all that came from it; none if it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def is_alive(process: psutil.Process) -> bool:
    """Whether it still runs: one that has ended and was not waited for does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def kill(processes: Iterable[psutil.Process]) -> None:
    """Kill those that still live; returns when they are gone."""
    for process in (alive := list(filter(is_alive, processes))):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    wait_while(lambda: any(map(is_alive, alive)), PATIENCE)


def wait_while(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it became false in time."""
    deadline = time.monotonic() + seconds
    while condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
