"""Classifier-free guidance with one scale per tower, and skip-layer guidance in the negative pass.

What guidance adds to the video changes slowly from step to step. With a step cache (`core.step_caches`) some steps
therefore leave out the video of the negative pass and take the difference between the two passes from the last step
that computed both (compare FasterCache, arXiv 2410.19355). Audio is computed in every step: that of the negative pass
then attends to the video of the positive one (`models.audio_branch`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ovi_studio.core.step_caches import StepCache
from ovi_studio.distributed.pass_layout import SINGLE_PROCESS, PassLayout
from ovi_studio.models.audio_branch import AudioBranch
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


class GuidanceCache:
    """The difference between the video velocities of the two passes, kept from step to step of one clip.

    Args:
        rule: which steps compute both passes.
        steps: number of steps of the clip.
    """

    def __init__(self, rule: StepCache, steps: int) -> None:
        self._rule = rule
        self._steps = steps
        self._step = 0
        self.difference: Tensor | None = None
        """What the current step reuses; None if it computes both passes."""

    def begin(self, step: int, *, changed: bool) -> None:
        """Begin a step, counted from 0.

        Args:
            changed: whether weights or texts have changed since the last step; both passes are then computed.
        """
        self._step = step
        if changed or self._rule.computes_both_passes(step, self._steps):
            self.difference = None

    def keep(self, cond: Tensor, uncond: Tensor) -> None:
        """Keep the difference between this step's two velocities, if the next step reuses it."""
        if not self._rule.computes_both_passes(self._step + 1, self._steps):
            self.difference = cond.float() - uncond.float()


def guided_velocity(
    model: OviTransformer,
    video: Tensor,
    audio: Tensor,
    timestep: Tensor,
    guidance: Guidance,
    *,
    clean_first_frame: bool,
    layout: PassLayout = SINGLE_PROCESS,
    cache: GuidanceCache | None = None,
) -> tuple[Tensor, Tensor]:
    """Return velocities of video (batch, channels, frames, height, width) and audio (batch, length, channels).

    All ranks pass the same latents, and get the same velocities.

    Args:
        cache: the clip's cache, in which the step has begun; None: both passes are computed.
    """
    difference = None if cache is None else cache.difference
    passes = _passes(guidance, reuses=difference is not None)
    own = model.velocities(
        video,
        audio,
        timestep,
        layout.own_passes(passes),
        clean_first_frame=clean_first_frame,
        token_layout=layout.token_layout,
    )
    cond, *uncond = layout.exchange_velocities(own, len(passes))
    if guidance.negative is None:
        return cond
    if difference is not None:
        audio, negative_audio = cond[1].chunk(2)
        video = torch.add(cond[0].float(), difference, alpha=guidance.video_scale - 1)
        return video, torch.lerp(negative_audio.float(), audio.float(), guidance.audio_scale)
    if cache is not None:
        cache.keep(cond[0], uncond[0][0])
    scales = guidance.video_scale, guidance.audio_scale
    video, audio = (
        torch.lerp(negative.float(), positive.float(), scale)
        for negative, positive, scale in zip(uncond[0], cond, scales, strict=True)
    )
    return video, audio


def _passes(guidance: Guidance, *, reuses: bool) -> list[Pass]:
    if guidance.negative is None:
        return [Pass(guidance.positive)]
    if reuses:
        return [Pass(guidance.positive, audio_branch=AudioBranch(guidance.negative.audio, guidance.skip_block))]
    return [Pass(guidance.positive), Pass(guidance.negative, guidance.skip_block)]
