"""How the passes of one clip lie on the ranks: which a rank computes, and how everybody gets the results.

In one process every pass is computed here and nothing travels. On several ranks the positive and the negative pass may
run on two halves (guidance parallel), and the ranks of a half share the video tokens (`sequence`). Whatever a rank
computed, all of them go on with the same numbers: those of the first rank of each half.
"""

from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ovi_studio.models.token_layout import UNSHARDED, TokenLayout

P = TypeVar("P")
Velocities = tuple[Tensor, Tensor]
"""Of video and audio."""


class Layout:
    """One process: all passes are computed here."""

    token_layout: TokenLayout = UNSHARDED
    """Where the video tokens are."""

    def own(self, passes: Sequence[P]) -> Sequence[P]:
        """The passes that this rank computes."""
        return passes

    def exchange_velocities(self, results: Sequence[Velocities], passes: int) -> Sequence[Velocities]:
        """The results of all passes, in their order, from those of `own`."""
        return results


class SharedLayout(Layout):
    """A clip on several ranks.

    Args:
        halves: 2 if the passes run beside each other, on the first and the second half of the ranks.
        split: where the video tokens of a pass are.
    """

    def __init__(self, halves: int, token_layout: TokenLayout) -> None:
        self.token_layout = token_layout
        self._halves = halves
        self._ranks_of_half = dist.get_world_size() // halves
        self._half = dist.get_rank() // self._ranks_of_half

    def own(self, passes: Sequence[P]) -> Sequence[P]:
        return passes if self._halves == 1 else passes[self._half : self._half + 1]

    def exchange_velocities(self, results: Sequence[Velocities], passes: int) -> Sequence[Velocities]:
        shapes = [result.shape for result in results[0]]
        handed = []
        for index in range(passes):
            half = index if self._halves == 2 else 0
            own = results[index if self._halves == 1 else 0]
            flat = torch.cat([result.flatten() for result in own])
            dist.broadcast(flat, src=half * self._ranks_of_half)
            video, audio = flat.split([shape.numel() for shape in shapes])
            handed.append((video.view(shapes[0]), audio.view(shapes[1])))
        return handed


SINGLE_PROCESS = Layout()
