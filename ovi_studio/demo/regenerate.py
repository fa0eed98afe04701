"""Regenerate the latents of known scenes with the transformer, to train the video decoder on its actual input.

A scene's latents are noised about half way and denoised by the transformer. Colour, position and motion are decided
before that point and stay; outlines are the transformer's own, too round where it is unsure. A decoder trained on these
latents with the scene's pixels as target learns how to interpret them.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ovi_studio.demo.embedder import Embedder
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.sampling.denoise import Latents, Schedule, denoise, draw_noise
from ovi_studio.sampling.solvers import TRAIN_TIMESTEPS
from ovi_studio.training.flow import Unconditional

_SIGMAS = (0.4, 0.8)
"""Range of the noise level: below it the transformer changes nothing; above it, it moves the object elsewhere."""
_STEPS = (3, 8)
"""Range of the number of steps: few steps of a distilled transformer give softer outlines than many."""
_GUIDANCE = 2.0
"""Guidance scale of both towers; clips are made with slightly more."""


@dataclass(frozen=True)
class Regenerator:
    """Regenerates the video latents of scenes."""

    transformer: OviTransformer
    text: Embedder

    @functools.cached_property
    def _unconditional(self) -> Unconditional:
        return self.text.unconditional()

    @torch.no_grad()
    def __call__(self, sample: Mapping[str, Tensor], caption: str, random: np.random.Generator) -> Tensor:
        """Return new video latents (channels, frames, height, width) of an encoded scene of `training.cache`."""
        sigma, steps = random.uniform(*_SIGMAS), int(random.integers(_STEPS[0], _STEPS[1] + 1))
        video, audio = sample["video"], sample["audio"]
        noise = draw_noise(video.shape, audio.shape, int(random.integers(2**31)), video.device, torch.float32)
        start = Latents(torch.lerp(video, noise.video, sigma), torch.lerp(audio, noise.audio, sigma))
        timesteps = tuple((TRAIN_TIMESTEPS * np.linspace(sigma, 0, steps + 1)[:-1]).tolist())
        schedule = Schedule("euler", steps, 1.0, timesteps)
        (text,) = self.text([caption])
        guidance = self._unconditional.guidance(self.transformer, text, _GUIDANCE, _GUIDANCE)
        return denoise(self.transformer, start, guidance, schedule).video
