"""Processes of Python that are forked by one that has imported their libraries (see `warm_server`)."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from forked import Forked
from places import PYTHON_PATH, SUPPORT

from ovi_studio.queue.locks import Lock

ENDING = [signal.SIGINT, *filter(None, [getattr(signal, "SIGHUP", None)])]
"""Signals that a process may be started to ignore."""
_ADDRESS = "OVI_TEST_WARM_SERVER"
"""In the environment of what a server has forked: where that server is."""
_FOLDER = "OVI_TEST_WARM_SERVERS"
"""In the environment of a run and its workers: the folder of its servers."""
_RUN = "run"
"""A pipe in it that is open for as long as the run lasts."""


class WarmServer:
    """Forks programs that import these modules; the first one of a run starts it, and all workers share it."""

    def __init__(self, name: str, *modules: str) -> None:
        self._name = name
        self._modules = modules

    def start(
        self, *arguments: str, environment: Mapping[str, str], stdout: int = 2, stderr: int = 2, leads: bool = False
    ) -> Forked:
        """Start `python ARGUMENTS` in this folder, without input.

        Args:
            stdout: a file descriptor, like `stderr`.
            leads: whether it leads a process group of its own.
        """
        address = Path(os.environ[_FOLDER]) / self._name
        with Lock.acquire(address.with_suffix(".lock"), 120):  # supervisors start their engines in threads
            if not address.exists():
                self._start_server(address, environment)
        return _fork(str(address), arguments, environment, stdout, stderr, leads)

    def _start_server(self, address: Path, environment: Mapping[str, str]) -> None:
        command = [sys.executable, str(SUPPORT / "warm_server.py"), str(address), *self._modules]
        with address.with_name(_RUN).open() as run:
            server = subprocess.Popen(
                command, env={**environment, "PYTHONPATH": PYTHON_PATH}, stdin=run, stdout=subprocess.PIPE, text=True
            )
        with server.stdout as said:
            assert said.readline() == "ready\n"

    def start_engine(self, command: Sequence[str], environment: Mapping[str, str], words: BinaryIO) -> Forked:
        """Start an engine for a `Supervisor`."""
        where = words.fileno()
        return self.start(*command[1:], environment=environment, stdout=where, stderr=where, leads=True)


@contextmanager
def warm_servers() -> Iterator[None]:
    """Where those of a run are started; they end with the block, or else with this process."""
    with tempfile.TemporaryDirectory(prefix="ovi-warm-") as folder:
        os.mkfifo(pipe := Path(folder) / _RUN)
        # Nothing is ever written to it: servers read until nobody could write any more. So both ways, not to wait.
        run = os.open(pipe, os.O_RDWR)
        os.environ[_FOLDER] = folder
        try:
            yield
        finally:
            os.close(run)
            del os.environ[_FOLDER]


def _fork(
    address: str, arguments: Sequence[str], environment: Mapping[str, str], stdout: int, stderr: int, leads: bool
) -> Forked:
    """Have the server at an address fork a program."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    order = {"arguments": arguments, "environment": {**environment, _ADDRESS: address}, "folder": str(Path.cwd())}
    order |= {"ignored": [int(each) for each in ENDING if signal.getsignal(each) is signal.SIG_IGN], "leads": leads}
    nothing = os.open(os.devnull, os.O_RDONLY)
    socket.send_fds(connection, [json.dumps(order).encode()], [nothing, stdout, stderr])
    os.close(nothing)
    return Forked(connection)


def start_sibling(command: Sequence[str], environment: Mapping[str, str], words: BinaryIO) -> Forked:
    """Start an engine for a `Supervisor` in a process that a server has forked; the same server forks it."""
    where = words.fileno()
    return _fork(os.environ[_ADDRESS], command[1:], environment, where, where, leads=True)


def may_fork() -> bool:
    """Whether this is a run of tests that has such servers; what is measured by hand starts its processes cold."""
    return _FOLDER in os.environ


def is_forked() -> bool:
    """Whether a server has forked this process, or what has started it."""
    return _ADDRESS in os.environ


PAGES = WarmServer("pages", "app", "ovi_studio.web.studio_page")
ENGINES = WarmServer("engines", "ovi_studio.engine.loop", "ovi_studio.engine.supervisor", "fake_models")
