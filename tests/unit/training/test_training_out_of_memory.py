"""Training that runs out of memory or whose loss becomes NaN: one sentence, and the last checkpoint is kept."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_helpers import COMMAND, SETTINGS, build, own_clip, unconditional

from ovi_studio.__main__ import main
from ovi_studio.core.errors import JobError
from ovi_studio.training import distil, trainer
from ovi_studio.training.cache import LatentDataset
from ovi_studio.training.trainer import CHECKPOINT, train

pytestmark = pytest.mark.slow


def fail_after(function: Callable[..., Any], after: int) -> Callable[..., Any]:
    """Return the function, for which memory runs out after this many calls."""
    calls = iter(range(after))

    def call(*given: Any, **named: Any) -> Any:
        if next(calls, None) is None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return function(*given, **named)

    return call


def checkpoint_step(folder: Path) -> int:
    return torch.load(folder / CHECKPOINT, weights_only=True)["step"]


def test_a_run_out_of_memory_says_what_to_change_and_resumes_from_its_checkpoint(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own_clip(tmp_path / "clips", "clip", 1)
    command = [*COMMAND, str(tmp_path / "clips"), "--ckpt-dir", str(tiny_bundle), "--work", str(tmp_path / "work")]
    command += ["--out", str(tmp_path / "white.safetensors"), "--steps", "3", "--checkpoint-minutes", "0"]
    plain = trainer.flow_loss
    with monkeypatch.context() as patches:
        patches.setattr(trainer, "flow_loss", fail_after(plain, 0))
        assert main(command) == 1
        assert "--gradient-checkpointing or --batch-size 1, and start again." in capsys.readouterr().err
        patches.setattr(trainer, "flow_loss", fail_after(plain, 2))
        assert main(command) == 1
    said = capsys.readouterr().err
    assert "Memory ran out while training" in said
    assert said.strip().endswith("and continue from the last checkpoint with --resume.")
    assert checkpoint_step(tmp_path / "work" / "run") == 2
    assert main([*command, "--resume", "--gradient-checkpointing", "--batch-size", "1"]) == 0
    assert checkpoint_step(tmp_path / "work" / "run") == 3


def test_a_distillation_out_of_memory_resumes_when_started_again(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prompts.txt").write_text("a red ball")
    command = ["distil", "--variant", "tiny", "--ckpt-dir", str(tiny_bundle), "--trajectories", "5", "--steps", "1"]
    command += ["--prompts", str(tmp_path / "prompts.txt"), "--timesteps", "1000,600", "--teacher-steps", "2"]
    command += ["--out", str(tmp_path / "fast.safetensors"), "--work", str(tmp_path / "work"), "--batch-size", "4"]
    with monkeypatch.context() as patches:
        patches.setattr(distil, "step_loss", fail_after(distil.step_loss, 0))
        assert main(command) == 1
    assert "use less with --batch-size 2, and run the command again" in capsys.readouterr().err
    assert main(command) == 0


def test_another_error_is_not_reported_as_out_of_memory(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("a defect")

    own_clip(tmp_path / "clips", "clip", 1)
    command = [*COMMAND, str(tmp_path / "clips"), "--ckpt-dir", str(tiny_bundle), "--work", str(tmp_path / "work")]
    monkeypatch.setattr(trainer, "flow_loss", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        main([*command, "--out", str(tmp_path / "white.safetensors"), "--steps", "1"])


def test_a_loss_that_becomes_nan_ends_a_run_before_it_is_saved(
    dataset: LatentDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if a checkpoint is due before the next progress line."""
    plain, calls = trainer.flow_loss, iter(range(100))

    def becoming_nan(*given: Any) -> Any:
        losses = plain(*given)
        return replace(losses, video=losses.video * (math.nan if next(calls) >= 2 else 1))

    monkeypatch.setattr(trainer, "flow_loss", becoming_nan)
    settings = replace(SETTINGS, steps=6, checkpoint_minutes=0, log_seconds=3600)
    with pytest.raises(JobError, match=r"NaN or infinite at step 3; .* continue from the last checkpoint"):
        train(build(), dataset, unconditional(), settings, tmp_path / "run", on_progress=lambda _: None)
    assert checkpoint_step(tmp_path / "run") == 2
