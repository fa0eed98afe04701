"""`Forked`: a process that another one has forked; and what such a process does."""

import os
import runpy
import signal
import socket
import subprocess
import sys
import traceback
from typing import NoReturn


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


def run_and_leave(module: str) -> NoReturn:
    """Do in a forked process what `python -m module` does, and end it at once: the interpreter is not its own."""
    status: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        status = error.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)
