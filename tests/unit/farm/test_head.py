"""The head's address, token, process and dashboard, and machines that wait for it; nothing here needs Ray."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from ovi_studio.core.errors import JobError, Stopped
from ovi_studio.farm import cluster
from ovi_studio.farm import join as joining
from ovi_studio.farm.command import TOKEN_PATH_VARIABLE, FarmAddress, token_file
from ovi_studio.farm.machine import Machine, Versions
from ovi_studio.queue.store import Store


@pytest.fixture
def port() -> Iterator[int]:
    """Where another program listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("address", ["0.0.0.0", "", "host:port", ":6379", "host:0", "host:65536", "a..b", "x" * 300])
def test_head_needs_an_address_of_its_own(address: str) -> None:
    with pytest.raises(JobError):
        FarmAddress.parse(address)


def test_token_that_page_and_farm_process_make_at_once_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Store.open(tmp_path / "outputs")) as store:
        token = token_file(store.paths).read_text()
        exists = Path.exists
        monkeypatch.setattr(Path, "exists", lambda path: path.name != "farm.token" and exists(path))
        assert token_file(store.paths).read_text() == token
        assert [path.name for path in store.paths.state.glob("farm.token*")] == ["farm.token"]


def test_port_of_another_program_is_refused_with_a_sentence(port: int) -> None:
    with pytest.raises(JobError, match=f"uses 127.0.0.1:{port}; choose another port"):
        cluster.start_head(FarmAddress("127.0.0.1", port), {}, lambda: False)


def test_head_that_a_killed_farm_process_has_left_is_taken_over_and_that_of_another_studio_is_not(port: int) -> None:
    address = FarmAddress("127.0.0.1", port)
    options = ["--head", f"--port={port}", f"--node-ip-address={address.host}"]
    environment = {**os.environ, TOKEN_PATH_VARIABLE: "ours"}
    left = subprocess.Popen([sys.executable, "-c", "input()", *options], stdin=subprocess.PIPE, env=environment)
    try:
        assert cluster.start_head(address, {TOKEN_PATH_VARIABLE: "ours"}, lambda: False).pid == left.pid
        with pytest.raises(JobError, match="head of another studio"):
            cluster.start_head(address, {TOKEN_PATH_VARIABLE: "another"}, lambda: False)
    finally:
        left.communicate()


def test_farm_process_ends_when_its_head_does_whatever_it_waits_for(python_environment: dict[str, str]) -> None:
    watching = "import sys, threading, psutil; from ovi_studio.farm.cluster import end_with_head; "
    watching += "end_with_head(psutil.Process(int(sys.argv[1])), threading.Event())"
    with (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as head,
        subprocess.Popen([sys.executable, "-c", watching, str(head.pid)], env=python_environment) as farm,
    ):
        head.kill()
        assert farm.wait(30) == 1


def test_farm_that_is_asked_to_end_waits_for_no_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "answers", lambda address: False)
    monkeypatch.setattr(cluster, "_start_head", lambda *_: psutil.Popen([sys.executable, "-c", "input()"]))
    with pytest.raises(Stopped):
        cluster.start_head(FarmAddress("127.0.0.1", 1), {}, lambda: True)


def test_head_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = [sys.executable, "-c", "print('started'); exit('no room')"]
    monkeypatch.setattr(cluster, "answers", lambda address: False)
    monkeypatch.setattr(cluster, "_start_head", lambda *given: psutil.Popen(failing, stdout=given[2], stderr=given[2]))
    with pytest.raises(JobError, match=r"does not start on 127\.0\.0\.1:1; .*Ray says: no room$"):
        cluster.start_head(FarmAddress("127.0.0.1", 1), {}, lambda: False)


@pytest.mark.parametrize(("remembered", "left"), [("127.0.0.1:1", None), ("192.168.1.5:6379", "192.168.1.5:6379")])
def test_ray_forgets_a_head_that_has_ended_before_it_starts_another_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remembered: str, left: str | None
) -> None:
    """It would refuse as long as a machine that joined from here has a node of the one before."""
    utils = pytest.importorskip("ray._private.utils")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    utils.write_ray_address(remembered)
    found = []

    def start(*_: object) -> psutil.Popen:
        found.append(utils.read_ray_address())
        return psutil.Popen([sys.executable, "-c", "input()"])

    monkeypatch.setattr(cluster, "answers", lambda address: False)
    monkeypatch.setattr(cluster, "_start", start)
    with pytest.raises(Stopped):
        cluster.start_head(FarmAddress("127.0.0.1", 1), {}, lambda: True)
    assert found == [left]


@pytest.mark.parametrize("installed", [True, False])
def test_dashboard_listens_on_the_head_alone_if_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    for name in ("ray", "ray.dashboard", "ray.dashboard.optional_deps"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name) if installed else None)
    wanted = {"--include-dashboard=true", "--dashboard-host=127.0.0.1"} if installed else {"--include-dashboard=false"}
    assert set(cluster._dashboard_options()) == wanted


def test_machine_waits_for_a_head_that_starts_and_then_says_what_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [cluster.HeadNotReady("No head answers."), cluster.HeadNotReady("There is no studio in it yet.")]

    def facts(address: FarmAddress) -> Machine:
        if answers:
            raise answers.pop(0)
        return Machine("head", Versions("0", "0", "0"))

    monkeypatch.setenv("RAY_AUTH_TOKEN", "x")
    monkeypatch.setattr(joining, "require_ray", lambda: None)
    monkeypatch.setattr(joining, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(cluster, "head_facts", facts)
    monkeypatch.setattr(Versions, "here", classmethod(lambda cls: cls("1", "0", "0")))
    with pytest.raises(JobError, match="Ovi Studio is 1 here and 0 on the head"):
        joining.join("192.168.1.5", tmp_path)
    assert "There is no studio in it yet. Waiting for it" in capsys.readouterr().err
    monkeypatch.setattr(joining, "HEAD_SECONDS", 0.0)
    answers.append(cluster.HeadNotReady("No head answers."))
    with pytest.raises(JobError, match="No head answers"):
        joining.join("192.168.1.5", tmp_path)
