"""Processes of Python that are forked by one that has imported their libraries (see `warm_server`)."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from forked import Forked
from places import PYTHON_PATH, SUPPORT

ENDING = [signal.SIGINT, *filter(None, [getattr(signal, "SIGHUP", None)])]
"""Signals that a process may be started to ignore."""


class WarmServer:
    """Forks programs that import these modules; it is started with the first one, and ended by `close`."""

    def __init__(self, *modules: str) -> None:
        self._modules = modules
        self._process: subprocess.Popen[str] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="ovi-warm-")

    def start(self, *arguments: str, environment: dict[str, str], stdout: int = 2, stderr: int = 2) -> Forked:
        """Start `python ARGUMENTS` in this folder, without input; `stdout` and `stderr` are file descriptors."""
        address = str(Path(self._folder.name) / "socket")
        if self._process is None:
            command = [sys.executable, str(SUPPORT / "warm_server.py"), address, *self._modules]
            pipe = subprocess.PIPE
            paths = {"PYTHONPATH": PYTHON_PATH}
            self._process = subprocess.Popen(command, env=environment | paths, stdin=pipe, stdout=pipe, text=True)
            assert self._process.stdout.readline() == "ready\n"
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(address)
        order = {"arguments": arguments, "environment": environment, "folder": str(Path.cwd())}
        order["ignored"] = [int(each) for each in ENDING if signal.getsignal(each) is signal.SIG_IGN]
        nothing = os.open(os.devnull, os.O_RDONLY)
        socket.send_fds(connection, [json.dumps(order).encode()], [nothing, stdout, stderr])
        os.close(nothing)
        return Forked(connection)

    def close(self) -> None:
        """End the server; what it has started is no matter of it."""
        if self._process is not None:
            self._process.stdin.close()
            self._process.stdout.close()
            assert self._process.wait(60) == 0
        self._folder.cleanup()


PAGES = WarmServer("app", "ovi_studio.web.studio_page")
ENGINES = WarmServer("ovi_studio.engine.loop", "ovi_studio.engine.supervisor", "fake_models")
