"""Distillation of guidance and steps into an adapter: a student with few steps and one pass follows its teacher.

The student is the same model with a LoRA. At each of its sigmas it learns the straight line to the teacher's next
point (progressive distillation, arXiv 2202.00512, with all halvings at once; guidance as in arXiv 2210.03142). For
a part of the batches it starts from where it came to itself, so that it learns to find back to the teacher's way. It
is used with the solver `euler` at the same timesteps and with both guidance scales 1.
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
from ovi_studio.training.cache import Order, generator_for
from ovi_studio.training.flow import Losses, Predict, VelocityModel
from ovi_studio.training.settings import TrainSettings
from ovi_studio.training.trainer import Export, OnProgress, run_training
from ovi_studio.training.trajectories import Trajectories, TrajectoryDataset

OWN_WAY = 0.5
"""Part of the batches that start from the student's own points."""


def distil(
    transformer: OviTransformer,
    ways: TrajectoryDataset,
    sigmas: Sequence[float],
    settings: TrainSettings,
    folder: Path,
    *,
    export: Export | None = None,
    on_progress: OnProgress | None = None,
) -> None:
    """Train what in the transformer requires a gradient (an adapter, see `lora.add_lora`) on a teacher's ways.

    Args:
        sigmas: of the points, from 1 to 0.
        folder, export, on_progress: as in `trainer.train`.
    """
    order = Order(len(ways), settings.seed)

    def loss_of(accelerator: Accelerator, predict: nn.Module, index: int) -> Losses:
        place = index * accelerator.num_processes + accelerator.process_index
        generator = generator_for(settings.seed, "distil", place)
        chosen = order[place * settings.batch_size : (place + 1) * settings.batch_size]
        # All samples of a batch are at the same step: the student can then walk there together.
        step = int(torch.randint(len(sigmas) - 1, (), generator=generator))
        own = bool(torch.rand((), generator=generator) < OWN_WAY)
        return step_loss(predict, _to(ways.batch(chosen), accelerator.device), sigmas, step, on_policy=own)

    run_training(transformer, loss_of, settings, folder, export=export, on_progress=on_progress)


def step_loss(predict: Predict, ways: Trajectories, sigmas: Sequence[float], step: int, *, on_policy: bool) -> Losses:
    """Losses of the velocity that leads from the point at `step` to the teacher's next one."""
    video, audio = ways.video[:, step], ways.audio[:, step]
    if on_policy and step:
        video, audio = student_walk(predict, ways, sigmas[: step + 1])
    span = sigmas[step] - sigmas[step + 1]
    velocity, audio_velocity = _velocity(predict, ways, video, audio, sigmas[step])
    return Losses(
        functional.mse_loss(velocity.float(), (video - ways.video[:, step + 1]) / span),
        functional.mse_loss(audio_velocity.float(), (audio - ways.audio[:, step + 1]) / span),
    )


@torch.no_grad()
def student_walk(predict: Predict, ways: Trajectories, sigmas: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Where the student itself comes to from the ways' noise, along these sigmas: one pass each, Euler."""
    video, audio = ways.video[:, 0], ways.audio[:, 0]
    for sigma, following in itertools.pairwise(sigmas):
        velocity, audio_velocity = _velocity(predict, ways, video, audio, sigma)
        video = video + (following - sigma) * velocity.float()
        audio = audio + (following - sigma) * audio_velocity.float()
    return video, audio


def distillation_error(transformer: OviTransformer, ways: Trajectories, sigmas: Sequence[float]) -> tuple[float, float]:
    """Mean squared distance of the student's clean latents from the teacher's, for video and audio."""
    predict = VelocityModel(transformer)
    device, dtype = next(transformer.parameters()).device, transformer.dtype
    ways = _to(ways, device)
    # Latents are float32, whatever the model computes in.
    with torch.autocast(device.type, dtype) if dtype == torch.bfloat16 else nullcontext():
        video, audio = student_walk(predict, ways, sigmas)
    return (
        functional.mse_loss(video, ways.video[:, -1]).item(),
        functional.mse_loss(audio, ways.audio[:, -1]).item(),
    )


def _velocity(
    predict: Predict, ways: Trajectories, video: Tensor, audio: Tensor, sigma: float
) -> tuple[Tensor, Tensor]:
    timestep = torch.full((video.shape[0],), sigma * TRAIN_TIMESTEPS, device=video.device)
    return predict(video, audio, timestep, ways.text, ways.text, clean_first_frame=False)


def _to(ways: Trajectories, device: torch.device) -> Trajectories:
    return Trajectories(ways.video.to(device), ways.audio.to(device), ways.text.to(device))
