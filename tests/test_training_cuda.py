"""Training as on a GPU, without one: `torch.cuda` answers as a card would, and tensors there are on the host."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_cuda import computing_on_the_host
from safetensors.torch import load_file
from test_training_clips import COMMAND, own_clip

from ovi_studio.__main__ import main
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.training.average import MovingAverage

Cuda = Callable[..., Any]


@pytest.fixture
def gpu(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A card; autocast for it works on the host. A transformer that goes somewhere has other memory afterwards.

    Returns where it went.
    """
    cuda(24)
    places: list[str] = []
    plain_autocast, plain_to = torch.autocast, OviTransformer.to

    class Autocast(plain_autocast):  # type: ignore[misc, valid-type]
        def __init__(self, device_type: str, *options: Any, **named: Any) -> None:
            super().__init__("cpu" if device_type == "cuda" else device_type, *options, **named)

    def to(model: OviTransformer, *where: Any) -> OviTransformer:
        places.append(str(where[0]))
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
        return plain_to(model, *where)

    monkeypatch.setattr(torch, "autocast", Autocast)
    monkeypatch.setattr(OviTransformer, "to", to)
    return places


def test_sample_clips_on_a_gpu_leave_training_as_it_was(gpu: list[str], tiny_bundle: Path, tmp_path: Path) -> None:
    for index in range(2):
        own_clip(tmp_path / "clips", f"clip_{index}", index + 1)
    results = []
    for name, options in {"plain": [], "sampled": ["--sample-prompt", "a ball", "--sample-steps", "1"]}.items():
        out, work = tmp_path / f"{name}.safetensors", tmp_path / name
        command = [*COMMAND, str(tmp_path / "clips"), "--ckpt-dir", str(tiny_bundle), "--steps", "3", *options]
        command += ["--checkpoint-minutes", "0", "--out", str(out), "--work", str(work)]
        with computing_on_the_host():
            assert main(command) == 0
        results.append(load_file(out))
    clips = (tmp_path / "sampled" / "samples").glob("*.mp4")
    assert {clip.stem[:11] for clip in clips} == {f"step_00000{step}" for step in (1, 2, 3)}
    assert gpu[:2] == ["cpu", "cuda:0"]
    assert gpu == gpu[:2] * (len(gpu) // 2)
    plain, sampled = results
    assert any(tensor.abs().max() > 0 for name, tensor in plain.items() if ".lora_B." in name)
    assert all(torch.equal(tensor, plain[name]) for name, tensor in sampled.items())


@pytest.mark.usefixtures("gpu")
def test_all_weights_are_trained_on_a_gpu(tiny_bundle: Path, tmp_path: Path) -> None:
    own_clip(tmp_path / "clips", "clip", 1)
    out = tmp_path / "whole.safetensors"
    command = ["train", str(tmp_path / "clips"), "--variant", "tiny", "--ckpt-dir", str(tiny_bundle), "--steps", "2"]
    with computing_on_the_host():
        assert main([*command, "--out", str(out), "--work", str(tmp_path / "work"), "--gradient-checkpointing"]) == 0
    assert {tensor.dtype for tensor in load_file(out).values()} == {torch.float32}


@pytest.mark.usefixtures("gpu")
def test_a_lightning_adapter_is_distilled_on_a_gpu(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a red ball")
    command = ["distil", "--variant", "tiny", "--ckpt-dir", str(tiny_bundle), "--trajectories", "5", "--steps", "1"]
    command += ["--prompts", str(tmp_path / "prompts.txt"), "--timesteps", "1000,600", "--teacher-steps", "2"]
    command += ["--out", str(tmp_path / "fast.safetensors"), "--work", str(tmp_path / "work"), "--batch-size", "2"]
    with computing_on_the_host():
        assert main(command) == 0
    assert json.loads((tmp_path / "work" / "gap.json").read_text())["after"][0] > 0


def test_the_average_follows_a_parameter_to_other_memory() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    average = MovingAverage({"weight": parameter}, 0.0)
    parameter.data = torch.ones(2)
    average.update(1)
    assert torch.equal(average.tensors["weight"], torch.ones(2))
