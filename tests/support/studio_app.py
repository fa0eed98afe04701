"""Runs `app.py` in a separate process, for tests of the page, the API and the login."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fake_models import NAME
from places import PYTHON_PATH, ROOT
from processes import kill, with_children
from warm_start import PAGES, PIPELINES, Forked, may_fork

APP = ROOT / "app.py"
START_PATIENCE = 240
"""Seconds; on a machine of one's own it takes four."""


class Application:
    """The page and its engine; its clips are those of the fake models unless others are asked for.

    Args:
        cold: started by its command, for tests of how it starts, what it costs, and the signals that it inherits;
            otherwise forked by a process that has imported Gradio, which is most of a start.
    """

    def __init__(
        self, outputs: Path, checkpoints: Path, *more: str, models: str | None = NAME, cold: bool = False
    ) -> None:
        self.outputs, self.checkpoints = outputs, checkpoints
        self.more = (*more, *(["--models", models] if models else []))
        self.cold = cold or not may_fork()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.start()

    def start(self) -> None:
        arguments = [str(APP), "--port", str(self.port), "--no-open", "--ckpt-dir", str(self.checkpoints)]
        arguments += ["--out", str(self.outputs), *self.more]
        environment = {**os.environ, "PYTHONPATH": PYTHON_PATH}
        started = time.monotonic()
        self._shared_client: Any = None
        self.process: subprocess.Popen[bytes] | Forked
        if self.cold:
            self.process = subprocess.Popen([sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL)
        else:
            if "--models" not in arguments:
                PIPELINES.get_ready(environment)  # not by the page, whose children end with it
            self.process = PAGES.start(*arguments, environment=environment)
        try:
            while not self.answers():
                assert self.process.poll() is None
                assert time.monotonic() - started < START_PATIENCE
                time.sleep(0.05)
        except BaseException:
            kill(with_children(self.process.pid))
            raise
        self.seconds_to_start = time.monotonic() - started

    def answers(self) -> bool:
        try:
            self.get("")
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return answer.read()

    def client(self, **options: Any) -> Any:
        """A client of the API, with a session of its own."""
        from gradio_client import Client

        # It would read this machine's certificates three times for each call, which needs none of them.
        return Client(self.url, verbose=False, ssl_verify=False, **options)

    @property
    def shared_client(self) -> Any:
        """The same client until the next start; a new one first asks for all that the page consists of."""
        if self._shared_client is None:
            self._shared_client = self.client()
        return self._shared_client

    def end(self) -> None:
        """In order; whatever does not end so is killed, and the test fails."""
        started = with_children(self.process.pid)
        self.process.send_signal(signal.SIGINT if sys.platform != "win32" else signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        finally:
            kill(started)


@contextmanager
def running(outputs: Path, *more: str, models: str | None = NAME, cold: bool = False) -> Iterator[Application]:
    """An application over these clips until the block ends."""
    application = Application(outputs, outputs.parent / "checkpoints", *more, models=models, cold=cold)
    try:
        yield application
    finally:
        application.end()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
