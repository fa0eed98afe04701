"""Training on two ranks: what one process trains, and what ends all of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import training_ranks
from rank_helpers import end_ranks, environment, run_ranks
from safetensors.torch import load_file
from training_helpers import COMMAND, build, own_clip, write_samples
from warm_start import PIPELINES

from ovi_studio.__main__ import main
from ovi_studio.training.report import read_log
from ovi_studio.training.trainer import CHECKPOINT, EMA

KINDS = ("whole", "lora", "bf16")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with each kind, by two ranks over gloo that end after two steps and go on in other processes ("ranks"),
    and by one process that takes both ranks' batches in turn ("one").
    """
    folder = tmp_path_factory.mktemp("trained")
    write_samples(folder / "cache")
    for steps in (2, 4):
        arguments = [folder / "held.json", folder / "cache", folder / "ranks", steps, *KINDS]
        held = run_ranks(2, "training_ranks", *map(str, arguments))
        assert len(held) == len(KINDS)
        assert all(leader > 0 == follower for leader, follower in held)
    settings = replace(training_ranks.SHARDED, accumulation=2)
    for kind in KINDS:
        training_ranks.run(folder / "cache", folder / "one" / kind, kind, settings)
    return folder


@pytest.mark.parametrize("kind", ["whole", "lora"])
def test_two_ranks_with_half_of_the_weights_each_train_the_same(trained: Path, kind: str) -> None:
    ranks, one = (load_file(trained / name / kind / EMA) for name in ("ranks", "one"))
    assert ranks.keys() == one.keys()
    assert all(torch.allclose(ranks[name], one[name], atol=1e-4) for name in one)
    start = build().state_dict() if kind == "whole" else {name: torch.zeros_like(one[name]) for name in one}
    assert any(not torch.allclose(one[name], start[name], atol=1e-3) for name in one)
    assert [entry["step"] for entry in read_log(trained / "ranks" / kind)] == [1, 2, 3, 4]


def test_two_ranks_train_an_adapter_of_a_bf16_model(trained: Path) -> None:
    """As on GPUs: frozen weights in bfloat16 and trained ones in float32 are gathered together."""
    losses = [[entry["video"] for entry in read_log(trained / name / "bf16")] for name in ("ranks", "one")]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    weights = load_file(trained / "ranks" / "bf16" / EMA)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert all(tensor.abs().max() > 0 for tensor in weights.values())


def test_the_command_on_two_ranks_makes_one_processs_adapter_and_only_the_leader_reads_the_model(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(3):
        own_clip(tmp_path / "clips", f"clip_{index}", index + 1)
    command = [*COMMAND, str(tmp_path / "clips"), "--ckpt-dir", str(tiny_bundle), "--steps", "3"]
    one, ranks, again = (tmp_path / f"{name}.safetensors" for name in ("one", "ranks", "again"))
    assert main([*command, "--out", str(one), "--work", str(tmp_path / "one"), "--accumulation", "2"]) == 0

    several = [*command, "--work", str(tmp_path / "ranks"), "--gpus", "2"]
    ended = PIPELINES.run("-m", "ovi_studio", *several, "--out", str(ranks), environment=environment(forking=True))
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout.count(f"Wrote {ranks}.") == ended.stdout.count("3 clips, 0 of them already encoded") == 1

    further = ["--out", str(again), "--from", str(one), "--learning-rate", "1e-9", "--work", str(tmp_path / "again")]
    assert main([*command, "--out", str(again), "--work", str(tmp_path / "again"), "--encode-only"]) == 0
    (held,) = run_ranks(2, "training_ranks", str(tmp_path / "held"), "command", *command, "--gpus", "2", *further)
    assert held[0] > 0 == held[1]

    wanted = load_file(one)
    for path in (ranks, again):
        assert load_file(path).keys() == wanted.keys()
        assert all(torch.allclose(tensor, wanted[name], atol=1e-5) for name, tensor in load_file(path).items())


def test_a_rank_out_of_memory_ends_all_ranks_with_its_message(tiny_bundle: Path, tmp_path: Path) -> None:
    """The other ranks wait for it in a collective operation, until whoever started them ends them."""
    own_clip(tmp_path / "clips", "clip", 1)
    options = [*COMMAND, str(tmp_path / "clips"), "--ckpt-dir", str(tiny_bundle), "--work", str(tmp_path / "work")]
    options += ["--out", str(tmp_path / "white.safetensors"), "--steps", "3", "--checkpoint-minutes", "0"]
    assert main([*options, "--encode-only"]) == 0
    program = (str(tmp_path / "held"), "out-of-memory", *options, "--gpus", "2")
    ended = end_ranks(2, "training_ranks", *program)
    assert ended.returncode != 0
    assert "error: Memory ran out while training; " in ended.stderr
    assert "OutOfMemoryError" not in ended.stdout + ended.stderr
    assert torch.load(tmp_path / "work" / "run" / CHECKPOINT, weights_only=True)["step"] == 1
