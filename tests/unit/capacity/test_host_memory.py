"""Host memory before models are loaded, and how the allocator for GPUs is set up."""

import os
import platform
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from fake_cuda import computing_on_the_host
from places import ROOT

from ovi_studio.capacity import host
from ovi_studio.capacity.host import HostMemory, host_memory, require_host_memory
from ovi_studio.checkpoints.layout import require
from ovi_studio.core.allocator import configure_allocator, share_host_arenas
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import Part, published_variants
from ovi_studio.models.device import compute_device, forbid_spilling, usable_memory
from ovi_studio.runtime.compute import Compute
from ovi_studio.runtime.pipeline import Pipeline
from ovi_studio.runtime.placement import check_host_memory, choose_plan

GIB = 2**30
CPU = torch.device("cpu")
LONG = published_variants()["960x960_10s"]

Cuda = Callable[..., Any]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], None]:
    """`machine(32)`: so many GiB of host memory are there, and free, in no container."""
    monkeypatch.setattr(host, "_OWN_CGROUP", tmp_path / "none")

    def has(gib: int) -> None:
        memory = namedtuple("memory", "total available")(gib * GIB, gib * GIB)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)

    return has


# How much there is


def control_group(folder: Path, **values: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (folder / name.replace("_", ".", 1)).write_text(f"{value}\n")


def test_a_containers_limit_counts_and_cached_files_do_not(
    machine: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine(64)
    own = tmp_path / "own"
    own.write_text("0::/user.slice/app\n")
    monkeypatch.setattr(host, "_OWN_CGROUP", own)
    monkeypatch.setattr(host, "_CGROUPS", tmp_path / "cgroup")
    inner = tmp_path / "cgroup" / "user.slice" / "app"
    control_group(inner, memory_max="max", memory_current=5 * GIB, memory_stat="anon 1\ninactive_file 2")
    assert host_memory() == HostMemory(64 * GIB, 64 * GIB)
    stat = f"anon 1\ninactive_file {4 * GIB}"
    control_group(inner.parent, memory_max=16 * GIB, memory_current=10 * GIB, memory_stat=stat)
    assert host_memory() == HostMemory(16 * GIB, 10 * GIB)


def test_a_limit_of_the_older_kind_counts_too(
    machine: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine(64)
    own = tmp_path / "own"
    own.write_text("5:cpu,cpuacct:/docker/x\n3:memory:/docker/x\n0::/\n")
    monkeypatch.setattr(host, "_OWN_CGROUP", own)
    monkeypatch.setattr(host, "_CGROUPS", tmp_path / "cgroup")
    group = tmp_path / "cgroup" / "memory"  # a container does not see the path that it has outside
    group.mkdir(parents=True)
    for name, value in {"limit_in_bytes": 8 * GIB, "usage_in_bytes": 3 * GIB}.items():
        (group / f"memory.{name}").write_text(str(value))
    (group / "memory.stat").write_text(f"total_inactive_file {GIB}\n")
    assert host_memory() == HostMemory(8 * GIB, 6 * GIB)


def test_this_machine_has_some_memory() -> None:
    found = host_memory()
    assert 0 < found.available <= found.total <= psutil.virtual_memory().total


# Before loading


def test_what_is_missing_is_said_with_what_would_need_less(machine: Callable[[int], None]) -> None:
    machine(32)
    require_host_memory(20e9, "x", "or y")
    with pytest.raises(
        JobError, match=r"^x needs 38 GB of host memory for its models, but 33 GB are available; close oth"
    ):
        require_host_memory(38e9, "x", "or y")


def test_a_tier_asks_for_what_is_packed_and_converted_and_not_for_what_files_can_give_again(
    machine: Callable[[int], None], cuda: Cuda
) -> None:
    cuda(80)
    device = compute_device()

    def check(memory: str, weights: str = "auto", *, offloaded: bool = False) -> None:
        check_host_memory(LONG, choose_plan(LONG, device, memory, weights), device, offloaded=offloaded)

    machine(8)
    check("max")
    check("max", offloaded=True)  # everything waits as its file has it
    with pytest.raises(JobError, match=r"needs 21 GB of host memory"):
        check("24")  # ten streamed blocks and the text encoder's
    machine(32)  # the files alone have 37 GB
    check("24")
    check("8")
    with pytest.raises(JobError, match=r"needs 36 GB of host memory"):
        check("8", "bf16")
    machine(16)
    with pytest.raises(JobError, match=r"needs 26 GB of host memory"):
        check("8")  # int8 is made while loading


def test_models_that_are_converted_while_they_are_loaded_are_counted(
    machine: Callable[[int], None], cuda: Cuda
) -> None:
    cuda(80)
    device = compute_device()
    plan = choose_plan(LONG, device, "max")

    def check(*converted: Part) -> None:
        check_host_memory(LONG, plan, device, offloaded=True, converted=converted)

    machine(8)
    check()
    with pytest.raises(JobError, match=r"needs 14 GB of host memory"):
        check(Part.TEXT_ENCODER)
    machine(16)
    check(Part.TEXT_ENCODER)
    with pytest.raises(JobError, match=r"needs 26 GB of host memory"):
        check(Part.TRANSFORMER)
    with pytest.raises(JobError, match=r"needs 37 GB of host memory"):
        check(Part.TRANSFORMER, Part.TEXT_ENCODER)


def test_a_cpu_needs_twice_of_what_a_gpu_needs(machine: Callable[[int], None]) -> None:
    machine(64)
    with pytest.raises(JobError, match=r"needs 7\d GB of host memory"):
        check_host_memory(LONG, choose_plan(LONG, CPU), CPU, offloaded=False)


def test_nothing_is_loaded_where_host_memory_is_too_small(
    machine: Callable[[int], None], cuda: Cuda, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda(24)
    machine(1)
    monkeypatch.setattr("ovi_studio.runtime.pipeline.load_models", lambda *_, **__: pytest.fail("models were loaded"))
    with (
        computing_on_the_host(),
        pytest.raises(JobError, match=r"tiny needs 0 GB of host memory .* 0 GB are available"),
    ):
        Pipeline.load(require("tiny", tiny_bundle), Compute.of())


# The allocator


def configured(monkeypatch: pytest.MonkeyPatch, system: str, release: str, **environment: str) -> dict[str, str]:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "release", lambda: release)
    configure_allocator(environment)
    return environment


def test_segments_grow_where_that_works_unless_somebody_decided_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    grown = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    assert configured(monkeypatch, "linux", "6.8.0-45-generic") == grown
    assert configured(monkeypatch, "linux", "5.15.90.1-microsoft-standard-WSL2") == {}
    assert configured(monkeypatch, "win32", "11") == {}
    own = {"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"}
    assert configured(monkeypatch, "linux", "6.8.0-45-generic", **own) == own


def test_segments_are_set_up_before_torch_is_imported() -> None:
    script = "import ovi_studio, os, sys; print('torch' in sys.modules, os.environ.get('PYTORCH_ALLOC_CONF'))"
    free = {name: value for name, value in os.environ.items() if "ALLOC_CONF" not in name}
    told = subprocess.run([sys.executable, "-c", script], env=free, cwd=ROOT, capture_output=True, text=True).stdout
    expected = None if "microsoft" in platform.release().lower() else "expandable_segments:True"
    assert told == f"False {expected}\n"


@pytest.mark.parametrize(
    ("system", "release", "limited"),
    [("win32", "11", True), ("linux", "5.15-microsoft-standard-WSL2", True), ("linux", "6.8.0", False)],
)
def test_a_driver_that_would_spill_in_silence_is_limited_to_what_is_free(
    cuda: Cuda, monkeypatch: pytest.MonkeyPatch, system: str, release: str, limited: bool
) -> None:
    card = cuda(24, desktop=True).cards[0]
    usable = usable_memory(compute_device())
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "release", lambda: release)
    forbid_spilling(compute_device())
    assert card.fraction == pytest.approx(usable / card.total if limited else 1.0)
    forbid_spilling(CPU)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="an allocator of glibc")
def test_threads_share_two_arenas_unless_the_user_has_configured_malloc() -> None:
    assert not share_host_arenas({"MALLOC_ARENA_MAX": "8"})
    script = """
import ctypes, threading
from ovi_studio.core.allocator import share_host_arenas
assert share_host_arenas({})
hold = threading.Barrier(13)
def work():
    held = bytearray(100_000)
    hold.wait()
threads = [threading.Thread(target=work) for _ in range(12)]
for thread in threads:
    thread.start()
hold.wait()
ctypes.CDLL(None).malloc_stats()
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    assert 1 <= done.stderr.count("Arena ") <= 2
