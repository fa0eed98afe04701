"""Processes of Python that are forked by one that has imported their libraries (see `warm_server`)."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from places import PYTHON_PATH, SUPPORT

ENDING = [signal.SIGINT, *filter(None, [getattr(signal, "SIGHUP", None)])]
"""Signals that a process may be started to ignore."""


class Forked:
    """A process, as `subprocess.Popen` has them; it is no child of this one, so a socket tells its exit status."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.pid = int(self._read_line())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, when it has ended."""
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                self.returncode = int(self._read_line())
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0) from None
            self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def _read_line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            if not (more := self._connection.recv(1)):
                raise EOFError("the server that forks processes has ended")
            line += more
        return line


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
