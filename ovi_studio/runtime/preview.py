"""A small picture of an unfinished clip, made from its latents without the decoder.

A linear map from latent channels to red, green and blue is enough to see what a clip will look like. It is learned from
the clips that are made here: from the last latents and the decoded frames of each. Before the first clip is finished,
the three principal components of the latents stand for brightness and colour; shapes are then right, colours are not.
"""

import io
from typing import Any

import numpy as np
from PIL import Image

from ovi_studio.core.clip import Frames
from ovi_studio.core.variants import FRAMES_PER_LATENT
from ovi_studio.media.frames import spread_frames
from ovi_studio.queue.database import Database

_SCALE = 4
"""Preview pixels per latent pixel; a latent pixel stands for 16 pixels of the clip."""
_LARGEST = 1e3
_RIDGE = 1e-3


class Previewer:
    """Draws previews, and improves with every finished clip."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._maps: dict[str, np.ndarray | None] = {}
        self._moments: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._axes: np.ndarray | None = None

    def sketch(self, variant: str, latents: Any) -> bytes:
        """Return a JPEG of the middle frame of latents (channels, frames, height, width), a tensor on any device."""
        channels, frames, height, width = latents.shape
        middle = latents[:, frames // 2].float().cpu().numpy().reshape(channels, -1).T
        # The latents of a failing run may have any value; the picture must not.
        middle = np.nan_to_num(middle).clip(-_LARGEST, _LARGEST)
        matrix = self._map(variant, channels)
        colours = self._guess(middle) if matrix is None else _with_one(middle) @ matrix
        pixels = colours.clip(0, 255).astype(np.uint8).reshape(height, width, 3)
        picture = Image.fromarray(pixels).resize((width * _SCALE, height * _SCALE), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=80)
        return buffer.getvalue()

    def learn(self, variant: str, latents: Any, frames: Frames) -> None:
        """Learn from a finished clip: its last latents, and its frames."""
        channels, count, height, width = latents.shape
        size_fits = frames.shape[1] % height == 0 and frames.shape[2] % width == 0
        if not size_fits or frames.shape[0] != (count - 1) * FRAMES_PER_LATENT + 1:
            return  # latents and frames do not belong together
        chosen = spread_frames(frames.shape[0])
        values = latents[:, [index // FRAMES_PER_LATENT for index in chosen]]
        values = values.float().cpu().numpy().reshape(channels, -1).T
        shown = np.stack([frames[index] for index in chosen])
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
        """Return the learned map, from this process or an earlier one."""
        if variant not in self._maps:
            stored = self._database.setting(_key(variant))
            self._maps[variant] = None if stored is None else np.array(stored)
        matrix = self._maps[variant]
        return matrix if matrix is not None and matrix.shape == (channels + 1, 3) else None

    def _guess(self, values: np.ndarray) -> np.ndarray:
        centred = values - values.mean(axis=0)
        axes = np.linalg.eigh(centred.T @ centred)[1][:, :-4:-1]
        if self._axes is not None and self._axes.shape == axes.shape:
            # The sign of a component is arbitrary; changing it from step to step would flicker.
            axes = axes * np.where((axes * self._axes).sum(axis=0) < 0, -1, 1)
        self._axes = axes
        components = centred @ axes
        light, warm, cold = (components / (components.std(axis=0) + 1e-6)).T
        return 128 + 50 * np.stack([light + warm / 2, light - (warm + cold) / 4, light + cold / 2], axis=-1)


def _with_one(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values, np.ones((len(values), 1), values.dtype)], axis=1)


def _key(variant: str) -> str:
    return f"preview/{variant}"
