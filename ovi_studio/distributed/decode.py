"""The video decoder on several ranks: each decodes some spatial tiles as a stream over time, the leader gathers them.

Tiles are exact (`models.video_vae`), so the result does not depend on their number or on the rank that decodes them.
The layers that see the whole frame are computed by every rank; they are a hundredth of the work.

A GPU decodes the next piece while the one before it travels to the host. Frames leave `FrameAssembler` as soon as all
their tiles are there: if there are as many ranks as tiles, with every piece.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from ovi_studio.distributed.ranks import Ranks
from ovi_studio.models.video_vae import Patch, byte_frames, decode_tile, split_into_tiles, whole_frame_layers

_MARGIN = 2
"""Latent pixels that a tile computes beyond each side, weighted by the cost of the layers; estimated."""


@dataclass(frozen=True)
class Piece:
    """A piece of the clip: pixels, uint8 (frames, height, width, 3), and where they belong."""

    frames: slice
    rows: slice
    columns: slice
    pixels: np.ndarray
    finite: bool
    """Whether all pixels were finite before they became bytes."""


def decode_pieces(vae: AutoencoderKLWan, latents: Tensor, tile: int | None, ranks: Ranks) -> Iterator[list[Piece]]:
    """Decode normalised latents (channels, frames, height, width); one latent frame of a tile per rank at a time.

    Every rank gets the same number of lists; those of the leader hold the pieces of all ranks.

    Args:
        tile: the maximum of latent pixels along each side of a tile, the same on all ranks; None for no limit.
    """
    features = whole_frame_layers(vae, latents)
    height, width = latents.shape[2:]
    tiles = split_into_tiles(height, width, *grid(height, width, tile, ranks.count))
    for first in range(0, len(tiles), ranks.count):
        batch = tiles[first : first + ranks.count]
        own: Iterator[Piece] | None = None
        if ranks.index < len(batch):
            own = _on_host(decode_tile(vae, features, batch[ranks.index]))
        for _ in range(latents.shape[1]):
            piece = None if own is None else next(own)
            yield [found for found in ranks.gather(piece) if found is not None]


class FrameAssembler:
    """Puts the pieces of frames together; pieces of the same tile come in order.

    With a single tile it holds no frame; otherwise it holds those, as bytes, that not all tiles have reached.
    """

    def __init__(self, height: int, width: int) -> None:
        self._size = (height, width)
        self._incomplete: dict[int, tuple[np.ndarray, int]] = {}
        """Frames from an index on, and how many of their values are missing."""

    def add(self, piece: Piece) -> np.ndarray | None:
        """Return the piece's frames, uint8 (frames, height, width, 3), if it was the last one that they lacked."""
        if piece.pixels.shape[1:3] == self._size:
            return piece.pixels
        frames, missing = self._incomplete.pop(piece.frames.start, (None, 0))
        if frames is None:
            frames = np.empty((len(piece.pixels), *self._size, 3), np.uint8)
            missing = frames.size
        frames[:, piece.rows, piece.columns] = piece.pixels
        missing -= piece.pixels.size
        if not missing:
            return frames
        self._incomplete[piece.frames.start] = (frames, missing)
        return None


def grid(height: int, width: int, limit: int | None, ranks: int) -> tuple[int, int]:
    """Return the (rows, columns) of tiles, none larger than `limit`, that `ranks` decode fastest."""

    def cost(shape: tuple[int, int]) -> tuple[int, int]:
        rows, columns = shape
        rounds = math.ceil(rows * columns / ranks)
        area = (math.ceil(height / rows) + 2 * _MARGIN) * (math.ceil(width / columns) + 2 * _MARGIN)
        return rounds * area, rows * columns

    fewest = [math.ceil(side / (limit or side)) for side in (height, width)]
    most = [min(side, count + ranks) for side, count in zip((height, width), fewest, strict=True)]
    return min(itertools.product(range(fewest[0], most[0] + 1), range(fewest[1], most[1] + 1)), key=cost)


def _on_host(patches: Iterator[Patch]) -> Iterator[Piece]:
    """Copy patches to the host; from a GPU, each while the next one is computed."""
    before: _Copy | None = None
    for patch in patches:
        copy = _Copy(patch)
        if not copy.under_way:
            yield copy.piece()
            continue
        if before is not None:
            yield before.piece()
        before = copy
    if before is not None:
        yield before.piece()


class _Copy:
    """A patch on its way to the host: queued on a GPU behind the work that makes the patch, so that nothing waits."""

    def __init__(self, patch: Patch) -> None:
        self._patch = patch
        self._pixels = byte_frames(patch.pixels)
        self._finite = patch.finite
        self._arrived: torch.cuda.Event | None = None
        if self._pixels.device.type == "cuda":
            self._pixels, self._finite = _pinned(self._pixels), _pinned(self._finite)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    @property
    def under_way(self) -> bool:
        return self._arrived is not None

    def piece(self) -> Piece:
        """Wait for the copy."""
        if self._arrived is not None:
            self._arrived.synchronize()
        patch = self._patch
        return Piece(patch.frames, patch.rows, patch.columns, self._pixels.numpy(), bool(self._finite))


def _pinned(tensor: Tensor) -> Tensor:
    """Start to copy a tensor to pinned memory of the host."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
