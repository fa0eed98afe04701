"""A U-Net that redraws decoded frames, one by one: it sees the whole object, so it can straighten and sharpen outlines.

The published models have none. It is for a video VAE whose decoder is so small that its outlines are soft and wobble;
`refiner` in the dimensions of a VAE gives the widths.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

PIXEL_CHANNELS = 3
_PASSES = 2
"""The second pass sharpens what the first has straightened. A third sharpens little more, and moves outlines."""
_HEAD = 16
"""Channels of the last hidden layer, at full resolution."""
_START = 0.01
"""Size of the correction before training, relative to the usual one of random layers."""


class Refiner(nn.Module):
    """Adds a correction to frames."""

    def __init__(self, widths: Sequence[int]) -> None:
        """Build it with a random correction, nearly zero.

        Args:
            widths: channels at full resolution, at half of it, and so on.
        """
        super().__init__()
        first, second, *_ = widths
        self.levels = len(widths) - 1
        self.stem = _convolution(PIXEL_CHANNELS, first)
        self.down = nn.ModuleList(_Block(above, below) for above, below in itertools.pairwise(widths))
        self.up = nn.ModuleList(_Block(above + below, above) for above, below in itertools.pairwise(widths[1:]))
        self.head = _convolution(PIXEL_CHANNELS + first + second, _HEAD)
        self.out = _convolution(_HEAD, PIXEL_CHANNELS)
        with torch.no_grad():
            for parameter in self.out.parameters():
                parameter.mul_(_START)

    @property
    def granularity(self) -> int:
        """Height and width must be multiples of this number of pixels."""
        return 2**self.levels

    @property
    def reach(self) -> int:
        """Pixels beyond the edge of a tile that the pixels at its edge depend on, at most."""
        # A 3x3 convolution needs one pixel of its level, and so does the interpolation from it to the level above.
        sizes = [2**level for level in range(1, self.levels + 1)]
        above_the_last = sizes[:-1]
        return _PASSES * (3 + sum(3 * size for size in sizes) + sum(2 * size for size in above_the_last))

    def forward(self, frames: Tensor) -> Tensor:
        """Redraw frames (batch, 3, height, width) in [-1, 1]; the result may be a little outside."""
        for _ in range(_PASSES):
            frames = self.redraw(frames)
        return frames

    def redraw(self, frames: Tensor) -> Tensor:
        """Redraw frames in one pass."""
        x = functional.silu(self.stem(frames))
        kept = [x]
        for block in self.down:
            x = block(functional.avg_pool2d(x, 2))
            kept.append(x)
        x = kept.pop()
        for block in reversed(self.up):
            x = block(torch.cat((_twice(x), kept.pop()), dim=1))
        x = self.head(torch.cat((_twice(x), kept.pop(), frames), dim=1))
        return frames + self.out(functional.silu(x))


class _Block(nn.Module):
    def __init__(self, width: int, result: int) -> None:
        super().__init__()
        self.first, self.second = _convolution(width, result), _convolution(result, result)

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(self.second(functional.silu(self.first(x))))


def _convolution(width: int, result: int) -> nn.Conv2d:
    return nn.Conv2d(width, result, kernel_size=3, padding=1)


def _twice(x: Tensor) -> Tensor:
    """Double height and width."""
    return functional.interpolate(x, scale_factor=2, mode="bilinear")
