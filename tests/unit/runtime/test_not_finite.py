"""NaN and infinite values end the job with a message, as early as possible, and nothing is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ovi_studio.checkpoints.layout import require
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.runtime.clip_runner import ClipRunner, OviModels
from ovi_studio.runtime.compute import Compute
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.pipeline import Pipeline

SPEC = ClipSpec(prompt="a red ball bounces", variant="tiny", steps=4, seed=7)
CPU = torch.device("cpu")
INVALID = pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])

Spoil = Callable[[nn.Module], None]


@pytest.fixture
def pipeline(tiny_bundle: Path) -> Pipeline:
    return Pipeline.load(require("tiny", tiny_bundle), Compute(CPU, torch.float32))


def spoil(module: nn.Module, value: float, after: int = 0) -> list[int]:
    """Replace one value of a module's result, from its call number `after` on; returns the list of calls."""
    calls: list[int] = []

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        calls.append(len(calls))
        if len(calls) > after:
            output = output.clone()
            output.view(-1)[3] = value
        return output

    module.register_forward_hook(hook)
    return calls


@INVALID
def test_latents_that_are_not_finite_end_the_clip_in_the_same_step(pipeline: Pipeline, value: float) -> None:
    calls = spoil(pipeline.models.transformer.video_model.head, value, after=3)  # two passes a step
    steps = []
    with pytest.raises(JobError, match="values of the latents after step 2 of 4 are NaN or infinite; try lower guid"):
        pipeline(SPEC, lambda step: steps.append(step.index))
    assert steps == [1]
    assert len(calls) == 4


def test_latents_of_the_sound_count_as_well(pipeline: Pipeline) -> None:
    spoil(pipeline.models.transformer.audio_model.head, float("nan"))
    with pytest.raises(JobError, match="the latents after step 1 of 4"):
        pipeline(SPEC)


@INVALID
def test_samples_that_are_not_finite_are_refused(pipeline: Pipeline, value: float) -> None:
    spoil(pipeline.models.vocoder, value)
    with pytest.raises(JobError, match="values of the sound are NaN or infinite"):
        pipeline(SPEC)


@INVALID
def test_frames_that_are_not_finite_are_refused(pipeline: Pipeline, value: float) -> None:
    pipeline.models.video_vae.decoder.conv_out.bias[1] = value
    with pytest.raises(JobError, match="values of the picture are NaN or infinite"):
        pipeline(SPEC)


def test_the_message_names_possible_causes(tiny_bundle: Path) -> None:
    pipeline = Pipeline.load(require("tiny", tiny_bundle), Compute(CPU, torch.float32, RuntimeOptions(weights="int8")))
    spoil(pipeline.models.transformer.video_model.head, float("nan"))
    with pytest.raises(JobError, match=r"try weights in bf16 instead of int8\.$"):
        pipeline(SPEC)


@pytest.mark.slow
def test_nothing_is_written(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoiled = Pipeline.load(require("tiny", tiny_bundle), Compute(CPU, torch.float32))
    spoil(spoiled.models.vocoder, float("nan"))
    monkeypatch.setattr(OviModels, "load", lambda *_: spoiled)
    with pytest.raises(JobError, match="the sound"):
        ClipRunner(RuntimeOptions(checkpoint_directory=tiny_bundle)).make(SPEC, tmp_path)
    assert list(tmp_path.iterdir()) == []
