"""Clips for films: each frame says its number, and the sound is what a test gives."""

from pathlib import Path

import numpy as np

from ovi_studio.core.clip import Clip, Picture
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import FRAME_RATE, SAMPLE_RATE
from ovi_studio.media.clip_files import write_clip

HEIGHT, WIDTH = 32, 64


def grey_frames(levels: list[int] | np.ndarray, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Frames of one grey each, uint8 (T, height, width, 3)."""
    return np.broadcast_to(np.asarray(levels, np.uint8)[:, None, None, None], (len(levels), height, width, 3)).copy()


def noise(seconds: float, level: float, seed: int = 0) -> np.ndarray:
    """White noise, float32, of this root mean square."""
    random = np.random.default_rng(seed)
    return (level * random.standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


def tone(seconds: float, level: float, hertz: float = 440.0) -> np.ndarray:
    """A sine, float32, of this amplitude."""
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE)).astype(
        np.float32
    )


def write_shot(
    folder: Path,
    levels: list[int] | np.ndarray,
    samples: np.ndarray | None = None,
    *,
    prompt: str = "A shot",
    picture: Picture | None = None,
    size: tuple[int, int] = (HEIGHT, WIDTH),
) -> Path:
    """A clip whose frames have these greys; without samples, quiet noise as long as the picture."""
    spec = ClipSpec(prompt=prompt, variant="960x960_5s", image=Path("first.png") if picture else None)
    sound = noise(len(levels) / FRAME_RATE, 0.05, len(levels)) if samples is None else samples
    return write_clip(Clip(spec, grey_frames(levels, *size), sound, picture), folder)
