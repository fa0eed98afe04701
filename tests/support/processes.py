"""Finds and kills the processes that a test run has started, by a mark in their environment."""

import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator

import psutil

MARK = "OVI_TEST_RUN"
_TEST = "PYTEST_CURRENT_TEST"
"""Set by pytest during a test, so that processes started by a test have it and pytest's workers do not."""
PATIENCE = 5
"""Seconds that a process has to end after a request."""
RANK_NAME = "rank "
"""What forked ranks are called, before their number: their environment shows that of the launcher."""


def mark_processes() -> str:
    """Mark all processes that this process will start; returns the mark, which the workers of a run share."""
    return os.environ.setdefault(MARK, secrets.token_hex(8))


def started_by_tests(mark: str) -> list[tuple[psutil.Process, str]]:
    """Live processes that tests with this mark started, with the names of the tests; includes unmarked children."""
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
    """Kill processes that tests should have ended, after a grace period; returns one line for each."""
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
    """Processes started in the block ignore SIGINT, like those that a shell starts in the background.

    They do not ignore SIGHUP, whatever these tests themselves were started with.
    """
    answers = {signal.SIGINT: signal.SIG_IGN}
    if hasattr(signal, "SIGHUP"):
        answers[signal.SIGHUP] = signal.SIG_DFL
    before = {number: signal.signal(number, answer) for number, answer in answers.items()}
    try:
        yield
    finally:
        for number, answer in before.items():
            signal.signal(number, answer)


def with_children(pid: int) -> list[psutil.Process]:
    """A process and all its descendants; empty if it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def ranks_of(launcher: int, module: str) -> list[psutil.Process]:
    """The ranks in their order that run a module, among all that a process has started."""
    found = {}
    for child in psutil.Process(launcher).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # one that is just ending has no environment any more
            number = child.name().removeprefix(RANK_NAME)
            if not number.isdecimal():
                number = child.environ().get("LOCAL_RANK") if module in child.cmdline() else None
            if number is not None:
                found[int(number)] = child
    return [found[number] for number in sorted(found)]


def has_loaded(pid: int, package: str) -> bool:
    """Whether a process has imported a package that has code in libraries; macOS does not say."""
    if sys.platform == "darwin":
        return False
    return any(f"{os.sep}{package}{os.sep}" in mapped.path for mapped in psutil.Process(pid).memory_maps())


def is_alive(process: psutil.Process) -> bool:
    """Whether a process is running; a zombie is not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def kill(processes: Iterable[psutil.Process]) -> None:
    """Kill the processes that are alive and wait until they have ended."""
    for process in (alive := list(filter(is_alive, processes))):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    wait_while(lambda: any(map(is_alive, alive)), PATIENCE)


def wait_while(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait while a condition is true; returns whether it became false in time."""
    deadline = time.monotonic() + seconds
    while condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
