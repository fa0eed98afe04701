"""Sample sheets: pictures of what a model can do during training.

A row is a scene: equally spaced frames, and the spectrogram of its sound (time to the right, pitch upwards).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ovi_studio.demo.scenes import SIDE

SAMPLES = "samples"
_FRAMES = 8
"""The most that a row shows."""
_GAP, _TITLE = 4, 14
_QUIET, _LOUD = -5.0, 1.5
"""Log10 magnitudes that are black and white."""


@dataclass(frozen=True, eq=False)
class SheetRow:
    """One scene on a sample sheet."""

    title: str
    frames: np.ndarray | None = None
    """Pixels, uint8 (T, H, W, 3), at most SIDE high."""
    mel: Tensor | None = None
    """Log10 mel magnitudes (bands, length)."""


def save_sheet(rows: Sequence[SheetRow], folder: Path, step: int) -> Path:
    """Write rows as a picture to `folder/samples`, with the step in the file name."""
    path = folder / SAMPLES / f"step_{step:06}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    draw_sheet(rows).save(part, "PNG")
    part.replace(path)
    return path


def draw_sheet(rows: Sequence[SheetRow]) -> Image.Image:
    """Draw rows one below the other, each with its title above it."""
    strips = [_strip(row) for row in rows]
    height = _TITLE + SIDE + _GAP
    font = ImageFont.load_default()
    widths = [
        max(strip.width, math.ceil(font.getlength(row.title)) + _GAP) for row, strip in zip(rows, strips, strict=True)
    ]
    sheet = Image.new("RGB", (max(widths), height * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (row, strip) in enumerate(zip(rows, strips, strict=True)):
        draw.text((2, place * height + 1), row.title, fill="black", font=font)
        sheet.paste(strip, (0, place * height + _TITLE))
    return sheet


def _strip(row: SheetRow) -> Image.Image:
    pictures = []
    if row.frames is not None:
        chosen = np.linspace(0, len(row.frames) - 1, min(len(row.frames), _FRAMES)).round().astype(int)
        pictures += [Image.fromarray(frame) for frame in row.frames[chosen]]
    if row.mel is not None:
        pictures.append(_spectrogram(row.mel))
    strip = Image.new("RGB", (sum(picture.width + _GAP for picture in pictures), SIDE), "white")
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width + _GAP
    return strip


def _spectrogram(mel: Tensor) -> Image.Image:
    grey = ((mel.detach().float().cpu().flip(0) - _QUIET) / (_LOUD - _QUIET)).clamp(0, 1)
    picture = Image.fromarray((255 * grey).byte().numpy())
    return picture.resize((picture.width, SIDE))
