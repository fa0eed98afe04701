"""The flow-matching loss of both towers (rectified flow, arXiv 2209.03003; logit-normal sigmas, arXiv 2403.03206).

x = (1 - sigma) * clean + sigma * noise, and the velocity to predict is noise - clean, which the solvers in `sampling`
integrate from noise to the clip. Both towers share one sigma, as they share one timestep in sampling. All random
numbers come from the generator that is passed in, so a step can be repeated exactly.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from ovi_studio.models.transformer import OviTransformer
from ovi_studio.sampling.guidance import Guidance
from ovi_studio.sampling.solvers import TRAIN_TIMESTEPS
from ovi_studio.training.settings import FlowSettings


@dataclass(frozen=True)
class TrainingBatch:
    """Clean samples, on the host."""

    video: Tensor
    """Latents (batch, channels, frames, height, width)."""
    audio: Tensor
    """Latents (batch, length, channels)."""
    text: Tensor
    """Embeddings (batch, tokens, dim), zero-padded."""

    def __len__(self) -> int:
        return self.video.shape[0]


@dataclass(frozen=True)
class Unconditional:
    """Embeddings (tokens, dim) of the negative prompts, which the towers see instead of a dropped caption."""

    video: Tensor
    audio: Tensor

    def guidance(
        self,
        transformer: OviTransformer,
        caption: Tensor,
        video_scale: float,
        audio_scale: float,
        skip_block: int | None = None,
    ) -> Guidance:
        """Return the guidance that samples a clip of a caption, given as its embedding (tokens, dim)."""
        device = next(transformer.parameters()).device
        video, audio, positive = (
            text.unsqueeze(0).to(device, transformer.dtype) for text in (self.video, self.audio, caption)
        )
        return Guidance(
            positive=transformer.prepare_text(positive, positive),
            negative=transformer.prepare_text(video, audio),
            video_scale=video_scale,
            audio_scale=audio_scale,
            skip_block=skip_block,
        )


@dataclass(frozen=True)
class Losses:
    """Mean squared errors of the velocities of both towers, scalars."""

    video: Tensor
    audio: Tensor

    @property
    def total(self) -> Tensor:
        return self.video + self.audio


class VelocityModel(nn.Module):
    """The transformer from text embeddings to velocities in one call, as Accelerate needs it to wrap it."""

    def __init__(self, transformer: OviTransformer) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(
        self,
        video: Tensor,
        audio: Tensor,
        timestep: Tensor,
        video_text: Tensor,
        audio_text: Tensor,
        *,
        clean_first_frame: bool,
    ) -> tuple[Tensor, Tensor]:
        text = self.transformer.prepare_text(video_text, audio_text)
        return self.transformer(video, audio, timestep, text, clean_first_frame=clean_first_frame)


class Predict(Protocol):
    """What predicts the velocities of video and audio: a `VelocityModel`, wrapped by Accelerate or not."""

    def __call__(
        self,
        video: Tensor,
        audio: Tensor,
        timestep: Tensor,
        video_text: Tensor,
        audio_text: Tensor,
        *,
        clean_first_frame: bool,
    ) -> tuple[Tensor, Tensor]: ...


def flow_loss(
    predict: Predict,
    batch: TrainingBatch,
    unconditional: Unconditional,
    settings: FlowSettings,
    generator: torch.Generator,
    device: torch.device,
) -> Losses:
    """Return the losses of one batch, with noise, sigmas and conditions drawn from the CPU generator `generator`."""
    size = len(batch)
    sigma = draw_sigmas(size, settings, generator).to(device)
    # The modulation has one shape per batch, so either all samples have a clean first frame or none.
    clean_first_frame = bool(torch.rand((), generator=generator) < settings.first_frame)
    dropped = torch.rand(size, generator=generator) < settings.caption_dropout
    video_text, audio_text = (
        with_dropout(batch.text, text, dropped).to(device) for text in (unconditional.video, unconditional.audio)
    )
    video, audio = (clean.to(device, torch.float32) for clean in (batch.video, batch.audio))
    video_noise, audio_noise = (
        torch.randn(clean.shape, generator=generator).to(device) for clean in (batch.video, batch.audio)
    )
    noisy = torch.lerp(video, video_noise, sigma.view(-1, 1, 1, 1, 1))
    if clean_first_frame:
        noisy[:, :, :1] = video[:, :, :1]
    velocity, audio_velocity = predict(
        noisy,
        torch.lerp(audio, audio_noise, sigma.view(-1, 1, 1)),
        sigma * TRAIN_TIMESTEPS,
        video_text,
        audio_text,
        clean_first_frame=clean_first_frame,
    )
    start = 1 if clean_first_frame else 0
    target = (video_noise - video)[:, :, start:]
    return Losses(
        functional.mse_loss(velocity[:, :, start:].float(), target),
        functional.mse_loss(audio_velocity.float(), audio_noise - audio),
    )


def draw_sigmas(count: int, settings: FlowSettings, generator: torch.Generator) -> Tensor:
    """Draw sigmas (count,) in (0, 1), shifted towards noise as in `sampling.solvers.shifted`."""
    if settings.sigmas == "uniform":
        sigma = torch.rand(count, generator=generator)
    else:
        sigma = torch.randn(count, generator=generator).sigmoid()
    return settings.shift * sigma / (1 + (settings.shift - 1) * sigma)


def with_dropout(text: Tensor, replacement: Tensor, dropped: Tensor) -> Tensor:
    """Replace text (batch, tokens, dim) by `replacement` (tokens, dim) where `dropped` (batch,) is true.

    Both are zero-padded to the longer one.
    """
    length = max(text.shape[1], replacement.shape[0])
    text, replacement = (
        functional.pad(part, (0, 0, 0, length - part.shape[-2])) for part in (text, replacement.to(text))
    )
    return torch.where(dropped.view(-1, 1, 1), replacement, text)
