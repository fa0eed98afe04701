"""The denoising loop: noise and conditions in, latents out, one callback per step."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ovi_studio.core.step_caches import OFF, STEP_CACHES, StepCache
from ovi_studio.distributed.pass_layout import SINGLE_PROCESS, PassLayout
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.sampling.guidance import Guidance, GuidanceCache, guided_velocity
from ovi_studio.sampling.solvers import Scheduler, advance, build_scheduler, timesteps


@dataclass(frozen=True)
class Latents:
    """Latents of both streams, float32."""

    video: Tensor
    """(channels, frames, height, width)"""
    audio: Tensor
    """(length, channels)"""


@dataclass(frozen=True)
class Step:
    """A step that has just been completed."""

    index: int
    """From 1 to `total`."""
    total: int
    latents: Latents
    video_passes: int
    """Passes whose video was computed: 2, or 1 without guidance or with what guidance added before."""


OnStep = Callable[[Step], None]
"""Called after every step; an exception that it raises ends the run and propagates unchanged."""

BeforeStep = Callable[[int], Guidance | None]
"""Called before every step with its index from 0; guidance that it returns replaces the current one."""


@dataclass(frozen=True)
class Schedule:
    """The solver and the steps from noise to latents."""

    solver: str
    """A name from `core.solvers`."""
    steps: int
    shift: float
    timesteps: tuple[float, ...] | None = None
    """Explicit timesteps, one per step; the shift is then ignored."""
    seed: int = 0
    """Seed of the noise that the restart solver adds."""
    cache: StepCache = STEP_CACHES[OFF]
    """What steps with guidance leave out."""


def draw_noise(
    video_shape: tuple[int, ...], audio_shape: tuple[int, ...], seed: int, device: torch.device, dtype: torch.dtype
) -> Latents:
    """Draw noise as the official code does: a generator for each stream, both with the clip's seed, on the device."""

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
    before_step: BeforeStep | None = None,
    layout: PassLayout = SINGLE_PROCESS,
) -> Latents:
    """Denoise from noise to latents.

    The latents stay in float32 between the steps, whatever the model computes in: fifty roundings to bfloat16 would
    add up.

    Args:
        first_frame: latents (channels, 1, height, width) that replace frame 0 before every step and at the end.
        layout: how the passes are distributed over the ranks.
    """
    video_solver, audio_solver = (_build(schedule, stream, noise.video.device) for stream in ("video", "audio"))
    video, audio = noise.video.unsqueeze(0), noise.audio.unsqueeze(0)
    cache = GuidanceCache(schedule.cache, schedule.steps)
    for index, timestep in enumerate(timesteps(video_solver), start=1):
        changed = None if before_step is None else before_step(index - 1)
        guidance = changed or guidance
        cache.begin(index - 1, changed=changed is not None)
        video_passes = 2 if guidance.negative and cache.difference is None else 1
        video = _with_first_frame(video, first_frame)
        velocity, audio_velocity = guided_velocity(
            model,
            video.to(model.dtype),
            audio.to(model.dtype),
            torch.full((1,), timestep, device=video.device, dtype=torch.float32),
            guidance,
            clean_first_frame=first_frame is not None,
            layout=layout,
            cache=cache,
        )
        video = advance(video_solver, velocity.float(), video)
        audio = advance(audio_solver, audio_velocity.float(), audio)
        if on_step is not None:
            on_step(Step(index, schedule.steps, Latents(video[0], audio[0]), video_passes))
    return Latents(_with_first_frame(video, first_frame)[0], audio[0])


def _build(schedule: Schedule, stream: str, device: torch.device) -> Scheduler:
    # Neither stream may draw its initial noise again, nor the noise of a clip with the next seed.
    digest = hashlib.sha256(f"{stream} {schedule.seed}".encode()).digest()
    # The meta device, on which tests trace a step, has no random numbers.
    generator = None if device.type == "meta" else torch.Generator(device).manual_seed(int.from_bytes(digest[:8]) >> 1)

    def noise(latents: Tensor) -> Tensor:
        return torch.randn(latents.shape, generator=generator, device=device, dtype=latents.dtype)

    return build_scheduler(schedule.solver, schedule.steps, schedule.shift, schedule.timesteps, noise)


def _with_first_frame(video: Tensor, first_frame: Tensor | None) -> Tensor:
    if first_frame is None:
        return video
    return torch.cat([first_frame.unsqueeze(0).to(video), video[:, :, 1:]], dim=2)
