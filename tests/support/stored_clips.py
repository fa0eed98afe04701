"""Small real clips on the disk: something that moves and sounds, with a first frame or without."""

from pathlib import Path
from typing import Any

import numpy as np

from ovi_studio.core.clip import Clip, Picture
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media import clip_files


def make_clip(
    outputs: Path,
    prompt: str = "A ball rolls",
    *,
    frames: int = 30,
    size: tuple[int, int] = (64, 96),
    first: Picture | None = None,
    **settings: Any,
) -> Path:
    """Write a clip in which a bright square moves three pixels a frame over a gradient."""
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([np.stack([rows * 2, columns * 2, rows + 2 * t], -1) for t in range(frames)]).astype(np.uint8)
    for t in range(frames):
        pixels[t, 16:32, 3 * t % width : 3 * t % width + 16] = 250
    samples = np.sin(np.arange(round(frames / 24 * 16_000)) / 7).astype(np.float32) / 2
    values = {"variant": "960x960_5s", "image": Path("/elsewhere/first.png") if first else None} | settings
    clip = Clip(ClipSpec(prompt=prompt, **values), pixels, samples, first, {"job": "made", "seconds": 1.5})
    return clip_files.write_clip(clip, outputs)
