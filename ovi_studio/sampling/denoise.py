"""The denoising loop: noise and conditions in, latents out, one callback a step."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ovi_studio.models.transformer import OviTransformer
from ovi_studio.sampling.guidance import Guidance, guided_velocity
from ovi_studio.sampling.solvers import advance, build_scheduler, timesteps
from ovi_studio.spec import Solver


@dataclass(frozen=True)
class Latents:
    """Both streams, float32."""

    video: Tensor
    """(channels, frames, height, width)"""
    audio: Tensor
    """(length, channels)"""


@dataclass(frozen=True)
class Step:
    """A step that was just done."""

    index: int
    """From 1 to `total`."""
    total: int
    latents: Latents


OnStep = Callable[[Step], None]
"""Called after every step; an exception that it raises ends the run and reaches the caller unchanged."""


@dataclass(frozen=True)
class Schedule:
    """How the way from noise to latents is walked."""

    solver: Solver
    steps: int
    shift: float


def draw_noise(
    video_shape: tuple[int, ...], audio_shape: tuple[int, ...], seed: int, device: torch.device, dtype: torch.dtype
) -> Latents:
    """The official convention: a generator for each stream, both with the clip's seed, on the device, in its dtype."""

    def draw(shape: tuple[int, ...]) -> Tensor:
        generator = torch.Generator(device).manual_seed(seed)
        return torch.randn(shape, generator=generator, device=device, dtype=dtype).float()

    return Latents(draw(video_shape), draw(audio_shape))


def denoise(
    model: OviTransformer,
    noise: Latents,
    guidance: Guidance,
    schedule: Schedule,
    *,
    first_frame: Tensor | None = None,
    on_step: OnStep | None = None,
) -> Latents:
    """Walk from noise to latents.

    The latents stay in float32 between the steps, whatever the model computes in: fifty roundings to bfloat16 would
    add up.

    Args:
        first_frame: its latents (channels, 1, height, width); they stand in frame 0 before every step and at the end.
    """
    video_solver, audio_solver = (build_scheduler(schedule.solver, schedule.steps, schedule.shift) for _ in range(2))
    video, audio = noise.video.unsqueeze(0), noise.audio.unsqueeze(0)
    for index, timestep in enumerate(timesteps(video_solver), start=1):
        video = _with_first_frame(video, first_frame)
        velocity, audio_velocity = guided_velocity(
            model,
            video.to(model.dtype),
            audio.to(model.dtype),
            torch.full((1,), timestep, device=video.device, dtype=torch.float32),
            guidance,
            clean_first_frame=first_frame is not None,
        )
        video = advance(video_solver, velocity.float(), video)
        audio = advance(audio_solver, audio_velocity.float(), audio)
        if on_step is not None:
            on_step(Step(index, schedule.steps, Latents(video[0], audio[0])))
    return Latents(_with_first_frame(video, first_frame)[0], audio[0])


def _with_first_frame(video: Tensor, first_frame: Tensor | None) -> Tensor:
    if first_frame is None:
        return video
    return torch.cat([first_frame.unsqueeze(0).to(video), video[:, :, 1:]], dim=2)
