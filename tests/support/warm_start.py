"""Processes of Python that are forked by one that has imported their libraries (see `warm_server`)."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from forked import Forked
from places import PYTHON_PATH, SUPPORT

ENDING = [signal.SIGINT, *filter(None, [getattr(signal, "SIGHUP", None)])]
"""Signals that a process may be started to ignore."""
_ADDRESS = "OVI_TEST_WARM_SERVER"
"""In the environment of what a server has forked: where that server is."""


class WarmServer:
    """Forks programs that import these modules; it is started with the first one, and ended by `close`."""

    def __init__(self, *modules: str) -> None:
        self._modules = modules
        self._process: subprocess.Popen[str] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._starting = threading.Lock()

    def start(
        self, *arguments: str, environment: Mapping[str, str], stdout: int = 2, stderr: int = 2, leads: bool = False
    ) -> Forked:
        """Start `python ARGUMENTS` in this folder, without input.

        Args:
            stdout: a file descriptor, like `stderr`.
            leads: whether it leads a process group of its own.
        """
        with self._starting:  # supervisors start their engines in threads
            if self._folder is None:
                # Not before: whatever is forked has this module, and leaves without removing folders.
                self._folder = tempfile.TemporaryDirectory(prefix="ovi-warm-")
            address = str(Path(self._folder.name) / "socket")
            if self._process is None:
                command = [sys.executable, str(SUPPORT / "warm_server.py"), address, *self._modules]
                pipe = subprocess.PIPE
                paths = {"PYTHONPATH": PYTHON_PATH}
                self._process = subprocess.Popen(command, env=environment | paths, stdin=pipe, stdout=pipe, text=True)
                assert self._process.stdout.readline() == "ready\n"
        return _fork(address, arguments, environment, stdout, stderr, leads)

    def start_engine(self, command: Sequence[str], environment: Mapping[str, str], words: BinaryIO) -> Forked:
        """Start an engine for a `Supervisor`."""
        where = words.fileno()
        return self.start(*command[1:], environment=environment, stdout=where, stderr=where, leads=True)

    def close(self) -> None:
        """End the server; what it has started is no matter of it."""
        if self._process is not None:
            self._process.stdin.close()
            self._process.stdout.close()
            assert self._process.wait(60) == 0
        if self._folder is not None:
            self._folder.cleanup()


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


def is_forked() -> bool:
    """Whether a server has forked this process, or what has started it."""
    return _ADDRESS in os.environ


PAGES = WarmServer("app", "ovi_studio.web.studio_page")
ENGINES = WarmServer("ovi_studio.engine.loop", "ovi_studio.engine.supervisor", "fake_models")
