"""A picture taken through a model in tiles, so that memory is bound by the tile.

Every tile sees more of the picture than it is responsible for, so near its border it still sees what the whole picture
would show; there its result fades into its neighbour's. A model that sees at most `MARGIN - FADE` pixels far gives what
it gives for the whole picture; one that sees farther, as those with attention do, shows no seam.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

TILE = 192
"""Pixels of a tile's side; a multiple of the windows in which models with attention work."""
MARGIN = 32
"""Pixels around a tile that the model sees, too."""
FADE = 16
"""Pixels on either side of a border in which two tiles are mixed."""


@dataclass(frozen=True)
class Span:
    """One side of a tile: what it is responsible for, and what the model sees."""

    start: int
    end: int
    first: int
    """`start` less the margin, as far as the picture reaches."""
    last: int

    def weights(self, scale: int, size: int) -> Tensor:
        """How much each row of the tile's result counts, (`last - first`) * `scale`; those of all tiles sum to 1."""
        position = (torch.arange(self.first * scale, self.last * scale) + 0.5) / scale
        found = torch.ones(len(position))
        if self.start > 0:
            found = found.minimum(((position - self.start) / (2 * FADE) + 0.5).clamp(0, 1))
        if self.end < size:
            found = found.minimum(((self.end - position) / (2 * FADE) + 0.5).clamp(0, 1))
        return found


def spans(size: int, tile: int = TILE) -> list[Span]:
    """The tiles along one side of a picture of `size` pixels."""
    return [
        Span(start, min(start + tile, size), max(0, start - MARGIN), min(start + tile + MARGIN, size))
        for start in range(0, size, tile)
    ]


def upscale_in_tiles(
    pixels: Tensor, model: Callable[[Tensor], Tensor], scale: int, tile: int, on_tile: Callable[[float], None]
) -> Tensor:
    """Return the result of `model` for a picture.

    Args:
        pixels: float32 (3, H, W) in host memory.
        model: maps (1, 3, h, w) to (1, 3, h * scale, w * scale), in host memory.
        tile: pixels of a side, more than `2 * FADE`.
        on_tile: called after each tile with the fraction that is done; what it raises ends the work.

    Returns:
        float32 (3, H * scale, W * scale).
    """
    _, height, width = pixels.shape
    found = torch.zeros(3, height * scale, width * scale)
    tiles = list(_tiles(height, width, tile))
    for number, (rows, columns) in enumerate(tiles, start=1):
        part = model(pixels[None, :, rows.first : rows.last, columns.first : columns.last])[0].float()
        part *= rows.weights(scale, height)[:, None] * columns.weights(scale, width)
        found[:, rows.first * scale : rows.last * scale, columns.first * scale : columns.last * scale] += part
        on_tile(number / len(tiles))
    return found


def _tiles(height: int, width: int, tile: int) -> Iterator[tuple[Span, Span]]:
    for rows in spans(height, tile):
        for columns in spans(width, tile):
            yield rows, columns
