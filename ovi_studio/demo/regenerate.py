"""Latents as the transformer makes them, of scenes that are known: what the video decoder gets to see in the end.

A scene's latents are buried in noise half way and walked back by the transformer. Colour, place and motion were decided
before that point and stay; outlines are the transformer's own, too round where it is unsure. A decoder that sees them
beside the scene's pixels learns what is meant by them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ovi_studio.models.transformer import OviTransformer
from ovi_studio.sampling.denoise import Latents, Schedule, denoise, draw_noise
from ovi_studio.sampling.solvers import TRAIN_TIMESTEPS
from ovi_studio.training.flow import Unconditional

_SIGMAS = (0.4, 0.8)
"""Below, the transformer changes nothing; above, it moves the object to where the scene's pixels have none."""
_STEPS = (3, 8)
"""A distilled transformer with few steps makes softer outlines than one with many."""
_GUIDANCE = 2.0
"""Of both towers; clips are made with somewhat more."""


@dataclass(frozen=True)
class Regenerator:
    """Makes latents of scenes again."""

    transformer: OviTransformer
    unconditional: Unconditional

    @torch.no_grad()
    def __call__(self, sample: Mapping[str, Tensor], random: np.random.Generator) -> Tensor:
        """Video latents (channels, frames, height, width) of an encoded scene, as `training.cache` writes it."""
        sigma, steps = random.uniform(*_SIGMAS), int(random.integers(_STEPS[0], _STEPS[1] + 1))
        video, audio = sample["video"], sample["audio"]
        noise = draw_noise(video.shape, audio.shape, int(random.integers(2**31)), video.device, torch.float32)
        start = Latents(torch.lerp(video, noise.video, sigma), torch.lerp(audio, noise.audio, sigma))
        timesteps = tuple((TRAIN_TIMESTEPS * np.linspace(sigma, 0, steps + 1)[:-1]).tolist())
        schedule = Schedule("euler", steps, 1.0, timesteps)
        guidance = self.unconditional.guidance(self.transformer, sample["text.0"], _GUIDANCE, _GUIDANCE)
        return denoise(self.transformer, start, guidance, schedule).video
