"""Classifier-free guidance with one scale a tower and skip-layer guidance in the negative pass."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ovi_studio.models.transformer import OviTransformer, TextContext


@dataclass(frozen=True)
class Guidance:
    """What the model is steered by.

    `negative` is None when both scales are 1: the negative pass would then change nothing and is not computed.
    """

    positive: TextContext
    negative: TextContext | None
    video_scale: float
    audio_scale: float
    skip_block: int | None
    """Left out in the negative pass; None: no block."""


def guided_velocity(
    model: OviTransformer,
    video: Tensor,
    audio: Tensor,
    timestep: Tensor,
    guidance: Guidance,
    *,
    clean_first_frame: bool,
) -> tuple[Tensor, Tensor]:
    """Velocities of video (batch, channels, frames, height, width) and audio (batch, length, channels)."""
    towards = model(video, audio, timestep, guidance.positive, clean_first_frame=clean_first_frame)
    if guidance.negative is None:
        return towards
    away = model(
        video,
        audio,
        timestep,
        guidance.negative,
        clean_first_frame=clean_first_frame,
        skip_block=guidance.skip_block,
    )
    return (
        torch.lerp(away[0].float(), towards[0].float(), guidance.video_scale),
        torch.lerp(away[1].float(), towards[1].float(), guidance.audio_scale),
    )
