"""The commands as people run them: a farm process with its own head, and a machine that joins it."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from engine_helpers import assert_done_exactly_once, running, studio, wait_for, wait_until_ended
from farm_helpers import BY_COMMAND, free_port, spec, supervised_farm
from processes import with_children

from ovi_studio.engine.slot import EngineSlot
from ovi_studio.farm.command import FarmAddress, token_file
from ovi_studio.farm.machine import fingerprints
from ovi_studio.farm.roster import machines
from ovi_studio.queue.model import JobState
from ovi_studio.queue.store import Store
from ovi_studio.runtime.options import RuntimeOptions

PROCESSOR_SECONDS = 12
"""Maximum that Ray's node takes in this test, whose head is killed."""

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")


def own_address() -> str:
    """An address of this machine that is no loopback one, which Ray would replace; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 64)  # of another farm, which this machine may have joined
    with studio(tmp_path / "outputs", monkeypatch) as store:
        for name, value in BY_COMMAND.items():
            monkeypatch.setenv(name, value)
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


def farm_owners(store: Store) -> set[str]:
    return {engine.owner for engine in store.engines() if engine.ready and not EngineSlot.of(engine.owner).makes_clips}


@contextmanager
def held_up(process: psutil.Process) -> Iterator[None]:
    process.suspend()
    try:
        yield
    finally:
        process.resume()


def note(process: psutil.Process, seconds: list[float]) -> None:
    """Add how much of a processor a process has taken, while it is there."""
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        seconds.append(times.user + times.system)


def kill_head(address: FarmAddress) -> None:
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if words and words[0].endswith("gcs_server") and f"--gcs_server_port={address.port}" in words:
            process.kill()
            return
    raise AssertionError("there is no head to kill")


def test_machine_copies_models_joins_comes_back_after_the_head_and_leaves_in_order(
    store: Store, tmp_path: Path, tiny_bundle: Path
) -> None:
    address = FarmAddress(own_address(), free_port())
    own = tmp_path / "models"
    join = [sys.executable, "-m", "ovi_studio", "join", str(address), "--name", "rig", "--ckpt-dir", str(own)]
    with ExitStack() as stack:
        stack.enter_context(supervised_farm(store, address, RuntimeOptions(checkpoint_directory=tiny_bundle)))
        said = tmp_path / "join.log"
        wait_for(lambda: bool(store.engines()), 120)

        wrong = subprocess.run(join, env={**os.environ, "RAY_AUTH_TOKEN": "0" * 64}, capture_output=True, text=True)
        assert re.fullmatch(r"error: The head on .* refuses the token; .*\n", wrong.stderr.splitlines(True)[-1])

        token = token_file(store.paths).read_text()
        machine = stack.enter_context(process(said, *join, "--models-from", "head", RAY_AUTH_TOKEN=token))
        (job,) = store.add([spec()])
        wait_until_ended(store, 120)
        assert_done_exactly_once(store, [job])
        assert "makes demo, tiny for" in said.read_text()
        assert fingerprints(own) == fingerprints(tiny_bundle)

        before = farm_owners(store)
        (node,) = (one for one in with_children(machine.pid) if one.name() == "raylet")
        with held_up(node):  # it notices only when there is another head
            kill_head(address)
            wait_for(lambda: farm_owners(store) - before, 120)
        (late,) = store.add([spec()])
        spent = [0.0]
        wait_for(lambda: note(node, spent) or store.get(late).state is JobState.DONE, 180)
        assert_done_exactly_once(store, [job, late])
        # Until the node has found out that its head is another one, and ends, they keep a core each busy.
        assert spent[-1] < PROCESSOR_SECONDS

        (interrupted,) = store.add([spec("wait", steps=1000)])
        wait_for(lambda: running(store), 30)
        machine.send_signal(signal.SIGINT)
        machine.wait(60)
        wait_for(lambda: store.get(interrupted).state is JobState.QUEUED, 60)
        assert store.get(interrupted).attempt == 0
        wait_for(lambda: machines(store.database) == [], 30)
