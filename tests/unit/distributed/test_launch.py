"""Launching ranks and their options, without starting any; and combining partial attention."""

import argparse
import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from places import SUPPORT

from ovi_studio.capacity.budget import GIB
from ovi_studio.capacity.host import HostMemory
from ovi_studio.capacity.layouts import ShardingOptions, Strategy
from ovi_studio.checkpoints.layout import take_inventory
from ovi_studio.core.errors import JobError, Stopped
from ovi_studio.core.variants import published_variants
from ovi_studio.core.weight_formats import Weights
from ovi_studio.distributed import launch, sharding
from ovi_studio.distributed.partial_attention import attention_with_log_sum
from ovi_studio.distributed.ranks import ALONE, Ranks
from ovi_studio.distributed.sharding import Sharding, can_be_pinned, pinned_bytes, resident_depths, resolve_sharding
from ovi_studio.engine.command import add_engine_options, engine_command
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.runtime.options import RuntimeOptions


def parsed(*arguments: str) -> RuntimeOptions:
    parser = argparse.ArgumentParser()
    add_engine_options(parser)
    return RuntimeOptions.of(parser.parse_args(arguments))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the commands that this process would have become."""
    commands: list[list[str]] = []

    def become(_: str, command: list[str]) -> None:
        commands.append(command)
        raise Stopped

    monkeypatch.setattr(launch.os, "execv", become)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    return commands


def test_several_gpus_are_started_by_accelerate_with_our_configuration(started: list[list[str]]) -> None:
    with pytest.raises(Stopped):
        launch.launch_if_several(4, "ovi_studio.engine", ["--out", "clips"])
    (command,) = started
    assert command[:3] == [sys.executable, "-m", "ovi_studio.distributed.launcher"]
    assert command[command.index("--config_file") + 1] == str(launch.CONFIG)
    assert command[command.index("--num_processes") + 1] == "4"
    assert command[-4:] == ["--module", "ovi_studio.engine", "--out", "clips"]
    config = yaml.safe_load(launch.CONFIG.read_text())
    assert config["distributed_type"] == "FSDP"
    assert config["fsdp_config"]["fsdp_version"] == 2


@pytest.mark.parametrize(("found", "ranks"), [(0, None), (1, None), (2, "2"), (5, "4"), (7, "6"), (8, "8")])
def test_the_default_is_as_many_gpus_as_can_share_a_clip(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch, found: int, ranks: str | None
) -> None:
    monkeypatch.setattr(launch, "gpu_count", lambda: found)
    if ranks is None:
        launch.launch_if_several(None, "ovi_studio.engine", [])
        assert started == []
    else:
        with pytest.raises(Stopped):
            launch.launch_if_several(None, "ovi_studio.engine", [])
        assert started[0][started[0].index("--num_processes") + 1] == ranks


def test_one_gpu_and_a_rank_start_nothing(started: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    launch.launch_if_several(1, "ovi_studio.engine", [])
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "4")
    launch.launch_if_several(4, "ovi_studio.engine", [])
    assert started == []


@pytest.mark.parametrize("gpus", [0, -1, 5, 65])
def test_a_number_that_cannot_share_a_clip_is_refused(started: list[list[str]], gpus: int) -> None:
    with pytest.raises(JobError, match=r"cannot share a clip evenly; use one of 1, 2, 3, 4, 6, 8"):
        launch.launch_if_several(gpus, "ovi_studio.engine", [])


def test_sharding_options_survive_the_engines_command_line(tmp_path: Path) -> None:
    for requested in (
        ShardingOptions(),
        ShardingOptions(Strategy.HYBRID_SHARD, 3),
        ShardingOptions(None, 0, offloaded=True),
    ):
        options = RuntimeOptions(gpus=4).with_sharding(requested, "auto")
        command = engine_command(StudioPaths.of(tmp_path, None), options)
        given = parsed(*command[command.index("ovi_studio.engine") + 1 :])
        assert given.gpus == 4
        assert given.sharding == requested
    with pytest.raises(JobError, match="0 or more"):
        parsed("--resident-blocks", "-1")


def test_a_named_strategy_is_used_as_it_is() -> None:
    variant = published_variants()["720x720_5s"]
    for strategy in Strategy:
        resolved = resolve_sharding(ShardingOptions(strategy), variant, ALONE)
        assert (resolved.strategy, resolved.resident_blocks, resolved.offloaded) == (strategy, 0, False)
        assert resolved.shards == (strategy is not Strategy.NO_SHARD)


class Neighbours(Ranks):
    """This process among ranks with equal free memory, except for one that has less."""

    def __init__(self, count: int, less: int = 0) -> None:
        self.count = count
        self._less = less

    def all_gather(self, value: Any) -> list[Any]:
        return [value] * (self.count - 1) + [value - self._less]


def test_sharding_follows_the_least_free_memory_of_all_ranks(cuda: Callable[..., Any]) -> None:
    variant = published_variants()["720x720_5s"]
    cards = cuda(24, 4).cards
    alike = resolve_sharding(ShardingOptions(), variant, Neighbours(4))
    assert (alike.strategy, alike.offloaded) == (Strategy.FULL_SHARD, False)
    crowded = resolve_sharding(ShardingOptions(), variant, Neighbours(4, less=4 * GIB))
    assert crowded.resident_blocks < alike.resident_blocks
    cards[0].taken = 4 * GIB
    assert resolve_sharding(ShardingOptions(), variant, Neighbours(4)) == crowded
    cards[0].taken = 18 * GIB
    with pytest.raises(JobError, match=r"720x720_5s does not fit 4 GPUs with 5\.4 GB free"):
        resolve_sharding(ShardingOptions(), variant, Neighbours(4))


def test_shards_are_pinned_if_all_of_them_fit_the_host_in_powers_of_two(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = torch.nn.Linear(1024, 2050, bias=False, dtype=torch.bfloat16, device="meta")
    # A quarter has 513 rows: 1.05 MB, a little over 1 MiB, for which torch takes 2 MiB.
    assert pinned_bytes(model.weight, 4) == 2 * 2**20
    needed, reserve = 4 * 2 * 2**20, int(4e9)
    for available, fits in ((needed + reserve, True), (needed + reserve - 1, False)):
        monkeypatch.setattr(sharding, "host_memory", lambda found=available: HostMemory(found, found))
        assert can_be_pinned([model], Sharding(Strategy.FULL_SHARD, offloaded=True), Neighbours(4)) is fits
        assert len(caplog.messages) == (not fits)
    assert "pageable" in caplog.text
    # Two halves with a whole model each.
    assert not can_be_pinned([model], Sharding(Strategy.HYBRID_SHARD, offloaded=True), Neighbours(4))


def test_too_little_host_memory_for_all_ranks_is_reported_before_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    inventory = take_inventory(published_variants()["960x960_5s"], Path("nowhere"))
    ranks = Neighbours(4)
    monkeypatch.setattr("ovi_studio.capacity.host.host_memory", lambda: HostMemory(64 * GIB, 48 * GIB))

    def check(strategy: Strategy, weights: Weights = Weights.BF16, *, offloaded: bool, home: str = "cuda") -> None:
        lying = Sharding(strategy, 0, offloaded)
        sharding._check_host_memory(inventory, weights, lying, ranks, torch.device(home), torch.device("cuda"))

    check(Strategy.FULL_SHARD, offloaded=True)  # one copy of 35 GB for all of them
    check(Strategy.HYBRID_SHARD, offloaded=False)
    check(Strategy.NO_SHARD, offloaded=False)
    with pytest.raises(JobError, match="960x960_5s needs 69 GB of host memory"):
        check(Strategy.HYBRID_SHARD, offloaded=True)
    check(Strategy.NO_SHARD, offloaded=False, home="cpu")
    with pytest.raises(JobError, match="960x960_5s needs 60 GB of host memory"):
        check(Strategy.NO_SHARD, Weights.INT8, offloaded=False, home="cpu")


@pytest.mark.parametrize(("device", "count"), [("nvidia0", 2), ("kfd", 2), ("dxg", 2), ("nvidiactl", 0)])
def test_torch_is_asked_for_gpus_wherever_their_driver_shows_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str, count: int
) -> None:
    """WSL has only `dxg`."""
    answer = subprocess.CompletedProcess([], 0, "2\n")
    monkeypatch.setattr(launch.subprocess, "run", lambda *_, **__: answer)
    (tmp_path / device).touch()
    monkeypatch.setattr(launch, "DEVICES", tmp_path)
    assert launch.gpu_count() == count


@pytest.mark.slow
def test_gpus_are_counted_in_a_process_of_its_own(
    cuda: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in cuda(24, 2).environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT / "cuda"))
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(launch, "DEVICES", tmp_path)
    assert launch.gpu_count() == 2


@pytest.mark.parametrize(("depth", "count"), [(30, 0), (30, 1), (30, 9), (30, 15), (30, 30), (3, 2)])
def test_resident_blocks_are_as_many_as_requested_and_evenly_spread(depth: int, count: int) -> None:
    stay = sorted(resident_depths(depth, count))
    assert len(stay) == count
    gaps = {after - before for before, after in itertools.pairwise(stay)}
    assert max(gaps, default=0) - min(gaps, default=0) <= 1


def test_more_gpus_than_available_are_refused(started: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "gpu_count", lambda: 2)
    with pytest.raises(JobError, match="There are 2 GPUs here, not 4"):
        launch.launch_if_several(4, "ovi_studio.engine", [])
    launch.launch_if_several(1, "ovi_studio.engine", [])
    assert started == []


# Attention to parts of the keys


def random(*size: int, seed: int) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("cuts", [[13], [6, 7], [1, 12, 0], [0, 0, 13, 0]])
@pytest.mark.parametrize("batch", [1, 2])
def test_parts_weighted_by_their_log_sums_equal_attention_to_all_keys(cuts: list[int], batch: int) -> None:
    query, key, value = (random(batch, length, 3, 16, seed=seed) for seed, length in enumerate((7, 13, 13)))
    parts: list[Any] = [
        attention_with_log_sum(query, k, v) for k, v in zip(key.split(cuts, 1), value.split(cuts, 1), strict=True)
    ]
    total = torch.stack([log_sum for _, log_sum in parts]).logsumexp(dim=0)
    merged = sum(result * (log_sum - total).exp().unsqueeze(-1) for result, log_sum in parts)
    scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(16)
    expected = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), value)
    torch.testing.assert_close(merged, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(total, scores.logsumexp(-1).transpose(1, 2), rtol=0, atol=1e-6)
