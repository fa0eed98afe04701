"""Missing adapters of presets: finding and downloading them, from a local hub."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from adapter_helpers import write_adapter
from hub_server import HubServer

from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.adapters.sources import AdapterSource, fetch_adapters, find_missing, parse_source, plan_adapters
from ovi_studio.checkpoints import download, meter
from ovi_studio.checkpoints.background import DownloadPhase, Downloads
from ovi_studio.core.adapter_stack import parse_stack
from ovi_studio.core.errors import JobError

NAME = "lightning/fast.safetensors"
STACK = parse_stack([{"name": NAME}, {"name": "own.safetensors"}])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    write_adapter(tmp_path / "hub" / "some" / "one" / "deep" / "fast.safetensors", rank=200)
    monkeypatch.setattr(download, "RETRY_WAITS", (0.0, 0.0))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    huggingface_hub.close_session()
    with HubServer(tmp_path / "hub") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
    huggingface_hub.close_session()


@pytest.fixture
def library(tmp_path: Path) -> AdapterLibrary:
    write_adapter(tmp_path / "loras" / "own.safetensors")
    return AdapterLibrary(tmp_path / "loras")


def source(**changes: object) -> AdapterSource:
    values = {"repository": "some/one", "path": "deep/fast.safetensors", "licence": "Apache-2.0", "size": "4000"}
    return parse_source(values | changes, NAME)


def test_missing_adapters_are_named_with_size_and_licence(library: AdapterLibrary) -> None:
    found = find_missing(STACK, {NAME: source()}, library)
    assert found is not None
    assert NAME in found.reason
    assert "own" not in found.reason
    assert (found.size, found.licences, list(found.sources)) == (4000, "Apache-2.0", [NAME])


def test_existing_adapters_are_not_missing(library: AdapterLibrary) -> None:
    assert find_missing(STACK[1:], {}, library) is None
    assert find_missing((), {NAME: source()}, library) is None


def test_an_adapter_without_a_source_cannot_be_downloaded(library: AdapterLibrary) -> None:
    found = find_missing(STACK, {}, library)
    assert found is not None
    assert found.sources == {}


def test_a_damaged_file_is_not_replaced_unasked(library: AdapterLibrary) -> None:
    path = library.directory / NAME
    path.parent.mkdir()
    path.write_bytes(b"<html>no such file</html>")
    found = find_missing(STACK, {NAME: source()}, library)
    assert found is not None
    assert found.sources == {}


def test_the_file_arrives_where_the_preset_looks_for_it(hub: HubServer, library: AdapterLibrary) -> None:
    plan = plan_adapters({NAME: source()}, library)
    assert plan.total == (hub.root / "some/one/deep/fast.safetensors").stat().st_size
    assert NAME in download.format_plan(plan)
    fetch_adapters(plan, lambda _: None)
    assert find_missing(STACK, {NAME: source()}, library) is None
    assert {path.name for path in library.directory.rglob("*.part")} == set()


def test_an_interrupted_download_is_resumed(
    hub: HubServer, library: AdapterLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.faults.break_after, hub.faults.breaks = 50_000, 1

    def stop(progress: download.DownloadProgress) -> None:
        if progress.done:
            assert [entry.name for entry in library.scan()] == ["own.safetensors"]
            raise InterruptedError

    monkeypatch.setattr(meter, "REPORT_INTERVAL", 0.0)
    with pytest.raises(InterruptedError):
        fetch_adapters(plan_adapters({NAME: source()}, library), stop)
    plan = plan_adapters({NAME: source()}, library)
    assert 0 < plan.already < plan.total
    fetch_adapters(plan, lambda _: None)
    assert [request.range is None for request in hub.gets()][:2] == [True, False]
    assert find_missing(STACK, {}, library) is None


def test_a_file_other_than_the_presets_is_refused_before_the_download(hub: HubServer, library: AdapterLibrary) -> None:
    right = hashlib.sha256((hub.root / "some/one/deep/fast.safetensors").read_bytes()).hexdigest()
    with pytest.raises(JobError, match=right):
        plan_adapters({NAME: source(sha256="0" * 64)}, library)
    assert plan_adapters({NAME: source(sha256=right)}, library).files
    assert hub.gets() == []


def test_a_refusal_names_the_folder_of_adapters(hub: HubServer, library: AdapterLibrary) -> None:
    plan = plan_adapters({NAME: source()}, library)
    (library.directory / "lightning").write_text("in the way")
    with pytest.raises(JobError, match="--lora-dir"):
        fetch_adapters(plan, lambda _: None)


def test_a_download_runs_in_the_background_and_reports_progress(hub: HubServer, library: AdapterLibrary) -> None:
    downloads = Downloads(library.directory, execute=fetch_adapters)
    hub.faults.stall_after = 50_000
    downloads.begin("Lightning", lambda: plan_adapters({NAME: source()}, library))
    assert hub.stalled.wait(10)
    assert downloads.state().busy
    assert downloads.state().variant == "Lightning"
    with pytest.raises(JobError, match="Lightning is being downloaded"):
        downloads.begin("Turbo", lambda: pytest.fail("it was begun"))
    hub.release.set()
    deadline = 200
    while downloads.state().busy and (deadline := deadline - 1):
        hub.stalled.clear()
        hub.stalled.wait(0.05)
    assert downloads.state().phase is DownloadPhase.DONE
    assert find_missing(STACK, {}, library) is None
