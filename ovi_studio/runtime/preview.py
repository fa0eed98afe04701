"""A small picture of a clip that is not finished, from its latents and without the decoder.

A linear map from latent channels to red, green and blue is enough to see what becomes of a clip. It is learned from the
clips that are made here: each gives its last latents and its decoded frames. Until the first one is there, the three
main directions of the latents themselves stand for brightness and colour; shapes are right then and colours are not.
"""

import io
from typing import Any

import numpy as np
from PIL import Image

from ovi_studio.core.variants import FRAMES_PER_LATENT
from ovi_studio.queue.database import Database

_SCALE = 4
"""Pixels of the preview a latent; a latent stands for 16 of the clip."""
_LARGEST = 1e3
_LEARNED_FRAMES = 8
_RIDGE = 1e-3


class Previewer:
    """Draws previews, and gets better at it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._maps: dict[str, np.ndarray | None] = {}
        self._moments: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._axes: np.ndarray | None = None

    def sketch(self, variant: str, latents: Any) -> bytes:
        """A JPEG of the middle frame of latents (channels, frames, height, width), a tensor on any device."""
        channels, frames, height, width = latents.shape
        middle = latents[:, frames // 2].float().cpu().numpy().reshape(channels, -1).T
        # A run that goes wrong may have any value; drawing it must not.
        middle = np.nan_to_num(middle).clip(-_LARGEST, _LARGEST)
        matrix = self._map(variant, channels)
        colours = self._guess(middle) if matrix is None else _with_one(middle) @ matrix
        pixels = colours.clip(0, 255).astype(np.uint8).reshape(height, width, 3)
        picture = Image.fromarray(pixels).resize((width * _SCALE, height * _SCALE), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=80)
        return buffer.getvalue()

    def learn(self, variant: str, latents: Any, frames: np.ndarray) -> None:
        """Take in a finished clip: its last latents, and its frames (T, H, W, 3)."""
        channels, count, height, width = latents.shape
        size_fits = frames.shape[1] % height == 0 and frames.shape[2] % width == 0
        if not size_fits or len(frames) != (count - 1) * FRAMES_PER_LATENT + 1:
            return  # not the pair that it looks like
        chosen = np.unique(np.linspace(0, count - 1, _LEARNED_FRAMES).round().astype(int))
        values = latents[:, chosen.tolist()].float().cpu().numpy().reshape(channels, -1).T
        shown = frames[chosen * FRAMES_PER_LATENT]
        rows, columns = frames.shape[1] // height, frames.shape[2] // width
        blocks = shown.reshape(len(chosen), height, rows, width, columns, 3).mean(axis=(2, 4)).reshape(-1, 3)
        if not np.isfinite(values).all():
            return
        inputs = _with_one(values)
        before = self._moments.get(variant, (0, 0))
        moments = before[0] + inputs.T @ inputs / len(inputs), before[1] + inputs.T @ blocks / len(inputs)
        self._moments[variant] = moments
        matrix = np.linalg.solve(moments[0] + _RIDGE * np.eye(channels + 1), moments[1])
        self._maps[variant] = matrix
        self._database.put_setting(_key(variant), matrix.round(4).tolist())

    def _map(self, variant: str, channels: int) -> np.ndarray | None:
        """What was learned, in this process or an earlier one."""
        if variant not in self._maps:
            stored = self._database.setting(_key(variant))
            self._maps[variant] = None if stored is None else np.array(stored)
        matrix = self._maps[variant]
        return matrix if matrix is not None and matrix.shape == (channels + 1, 3) else None

    def _guess(self, values: np.ndarray) -> np.ndarray:
        centred = values - values.mean(axis=0)
        axes = np.linalg.eigh(centred.T @ centred)[1][:, :-4:-1]
        if self._axes is not None and self._axes.shape == axes.shape:
            # A direction and its opposite are the same to the mathematics, but would flicker.
            axes = axes * np.where((axes * self._axes).sum(axis=0) < 0, -1, 1)
        self._axes = axes
        components = centred @ axes
        light, warm, cold = (components / (components.std(axis=0) + 1e-6)).T
        return 128 + 50 * np.stack([light + warm / 2, light - (warm + cold) / 4, light + cold / 2], axis=-1)


def _with_one(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values, np.ones((len(values), 1), values.dtype)], axis=1)


def _key(variant: str) -> str:
    return f"preview/{variant}"
