"""What a clip keeps of a source, in latents: masks in time, and the arithmetic that puts the kept part back.

Flow matching goes along x = (1 - sigma) * clean + sigma * noise. Before each evaluation of the model the kept latents
are therefore replaced by that mixture at the step's sigma, with the clip's own noise, and after the last step by the
clean ones (compare RePaint, arXiv 2201.09865, for diffusion). What is made sees what is kept only through the model;
resampling, from the same paper, makes a step several times from fresh noise, so that both parts fit better.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ovi_studio.core.spec import made_steps
from ovi_studio.sampling.latents import Latents


@dataclass(frozen=True)
class KeptStream:
    """What is kept of one stream, video or audio."""

    clean: Tensor
    """Latents of the source, in the shape of the stream."""
    mask: Tensor
    """bool, broadcast to `clean`: True where they are kept."""

    @classmethod
    def of_video(cls, clean: Tensor, kept: Sequence[bool]) -> "KeptStream":
        """Keep some of the frames of (channels, frames, height, width)."""
        return cls(clean.float(), torch.tensor(kept, device=clean.device).view(1, -1, 1, 1))

    @classmethod
    def of_audio(cls, clean: Tensor, kept: Sequence[bool]) -> "KeptStream":
        """Keep some of the latents of (length, channels)."""
        return cls(clean.float(), torch.tensor(kept, device=clean.device).view(-1, 1))

    @property
    def whole(self) -> bool:
        """Whether all of it is kept."""
        return bool(self.mask.all())

    def noised(self, noise: Tensor, sigma: float) -> Tensor:
        """Return the source's latents at a noise level; exactly the clean ones at 0."""
        return self.clean if sigma == 0 else torch.lerp(self.clean, noise, sigma)

    def put_back(self, latents: Tensor, noise: Tensor, sigma: float) -> Tensor:
        """Return the latents with the kept part at a noise level, of any batch."""
        return torch.where(self.mask, self.noised(noise, sigma), latents)


@dataclass(frozen=True)
class Kept:
    """What a clip keeps of its source, and how the rest is made."""

    video: KeptStream | None = None
    audio: KeptStream | None = None
    strength: float = 1.0
    """Fraction of the steps that are made; below 1 both streams are given, and the rest starts from their latents."""
    resamples: int = 0
    """How often each step is made again before it counts."""

    @property
    def all_picture(self) -> bool:
        """Whether all latents of the picture are kept."""
        return self.video is not None and self.video.whole

    @property
    def all_sound(self) -> bool:
        """Whether all latents of the sound are kept."""
        return self.audio is not None and self.audio.whole

    def with_latents(self, given: Sequence[Tensor]) -> "Kept":
        """Return a copy with these latents of the source, of the streams that there are, in their order."""
        rest = iter(given)
        video, audio = (
            None if stream is None else replace(stream, clean=next(rest)) for stream in (self.video, self.audio)
        )
        return replace(self, video=video, audio=audio)

    def first_step(self, steps: int) -> int:
        """Return the index of the first of so many steps that is made; at least one is."""
        return steps - made_steps(steps, self.strength)

    def start(self, noise: Latents, sigma: float) -> Latents:
        """Return what the first step starts from: noise, or with a lower strength the source at its noise level."""
        if self.strength == 1:
            return noise
        return Latents(
            noise.video if self.video is None else self.video.noised(noise.video, sigma),
            noise.audio if self.audio is None else self.audio.noised(noise.audio, sigma),
        )

    def put_back(self, latents: Latents, noise: Latents, sigma: float) -> Latents:
        """Return the latents with the kept parts at a noise level."""
        return Latents(
            latents.video if self.video is None else self.video.put_back(latents.video, noise.video, sigma),
            latents.audio if self.audio is None else self.audio.put_back(latents.audio, noise.audio, sigma),
        )


def noised_again(velocity: Tensor, latents: Tensor, sigma: float, following: float, fresh: Tensor) -> Tensor:
    """Go one Euler step to the noise level `following` and back to `sigma` with fresh noise.

    The clean part and the noise of x keep their variances: x(sigma) = a * x(following) + b * fresh with
    a = (1 - sigma) / (1 - following) and b**2 = sigma**2 - (a * following)**2.
    """
    ahead = latents + (following - sigma) * velocity
    part = (1 - sigma) / (1 - following)
    return part * ahead + (max(0.0, sigma**2 - (part * following) ** 2)) ** 0.5 * fresh
