"""A tiny training set and model, with steps of milliseconds, and clips like those of users."""

from pathlib import Path

import numpy as np
import torch
from tiny_model import CHANNELS, DIMENSIONS, TOWER
from torch import Tensor

from ovi_studio.core.clip import Clip
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media.clip_files import write_clip
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.training.cache import Sample, write_sample
from ovi_studio.training.settings import TrainSettings

FRAMES, SIDE, LENGTH = 3, 4, 12
SETTINGS = TrainSettings(
    steps=12, batch_size=4, learning_rate=3e-3, muon_learning_rate=0.02, warmup_steps=2, ema=0.9, log_seconds=0
)


def build(seed: int = 0) -> OviTransformer:
    torch.manual_seed(seed)
    return OviTransformer(**DIMENSIONS["fusion"])


def embeddings(seed: int, tokens: int = 5) -> Tensor:
    return torch.randn(tokens, TOWER["text_dim"], generator=torch.Generator().manual_seed(seed))


def unconditional() -> tuple[Tensor, Tensor]:
    return embeddings(100, 3), embeddings(101, 2)


def sample(seed: int, captions: int = 1) -> Sample:
    """A training set with two kinds of clip that differ in their captions."""
    kind = seed % 2
    noise = torch.Generator().manual_seed(seed)
    video = torch.full((CHANNELS, FRAMES, SIDE, SIDE), 1.0 - 2 * kind)
    audio = torch.full((LENGTH, 20), 2.0 * kind - 1)
    return Sample(
        video + 0.05 * torch.randn(video.shape, generator=noise),
        audio + 0.05 * torch.randn(audio.shape, generator=noise),
        [embeddings(1000 * kind + index, 4 + index) for index in range(captions)],
    )


def write_samples(cache: Path) -> None:
    """Ten encoded clips of two kinds."""
    for index in range(10):
        write_sample(cache, f"clip_{index}", sample(index))


CLIP_FRAMES, CLIP_SIDE, CLIP_SAMPLES = 17, 64, 22 * 512
COMMAND = ("train-lora", "--variant", "tiny", "--learning-rate", "0.01", "--rank", "4", "--batch-size", "2")


def own_clip(folder: Path, name: str, seed: int, caption: str | None = "a red ball") -> Path:
    """Write a clip of the tiny variant's size and length with `write_clip`."""
    random = np.random.default_rng(seed)
    frames = np.repeat(random.integers(40, 200, (CLIP_FRAMES, 4, 4, 3), np.uint8), 16, axis=1).repeat(16, axis=2)
    samples = np.sin(np.arange(CLIP_SAMPLES) * 0.1 * seed).astype(np.float32) * 0.3
    spec = ClipSpec(prompt="a red ball", variant="tiny")
    path = write_clip(Clip(spec, frames, samples, None, {}), folder, name)
    path.with_suffix(".jpg").unlink()
    if caption is not None:
        path.with_suffix(".txt").write_text(caption)
    return path
