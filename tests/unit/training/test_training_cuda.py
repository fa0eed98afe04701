"""Training on a simulated GPU: `torch.cuda` answers as a card would, and its tensors are on the host."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from fake_cuda import computing_on_the_host
from safetensors.torch import load_file
from tiny_model import CHANNELS, DIMENSIONS, TOWER
from training_helpers import COMMAND, own_clip

from ovi_studio.__main__ import main
from ovi_studio.core.variants import EMBEDDED_BUNDLE
from ovi_studio.demo import evaluate
from ovi_studio.demo.fit import _Run
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.training.average import MovingAverage
from ovi_studio.training.distil import distil, distillation_error
from ovi_studio.training.flow import TrainingBatch, Unconditional, VelocityModel, flow_loss
from ovi_studio.training.settings import FlowSettings, TrainSettings
from ovi_studio.training.trajectories import Trajectories

pytestmark = pytest.mark.slow

Cuda = Callable[..., Any]


@pytest.fixture
def gpu(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Simulate a card, with autocast on the host; moving a transformer gives its parameters new memory.

    Yields the devices that a transformer is moved to.
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
    # Accelerate keeps the device that it found for the lifetime of the process.
    AcceleratorState._reset_state(reset_partial_state=True)
    yield places
    AcceleratorState._reset_state(reset_partial_state=True)


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


# The meta device stands for a GPU: like one, it refuses tensors of another device.

META = torch.device("meta")
SHAPES = ((CHANNELS, 3, 4, 4), (12, 20))


def model_there() -> OviTransformer:
    with META:
        return OviTransformer(**DIMENSIONS["fusion"])


def trajectories(points: int) -> Trajectories:
    video, audio = (torch.zeros(2, points, *shape) for shape in SHAPES)
    return Trajectories(video, audio, torch.zeros(2, 5, TOWER["text_dim"]))


@pytest.mark.parametrize("first_frame", [0.0, 1.0])
def test_the_flow_loss_moves_its_data_to_the_models_device(first_frame: float) -> None:
    video, audio = (torch.zeros(2, *shape) for shape in SHAPES)
    batch = TrainingBatch(video, audio, torch.zeros(2, 5, TOWER["text_dim"]))
    unconditional = Unconditional(torch.zeros(3, TOWER["text_dim"]), torch.zeros(2, TOWER["text_dim"]))
    settings = FlowSettings(first_frame=first_frame, caption_dropout=0.5)
    losses = flow_loss(VelocityModel(model_there()), batch, unconditional, settings, torch.Generator(), META)
    assert losses.total.device == META


def test_distillation_moves_its_trajectories_to_the_models_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the loss, and in the error against the teacher."""
    asked = {}
    monkeypatch.setattr(
        "ovi_studio.training.distil.run_training",
        lambda _, compute_losses, *rest, **named: asked.update(loss=compute_losses),
    )
    dataset = type("Dataset", (), {"batch": lambda _, chosen: trajectories(3), "__len__": lambda _: 4})()
    settings = TrainSettings(steps=1, batch_size=2)
    distil(model_there(), dataset, (1.0, 0.5, 0.0), settings, Path("run"))
    accelerator = SimpleNamespace(num_processes=1, process_index=0, device=META)
    predict = VelocityModel(model_there())
    assert {asked["loss"](accelerator, predict, index).total.device for index in range(8)} == {META}

    monkeypatch.setattr(torch.Tensor, "item", lambda tensor: tensor.device)
    assert distillation_error(model_there(), trajectories(3), (1.0, 0.5, 0.0)) == (META, META)


def test_a_stage_of_the_embedded_model_resumes_on_the_models_current_device(tmp_path: Path) -> None:
    _Run(torch.nn.Linear(2, 2), [], tmp_path).save()
    with META:
        run = _Run(torch.nn.Linear(2, 2), [], tmp_path)
    run.resume()
    run.average(0.9)
    assert {tensor.device for tensor in run.averaged.values()} == {META}


def test_the_codec_check_has_the_codecs_on_the_gpu(cuda: Cuda) -> None:
    """It uses the models directly, so none of them may be in host memory."""
    cuda(8)
    with computing_on_the_host():
        assert evaluate.load(EMBEDDED_BUNDLE).plan.tier.offloaded is False
