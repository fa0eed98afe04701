"""Rotary position embeddings of the two towers (Su et al., arXiv 2104.09864), as tables computed once per clip.

Pairs of neighbouring channels are rotated by position times frequency. Video splits the head's channels into time,
height and width; audio rotates only the time part, at scaled frequencies, and leaves the others unchanged. The angles
are computed in float64 and stored as float32, which reproduces the official float64 rotation at 1e-7.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ovi_studio.capacity.memory import TOKENS_AT_ONCE

_THETA = 10_000.0


class RotaryTable(NamedTuple):
    """The angles of every token."""

    turns: Tensor
    """Cosines and sines, float32 (tokens, 1, head_dim / 2, 2): they broadcast over batch and heads."""


def video_table(frames: int, height: int, width: int, head_dim: int, device: torch.device) -> RotaryTable:
    """Return the table for a grid of patches, in the order frames, height, width."""
    time_dim, space_dim = _split(head_dim)
    angles = [
        _angles(frames, time_dim, device).view(frames, 1, 1, -1).expand(frames, height, width, -1),
        _angles(height, space_dim, device).view(1, height, 1, -1).expand(frames, height, width, -1),
        _angles(width, space_dim, device).view(1, 1, width, -1).expand(frames, height, width, -1),
    ]
    return _table(torch.cat(angles, dim=-1).flatten(0, 2))


def audio_table(length: int, head_dim: int, scaling: float, device: torch.device) -> RotaryTable:
    """Return the table for `length` audio latents; `scaling` maps their rate to that of the video latents."""
    time_dim, space_dim = _split(head_dim)
    still = torch.zeros(length, space_dim, device=device, dtype=torch.float64)
    return _table(torch.cat([_angles(length, time_dim, device) * scaling, still], dim=-1))


def normalised_and_rotated(x: Tensor, norm: nn.RMSNorm, heads: int, table: RotaryTable) -> Tensor:
    """Apply RMS norm to x (batch, tokens, dim) and rotate its heads by their positions.

    Computed in float32 or wider and rounded once, to the dtype of x; returns (batch, tokens, heads, head_dim).
    """

    def work(part: Tensor, turns: Tensor) -> Tensor:
        wide = _at_least_float32(part.dtype)
        power = torch.linalg.vector_norm(part, dim=-1, keepdim=True, dtype=wide).square()
        scale = torch.rsqrt(power / part.shape[-1] + norm.eps)
        # A token has fewer turns than values, so its scale goes to the turns.
        turns = turns * scale.unsqueeze(-1).unsqueeze(-1)
        return _rotated((part * norm.weight.to(wide)).unflatten(-1, (heads, -1)), turns).to(part.dtype)

    return in_chunks(work, x, table.turns)


def rotate(x: Tensor, table: RotaryTable) -> Tensor:
    """Rotate x (batch, tokens, heads, head_dim) by its positions, in float32 or wider; the result has its dtype."""
    return in_chunks(_rotated, x, table.turns)


def _rotated(x: Tensor, turns: Tensor) -> Tensor:
    pairs = x.to(_at_least_float32(x.dtype)).unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # the compiler fuses real numbers alone
        even, odd = pairs.unbind(-1)
        cos, sin = turns.unbind(-1)
        turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    else:
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(turns))
    return turned.flatten(-2).to(x.dtype)


def in_chunks(function: Callable[..., Tensor], x: Tensor, *tables: Tensor) -> Tensor:
    """Apply a token-wise function to x (batch, tokens, ...) and tables (tokens, ...), some tokens at a time.

    The result is the same as for all tokens at once; the temporary memory does not grow with the clip.
    """
    if x.shape[1] <= TOKENS_AT_ONCE:
        return function(x, *tables)
    parts = zip(x.split(TOKENS_AT_ONCE, dim=1), *(table.split(TOKENS_AT_ONCE) for table in tables), strict=True)
    return torch.cat([function(*part) for part in parts], dim=1)


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _split(head_dim: int) -> tuple[int, int]:
    """Return the number of channels for time, and that for height and for width."""
    space_dim = 2 * (head_dim // 6)
    return head_dim - 2 * space_dim, space_dim


def _angles(length: int, dim: int, device: torch.device) -> Tensor:
    """Return angles, float64 (length, dim / 2)."""
    exponents = torch.arange(0, dim, 2, device=device, dtype=torch.float64) / dim
    return torch.outer(torch.arange(length, device=device, dtype=torch.float64), _THETA**-exponents)


def _table(angles: Tensor) -> RotaryTable:
    return RotaryTable(torch.stack([angles.cos(), angles.sin()], dim=-1).float().unsqueeze(1))
