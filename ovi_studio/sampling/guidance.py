"""Classifier-free guidance with one scale per tower, and skip-layer guidance in the negative pass."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ovi_studio.distributed.pass_layout import SINGLE_PROCESS, PassLayout
from ovi_studio.models.transformer import OviTransformer, Pass, TextContext


@dataclass(frozen=True)
class Guidance:
    """Text contexts and scales that guide the model.

    `negative` is None if both scales are 1: the negative pass would change nothing and is not computed.
    """

    positive: TextContext
    negative: TextContext | None
    video_scale: float
    audio_scale: float
    skip_block: int | None
    """Block to skip in the negative pass; None: no block."""


def guided_velocity(
    model: OviTransformer,
    video: Tensor,
    audio: Tensor,
    timestep: Tensor,
    guidance: Guidance,
    *,
    clean_first_frame: bool,
    layout: PassLayout = SINGLE_PROCESS,
) -> tuple[Tensor, Tensor]:
    """Return velocities of video (batch, channels, frames, height, width) and audio (batch, length, channels).

    All ranks pass the same latents, and get the same velocities.
    """
    passes = [Pass(guidance.positive)]
    if guidance.negative is not None:
        passes.append(Pass(guidance.negative, guidance.skip_block))
    own = model.velocities(
        video,
        audio,
        timestep,
        layout.own_passes(passes),
        clean_first_frame=clean_first_frame,
        token_layout=layout.token_layout,
    )
    cond, *uncond = layout.exchange_velocities(own, len(passes))
    if not uncond:
        return cond
    scales = guidance.video_scale, guidance.audio_scale
    video, audio = (
        torch.lerp(negative.float(), positive.float(), scale)
        for negative, positive, scale in zip(uncond[0], cond, scales, strict=True)
    )
    return video, audio
