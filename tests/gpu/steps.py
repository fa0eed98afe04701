"""A guided step of the transformer on random latents and texts, as in denoising."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ovi_studio.models.transformer import OviTransformer
from ovi_studio.sampling.guidance import Guidance, GuidanceCache, guided_velocity

Velocities = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class StepInputs:
    """Random inputs of the model."""

    video: Tensor
    """Latents (1, channels, frames, height, width)."""
    audio: Tensor
    """Latents (1, length, channels)."""
    texts: tuple[Tensor, Tensor, Tensor]
    """Embeddings (1, tokens, dim) of the prompt and of both negative prompts."""

    @classmethod
    def random(
        cls,
        fusion: Mapping[str, Any],
        video: tuple[int, int, int],
        audio: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> "StepInputs":
        """Return inputs with video latents of (frames, height, width) and audio latents of a length."""
        # The meta device has no generator.
        generator = None if device.type == "meta" else torch.Generator(device).manual_seed(1)

        def noise(*size: int) -> Tensor:
            return torch.randn(1, *size, device=device, dtype=dtype, generator=generator)

        tower = fusion["video"]
        length = tower["text_len"]
        texts = tuple(noise(tokens, tower["text_dim"]) for tokens in (length // 2, length // 4, length // 3))
        return cls(noise(tower["in_dim"], *video), noise(audio, fusion["audio"]["in_dim"]), texts)

    def guidance(self, model: OviTransformer) -> Guidance:
        """Prepare the texts for this model, whose weights must be in use."""
        positive, *negative = self.texts
        return Guidance(
            positive=model.prepare_text(positive, positive),
            negative=model.prepare_text(*negative),
            video_scale=4.0,
            audio_scale=3.0,
            skip_block=len(model.fusion_blocks) // 3,
        )


@torch.no_grad()
def guided_step(
    model: OviTransformer,
    inputs: StepInputs,
    guidance: Guidance,
    *,
    clean_first_frame: bool = False,
    cache: GuidanceCache | None = None,
) -> Velocities:
    """Return the velocities of both towers, from two passes, the negative one with a skipped block.

    Args:
        cache: may leave out the video of the negative pass.
    """
    timestep = torch.full((1,), 500.0, device=inputs.video.device)
    latents = inputs.video, inputs.audio, timestep
    return guided_velocity(model, *latents, guidance, clean_first_frame=clean_first_frame, cache=cache)


@torch.no_grad()
def step_flops(fusion: Mapping[str, Any], video: tuple[int, int, int], audio: int) -> int:
    """Count the floating-point operations of one guided step, on the meta device."""
    meta = torch.device("meta")
    with meta:
        model = OviTransformer(**fusion)
    inputs = StepInputs.random(fusion, video, audio, meta, torch.float32)
    guidance = inputs.guidance(model)
    with FlopCounterMode(display=False) as counter:
        guided_step(model, inputs, guidance)
    return counter.get_total_flops()


def all_finite(*tensors: Tensor) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def relative_error(result: Tensor, expected: Tensor) -> float:
    """Return the relative L2 error; infinite if the shapes differ or a value is not finite."""
    if result.shape != expected.shape or not all_finite(result, expected):
        return math.inf
    result, expected = result.double().cpu(), expected.double().cpu()
    return (torch.linalg.vector_norm(result - expected) / torch.linalg.vector_norm(expected)).item()
