"""A U-Net that redraws the decoded frames of a clip: it sees the whole object, so it straightens and sharpens outlines.

What is hard to tell in one frame is easy to tell in a clip, so it looks at all frames first. They vote what kind of
object the clip shows, and every frame is redrawn as one of that kind: a ball stays a ball where a frame has a dent.

The published models have none. It is for a video VAE whose decoder is so small that its outlines are soft and wobble;
`refiner` in the dimensions of a VAE gives its widths and how many kinds it knows.

It may have another number format than the frames: it computes corrections in its own, and adds them in theirs.
"""

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

PIXEL_CHANNELS = 3
_PASSES = 3
"""The second and the third pass sharpen what the first has straightened; a fourth would add less than the third."""
_TOGETHER = 8
"""Frames that are computed together: few, so that they stay in a processor's cache."""
_VOTERS = 3
"""Every which frame votes; those beside it say the same."""
_HEAD = 16
"""Channels of the last hidden layer, at full resolution."""
_START = 0.01
"""Size of the correction before training, relative to the usual one of random layers."""


class Refiner(nn.Module):
    """Adds a correction to the frames of a clip."""

    def __init__(self, widths: Sequence[int], kinds: int) -> None:
        """Build it with a random correction, nearly zero, that is the same for all kinds.

        Args:
            widths: channels at full resolution, at half of it, and so on.
            kinds: of objects; what they are is learned.
        """
        super().__init__()
        first, second, *_ = widths
        *_, deepest = widths
        self.levels = len(widths) - 1
        self.stem = _convolution(PIXEL_CHANNELS, first)
        self.down = nn.ModuleList(_Block(above, below) for above, below in itertools.pairwise(widths))
        self.up = nn.ModuleList(_Block(above + below, above) for above, below in itertools.pairwise(widths[1:]))
        self.head = _convolution(PIXEL_CHANNELS + first + second, _HEAD)
        self.out = _convolution(_HEAD, PIXEL_CHANNELS)
        self.kinds = nn.Linear(deepest, kinds)
        self._modulated_widths = [deepest, *reversed(widths[1:-1]), _HEAD]
        self.modulation = nn.Linear(kinds, 2 * sum(self._modulated_widths), bias=False)
        with torch.no_grad():
            self.modulation.weight.zero_()
            for parameter in self.out.parameters():
                parameter.mul_(_START)

    @property
    def granularity(self) -> int:
        """Height and width must be multiples of this number of pixels."""
        return 2**self.levels

    def forward(self, frames: Tensor) -> Tensor:
        """Redraw the frames of a clip (frames, 3, height, width) in [-1, 1]; the result may be a little outside."""
        kind = self.vote(torch.cat([self.score(self.look(part)) for part in _parts(frames[::_VOTERS])]))
        redrawn = []
        for part in _parts(frames):
            for _ in range(_PASSES):
                part = self.redraw(part, kind)
            redrawn.append(part)
        return torch.cat(redrawn)

    def look(self, frames: Tensor) -> list[Tensor]:
        """Return features of frames at all levels, from full resolution down."""
        seen = [_activated(self.stem(frames.to(self.stem.weight.dtype)))]
        for block in self.down:
            seen.append(block(_halved(seen[-1])))
        return seen

    def score(self, seen: Sequence[Tensor]) -> Tensor:
        """Return how much each frame looks like each kind, as logits (frames, kinds)."""
        return self.kinds(seen[-1].amax(dim=(2, 3)))

    def vote(self, scores: Tensor) -> Tensor:
        """Return the kind of most frames of a clip, (1, kinds): a one among zeros."""
        likely = scores.float().softmax(dim=1).mean(dim=0, keepdim=True)
        return functional.one_hot(likely.argmax(dim=1), len(likely[0])).to(scores.dtype)

    def redraw(self, frames: Tensor, kind: Tensor, seen: Sequence[Tensor] | None = None) -> Tensor:
        """Redraw frames in one pass.

        Args:
            kind: (1 or frames, kinds); zeros for an object of no known kind.
            seen: what `look` returned for the frames, if it was called.
        """
        *seen, x = seen or self.look(frames)
        changes = iter(
            self.modulation(kind)[:, :, None, None].split([2 * width for width in self._modulated_widths], dim=1)
        )
        x = _modulated(x, next(changes))
        for block in reversed(self.up):
            x = block(torch.cat((_twice(x), seen.pop()), dim=1), next(changes))
        x = _changed(self.head, torch.cat((_twice(x), seen.pop(), frames.to(x.dtype)), dim=1), next(changes))
        return frames + self.out(_activated(x)).to(frames.dtype)


class _Block(nn.Module):
    def __init__(self, width: int, result: int) -> None:
        super().__init__()
        self.first, self.second = _convolution(width, result), _convolution(result, result)

    def forward(self, x: Tensor, change: Tensor | None = None) -> Tensor:
        x = self.first(x) if change is None else _changed(self.first, x, change)
        return _activated(self.second(_activated(x)))


def _parts(frames: Tensor) -> Iterator[Tensor]:
    for part in frames.split(_TOGETHER):
        # Otherwise a CPU converts what is concatenated at full resolution.
        yield part.contiguous(memory_format=torch.channels_last)


def _modulated(x: Tensor, change: Tensor) -> Tensor:
    """Scale and shift channels."""
    scale, shift = change.chunk(2, dim=1)
    return x * (1 + scale) + shift


def _changed(convolution: nn.Conv2d, x: Tensor, change: Tensor) -> Tensor:
    """Convolve, then scale and shift channels."""
    if len(change) > 1:
        return _modulated(convolution(x), change)
    # The same for all frames: weights are fewer than pixels.
    weight, bias = convolution.parameters()
    scale, shift = change.flatten().chunk(2)
    scale = 1 + scale
    return functional.conv2d(x, weight * scale[:, None, None, None], bias * scale + shift, padding=1)


def _activated(x: Tensor) -> Tensor:
    """Apply SiLU to the result of a convolution, in place."""
    return functional.silu(x, inplace=True)


def _convolution(width: int, result: int) -> nn.Conv2d:
    return nn.Conv2d(width, result, kernel_size=3, padding=1)


def _twice(x: Tensor) -> Tensor:
    """Double height and width."""
    return functional.interpolate(x, scale_factor=2, mode="bilinear")


def _halved(x: Tensor) -> Tensor:
    """Halve height and width: the mean of four pixels, as of `avg_pool2d`, which takes longer on a CPU."""
    return functional.interpolate(x, scale_factor=0.5, mode="bilinear")
