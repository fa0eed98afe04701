"""Distillation of guidance and steps into an adapter: a student with few steps of one pass follows its teacher.

The student is the same model with a LoRA. At each of its sigmas it learns the straight line to the teacher's next
point (progressive distillation, arXiv 2202.00512, with all halvings at once; guidance as in arXiv 2210.03142). Some
batches start from the student's own points, so that it learns to return to the teacher's trajectory. The adapter is
used with the solver `euler` at the same timesteps and with both guidance scales 1.
"""

import itertools
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional

from ovi_studio.models.transformer import OviTransformer
from ovi_studio.sampling.solvers import TRAIN_TIMESTEPS
from ovi_studio.training.cache import SampleOrder, generator_for
from ovi_studio.training.flow import Losses, Predict, VelocityModel
from ovi_studio.training.settings import TrainSettings
from ovi_studio.training.trainer import Export, OnProgress, run_training
from ovi_studio.training.trajectories import Trajectories, TrajectoryDataset

ON_POLICY_SHARE = 0.5
"""Fraction of the batches that start from the student's own points."""


def distil(
    transformer: OviTransformer,
    dataset: TrajectoryDataset,
    sigmas: Sequence[float],
    settings: TrainSettings,
    folder: Path,
    *,
    export: Export | None = None,
    on_progress: OnProgress | None = None,
) -> None:
    """Train the trainable parameters of the transformer (see `lora.add_lora`) on a teacher's trajectories.

    Args:
        sigmas: sigmas of the points, from 1 to 0.
        folder, export, on_progress: as in `trainer.train`.
    """
    order = SampleOrder(len(dataset), settings.seed)

    def compute_losses(accelerator: Accelerator, predict: nn.Module, index: int) -> Losses:
        number = index * accelerator.num_processes + accelerator.process_index
        generator = generator_for(settings.seed, "distil", number)
        chosen = order[number * settings.batch_size : (number + 1) * settings.batch_size]
        # All samples of a batch are at the same step, so that the student can reach it in one rollout.
        step = int(torch.randint(len(sigmas) - 1, (), generator=generator))
        on_policy = bool(torch.rand((), generator=generator) < ON_POLICY_SHARE)
        trajectories = _to(dataset.batch(chosen), accelerator.device)
        return step_loss(predict, trajectories, sigmas, step, on_policy=on_policy)

    run_training(transformer, compute_losses, settings, folder, export=export, on_progress=on_progress)


def step_loss(
    predict: Predict, trajectories: Trajectories, sigmas: Sequence[float], step: int, *, on_policy: bool
) -> Losses:
    """Return the losses of the velocity from the point at `step` to the teacher's next point.

    With `on_policy`, the start is the student's own point at that step instead of the teacher's.
    """
    video, audio = trajectories.video[:, step], trajectories.audio[:, step]
    if on_policy and step:
        video, audio = student_rollout(predict, trajectories, sigmas[: step + 1])
    span = sigmas[step] - sigmas[step + 1]
    velocity, audio_velocity = _velocity(predict, trajectories, video, audio, sigmas[step])
    return Losses(
        functional.mse_loss(velocity.float(), (video - trajectories.video[:, step + 1]) / span),
        functional.mse_loss(audio_velocity.float(), (audio - trajectories.audio[:, step + 1]) / span),
    )


@torch.no_grad()
def student_rollout(predict: Predict, trajectories: Trajectories, sigmas: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Return the latents that the student reaches from the trajectories' noise, with one Euler step per sigma."""
    video, audio = trajectories.video[:, 0], trajectories.audio[:, 0]
    for sigma, following in itertools.pairwise(sigmas):
        velocity, audio_velocity = _velocity(predict, trajectories, video, audio, sigma)
        video = video + (following - sigma) * velocity.float()
        audio = audio + (following - sigma) * audio_velocity.float()
    return video, audio


def distillation_error(
    transformer: OviTransformer, trajectories: Trajectories, sigmas: Sequence[float]
) -> tuple[float, float]:
    """Return the mean squared error of the student's clean latents against the teacher's, for video and audio."""
    predict = VelocityModel(transformer)
    device, dtype = next(transformer.parameters()).device, transformer.dtype
    trajectories = _to(trajectories, device)
    # Latents are float32, whatever the model computes in.
    with torch.autocast(device.type, dtype) if dtype == torch.bfloat16 else nullcontext():
        video, audio = student_rollout(predict, trajectories, sigmas)
    return (
        functional.mse_loss(video, trajectories.video[:, -1]).item(),
        functional.mse_loss(audio, trajectories.audio[:, -1]).item(),
    )


def _velocity(
    predict: Predict, trajectories: Trajectories, video: Tensor, audio: Tensor, sigma: float
) -> tuple[Tensor, Tensor]:
    timestep = torch.full((video.shape[0],), sigma * TRAIN_TIMESTEPS, device=video.device)
    return predict(video, audio, timestep, trajectories.text, trajectories.text, clean_first_frame=False)


def _to(trajectories: Trajectories, device: torch.device) -> Trajectories:
    return Trajectories(trajectories.video.to(device), trajectories.audio.to(device), trajectories.text.to(device))
