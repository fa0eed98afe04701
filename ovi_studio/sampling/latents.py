"""`Latents`: what is denoised, of both streams."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Latents:
    """Latents of both streams, float32."""

    video: Tensor
    """(channels, frames, height, width)"""
    audio: Tensor
    """(length, channels)"""
