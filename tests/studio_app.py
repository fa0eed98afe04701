"""`app.py` in a process of its own, and a browser, for the tests of the page, the API and the login."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_maker import NAME

APP = Path(__file__).parents[1] / "app.py"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
QUIET += " --disable-component-update --disable-sync"
PATIENCE = 90
"""Seconds for whatever a page waits for, on a machine that is busy."""

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium or Chrome on this machine")


class Application:
    """The page and its engine; its clips are those of the fake maker unless another one is asked for."""

    def __init__(self, outputs: Path, checkpoints: Path, *more: str, maker: str | None = NAME) -> None:
        self.outputs, self.checkpoints, self.more = (
            outputs,
            checkpoints,
            (*more, *(["--maker", maker] if maker else [])),
        )
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.start()

    def start(self) -> None:
        command = [sys.executable, str(APP), "--port", str(self.port), "--no-open", "--ckpt-dir", str(self.checkpoints)]
        search = os.pathsep.join([str(APP.parent / "tests"), str(APP.parent)])
        started = time.monotonic()
        self.process = subprocess.Popen(
            [*command, "--out", str(self.outputs), *self.more],
            env={**os.environ, "PYTHONPATH": search},
            stdout=subprocess.PIPE,
            text=True,
        )
        while not self.answers():
            assert self.process.poll() is None
            assert time.monotonic() - started < 60
            time.sleep(0.05)
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
        from gradio_client import Client

        return Client(self.url, verbose=False, **options)

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT if sys.platform != "win32" else signal.SIGTERM)
        self.process.wait(timeout=60)


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium by way of Playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())
        yield found
        found.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found
