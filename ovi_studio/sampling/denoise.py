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
from ovi_studio.sampling.kept import Kept, noised_again
from ovi_studio.sampling.latents import Latents as Latents
from ovi_studio.sampling.solvers import (
    Noise,
    Scheduler,
    advance,
    begin_at,
    build_scheduler,
    noise_levels,
    timesteps,
)


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
    kept: Kept | None = None,
    on_step: OnStep | None = None,
    before_step: BeforeStep | None = None,
    layout: PassLayout = SINGLE_PROCESS,
) -> Latents:
    """Denoise from noise, or what `kept` starts from, to latents.

    The latents stay in float32 between the steps, whatever the model computes in: fifty roundings to bfloat16 would
    add up.

    Args:
        first_frame: latents (channels, 1, height, width) that replace frame 0 before every step and at the end.
        kept: latents that are put back at each step's noise level before the model sees them, and clean at the end.
        layout: how the passes are distributed over the ranks.
    """
    kept = kept or Kept()
    solvers = [_build(schedule, stream, noise.video.device) for stream in ("video", "audio")]
    levels = noise_levels(solvers[0])
    first = kept.first_step(schedule.steps)
    for solver in solvers:
        begin_at(solver, first)
    latents = kept.start(noise, levels[first])
    resampling = _Resampling(schedule.seed, noise.video.device)
    cache = GuidanceCache(schedule.cache, schedule.steps)
    for index, timestep in enumerate(timesteps(solvers[0])[first:], start=first):
        changed = None if before_step is None else before_step(index)
        guidance = changed or guidance
        cache.begin(index, changed=changed is not None)
        video_passes = 0
        for left in range(kept.resamples, -1, -1):
            video_passes += 2 if guidance.negative and cache.difference is None else 1
            latents = _with_first_frame(kept.put_back(latents, noise, levels[index]), first_frame)
            video, audio = guided_velocity(
                model,
                latents.video.unsqueeze(0).to(model.dtype),
                latents.audio.unsqueeze(0).to(model.dtype),
                torch.full((1,), timestep, device=noise.video.device, dtype=torch.float32),
                guidance,
                clean_first_frame=first_frame is not None,
                layout=layout,
                cache=cache,
            )
            velocity = Latents(video[0].float(), audio[0].float())
            if left:
                latents = resampling.noised_again(velocity, latents, levels[index], levels[index + 1])
        latents = Latents(
            advance(solvers[0], velocity.video, latents.video), advance(solvers[1], velocity.audio, latents.audio)
        )
        if on_step is not None:
            on_step(Step(index + 1 - first, schedule.steps - first, latents, video_passes))
    return _with_first_frame(kept.put_back(latents, noise, 0.0), first_frame)


class _Resampling:
    """Makes a step again, with noise of its own for each stream."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._draw = [_noise_source(f"{stream} resampled", seed, device) for stream in ("video", "audio")]

    def noised_again(self, velocity: Latents, latents: Latents, sigma: float, following: float) -> Latents:
        """Return the latents from which the step at this sigma is made again."""
        pairs = zip((velocity.video, velocity.audio), (latents.video, latents.audio), self._draw, strict=True)
        return Latents(*(noised_again(v, x, sigma, following, draw(x)) for v, x, draw in pairs))


def _build(schedule: Schedule, stream: str, device: torch.device) -> Scheduler:
    noise = _noise_source(stream, schedule.seed, device)
    return build_scheduler(schedule.solver, schedule.steps, schedule.shift, schedule.timesteps, noise)


def _noise_source(purpose: str, seed: int, device: torch.device) -> Noise:
    """Return a source of noise that draws neither the clip's initial noise again nor that of the next seed."""
    digest = hashlib.sha256(f"{purpose} {seed}".encode()).digest()
    # The meta device, on which tests trace a step, has no random numbers.
    generator = None if device.type == "meta" else torch.Generator(device).manual_seed(int.from_bytes(digest[:8]) >> 1)

    def noise(latents: Tensor) -> Tensor:
        return torch.randn(latents.shape, generator=generator, device=device, dtype=latents.dtype)

    return noise


def _with_first_frame(latents: Latents, first_frame: Tensor | None) -> Latents:
    if first_frame is None:
        return latents
    return Latents(torch.cat([first_frame.to(latents.video), latents.video[:, 1:]], dim=1), latents.audio)
