"""The video decoder on several ranks: each decodes some spatial tiles as a stream over time, the leader gathers them.

Tiles are exact (`models.video_vae`), so the result does not depend on their number or on the rank that decodes them.
The layers that see the whole frame are computed by every rank; they are a hundredth of the work.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from diffusers import AutoencoderKLWan
from torch import Tensor

from ovi_studio.distributed.ranks import Ranks
from ovi_studio.models.video_vae import Patch, decode_tile, split_into_tiles, to_bytes, whole_frame_layers

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
        own = decode_tile(vae, features, batch[ranks.index]) if ranks.index < len(batch) else None
        for _ in range(latents.shape[1]):
            piece = None if own is None else _piece(next(own))
            yield [found for found in ranks.gather(piece) if found is not None]


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


def _piece(patch: Patch) -> Piece:
    return Piece(patch.frames, patch.rows, patch.columns, to_bytes(patch.pixels), bool(patch.finite))
