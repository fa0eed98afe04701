"""`join --download VARIANT`: the machine fetches a variant from the hub, here a local one, before it joins."""

import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import HubServer
from hub_variant import MODEL, assert_like_hub, small_variant

from ovi_studio.__main__ import main
from ovi_studio.checkpoints.layout import take_inventory
from ovi_studio.core import variants
from ovi_studio.core.variants import Variant
from ovi_studio.farm import cluster
from ovi_studio.farm import join as joining
from ovi_studio.farm.machine import Machine, Versions

VERSIONS = Versions("1", "1", "1")


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[Machine]:
    """The machines that have joined, which they do without Ray; a command of theirs runs in this process."""
    variant, found = small_variant(), []

    def run(command: list[str], *, check: bool) -> subprocess.CompletedProcess:
        assert command[:3] == [sys.executable, "-m", "ovi_studio"]
        return subprocess.CompletedProcess(command, main(command[3:]))

    def describe(name: str, checkpoints: Path, *, ranks: int) -> Machine:
        complete: list[Variant] = [variant] if take_inventory(variant, checkpoints).complete else []
        return Machine(name, VERSIONS, variants={one.name: "hash" for one in complete})

    monkeypatch.setenv("RAY_AUTH_TOKEN", "x")
    monkeypatch.setattr(variants, "known_variants", lambda _: {variant.name: variant})
    monkeypatch.setattr(joining, "require_ray", lambda: None)
    monkeypatch.setattr(joining, "describe", describe)
    monkeypatch.setattr(joining, "_stay", lambda head, here, environment: found.append(here))
    monkeypatch.setattr(joining.subprocess, "run", run)
    monkeypatch.setattr(cluster, "head_facts", lambda address: Machine("head", VERSIONS))
    monkeypatch.setattr(Versions, "here", classmethod(lambda cls: VERSIONS))
    return found


def join(directory: Path) -> int:
    return main(["join", "127.0.0.1", "--name", "rig", "--download", "small", "--ckpt-dir", str(directory)])


def test_machine_fetches_a_variant_from_the_hub_and_joins_with_it(
    hub: HubServer, directory: Path, joined: list[Machine]
) -> None:
    assert join(directory) == 0
    assert_like_hub(directory, hub)
    assert [(machine.name, *machine.variants) for machine in joined] == [("rig", "small")]


def test_machine_that_cannot_fetch_its_variant_does_not_join_and_resumes_next_time(
    hub: HubServer, directory: Path, joined: list[Machine], capsys: pytest.CaptureFixture[str]
) -> None:
    hub.faults.status_of[MODEL] = 404
    assert join(directory) == 1
    assert "The models could not be fetched; see above, then join again: it resumes." in capsys.readouterr().err
    assert joined == []
    hub.faults.status_of.clear()
    assert join(directory) == 0
    assert_like_hub(directory, hub)
    assert len(joined) == 1
