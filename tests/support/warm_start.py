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
PATIENCE = 300
"""Seconds that a program has for all it does, and a server to start."""
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
        self.get_ready(environment)
        return _fork(str(self._address), arguments, environment, stdout, stderr, leads)

    @property
    def is_ready(self) -> bool:
        """Whether it has been started; false where there are no servers."""
        return _FOLDER in os.environ and self._address.exists()

    def get_ready(self, environment: Mapping[str, str]) -> None:
        """Start it unless that has been done; it is a child of this process."""
        with Lock.acquire(self._address.with_suffix(".lock"), PATIENCE):  # supervisors start their engines in threads
            if not self.is_ready:
                self._start_server(environment)

    @property
    def _address(self) -> Path:
        return Path(os.environ[_FOLDER]) / self._name

    def _start_server(self, environment: Mapping[str, str]) -> None:
        command = [sys.executable, str(SUPPORT / "warm_server.py"), str(self._address), *self._modules]
        with self._address.with_name(_RUN).open() as run:
            # Whoever comes first does not decide which warnings the programs of others give.
            variables = {**environment, "PYTHONPATH": PYTHON_PATH, "PYTHONWARNINGS": ""}
            server = subprocess.Popen(command, env=variables, stdin=run, stdout=subprocess.PIPE, text=True)
        with server.stdout as said:
            assert said.readline() == "ready\n"

    def run(
        self, *arguments: str, environment: Mapping[str, str], patience: float = PATIENCE
    ) -> "subprocess.CompletedProcess[str]":
        """Run it to its end, if need be cold; returns what `subprocess.run` does of texts that it captures."""
        if not may_fork():
            command = [sys.executable, *arguments]
            return subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=patience
            )
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            child = self.start(*arguments, environment=environment, stdout=out.fileno(), stderr=err.fileno())
            try:
                status = child.wait(patience)
            finally:
                child.kill()
            said = [stream.seek(0) or stream.read() for stream in (out, err)]
        return subprocess.CompletedProcess(arguments, status, *said)

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


PAGES = WarmServer("pages", "app", "ovi_studio.web.studio_page", "forked_engines")
ENGINES = WarmServer("engines", "ovi_studio.engine.loop", "ovi_studio.engine.supervisor", "fake_models")
PIPELINES = WarmServer(
    "pipelines", "ovi_studio.runtime.pipeline", "ovi_studio.cli.registry", "ovi_studio.engine.loop", "forked_launchers"
)
