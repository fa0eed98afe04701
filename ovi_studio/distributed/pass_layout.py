"""How the passes of one clip are distributed: which passes a rank computes, and how all ranks get the results.

In one process every pass is computed here, without communication. On several ranks the positive and the negative pass
may run on two halves (guidance parallel), and the ranks of a half share the video tokens (`sequence`). All ranks
continue with the same numbers: those of the first rank of each half.
"""

from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ovi_studio.models.token_layout import UNSHARDED, TokenLayout

P = TypeVar("P")
Velocities = tuple[Tensor, Tensor]
"""Velocities of video and of audio."""


class PassLayout:
    """The layout of one process, which computes all passes."""

    token_layout: TokenLayout = UNSHARDED
    """How the video tokens of a pass are distributed."""

    def own_passes(self, passes: Sequence[P]) -> Sequence[P]:
        """Return the passes that this rank computes."""
        return passes

    def exchange_velocities(self, results: Sequence[Velocities], passes: int) -> Sequence[Velocities]:
        """Return the results of all passes, in order, from this rank's results for `own_passes`."""
        return results


class SharedPassLayout(PassLayout):
    """The layout of a clip on several ranks.

    Args:
        halves: 2 if the passes run in parallel, on the first and the second half of the ranks; otherwise 1.
        token_layout: how the video tokens of a pass are distributed.
    """

    def __init__(self, halves: int, token_layout: TokenLayout) -> None:
        self.token_layout = token_layout
        self._halves = halves
        self._ranks_of_half = dist.get_world_size() // halves
        self._half = dist.get_rank() // self._ranks_of_half

    def own_passes(self, passes: Sequence[P]) -> Sequence[P]:
        if len(passes) < self._halves:
            # On every rank; otherwise the first half would wait for the second for ever.
            raise ValueError(f"{len(passes)} pass cannot be distributed over {self._halves} halves")
        return passes if self._halves == 1 else passes[self._half : self._half + 1]

    def exchange_velocities(self, results: Sequence[Velocities], passes: int) -> Sequence[Velocities]:
        shapes = [result.shape for result in results[0]]
        exchanged = []
        for index in range(passes):
            half = index if self._halves == 2 else 0
            own = results[index if self._halves == 1 else 0]
            flat = torch.cat([result.flatten() for result in own])
            dist.broadcast(flat, src=half * self._ranks_of_half)
            video, audio = flat.split([shape.numel() for shape in shapes])
            exchanged.append((video.view(shapes[0]), audio.view(shapes[1])))
        return exchanged


SINGLE_PROCESS = PassLayout()
