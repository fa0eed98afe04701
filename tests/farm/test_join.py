"""The commands as people run them: a farm process with its own head, and a machine that joins it."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from engine_helpers import assert_done_exactly_once, running, studio, wait_for, wait_until_ended
from fake_models import NAME
from farm_helpers import spec

from ovi_studio.farm.command import FarmAddress, farm_command, token_file
from ovi_studio.farm.roster import machines
from ovi_studio.queue.model import JobState
from ovi_studio.queue.store import Store
from ovi_studio.runtime.options import RuntimeOptions

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")


def own_address() -> str:
    """An address of this machine that is no loopback one, which Ray would replace; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    with studio(tmp_path / "outputs", monkeypatch) as store:
        yield store


@contextmanager
def process(log: Path, *command: str, **environment: str) -> Iterator[subprocess.Popen]:
    """A command in a group of its own, all of which is ended."""
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **environment}, start_new_session=True
        )
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(40)
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def test_machine_joins_makes_clips_and_leaves_in_order(store: Store, tmp_path: Path) -> None:
    address = FarmAddress(own_address(), free_port())
    join = [sys.executable, "-m", "ovi_studio", "join", str(address), "--name", "rig"]
    with ExitStack() as stack:
        farm = farm_command(store.paths, address, RuntimeOptions(), NAME)
        stack.enter_context(process(tmp_path / "farm.log", *farm))
        said = tmp_path / "join.log"
        wait_for(lambda: bool(store.engines()), 120)

        wrong = subprocess.run(join, env={**os.environ, "RAY_AUTH_TOKEN": "0" * 64}, capture_output=True, text=True)
        assert re.fullmatch(r"error: The head on .* refuses the token; .*\n", wrong.stderr.splitlines(True)[-1])

        token = token_file(store.paths).read_text()
        machine = stack.enter_context(process(said, *join, RAY_AUTH_TOKEN=token))
        (job,) = store.add([spec()])
        wait_until_ended(store, 120)
        assert_done_exactly_once(store, [job])
        assert "makes demo for" in said.read_text()

        (interrupted,) = store.add([spec("wait", steps=1000)])
        wait_for(lambda: running(store), 30)
        machine.send_signal(signal.SIGINT)
        machine.wait(60)
        wait_for(lambda: store.get(interrupted).state is JobState.QUEUED, 60)
        assert store.get(interrupted).attempt == 0
        wait_for(lambda: machines(store.database) == [], 30)
