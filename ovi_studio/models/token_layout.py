"""How the video tokens of a pass are distributed over ranks. `TokenLayout` itself keeps all of them on this rank.

The transformer calls this object wherever tokens may be sharded over several ranks; the layout that shards them is in
`distributed.sequence`. Communication that may take time is started by one call and finished by calling its result, so
that other work can be done in between.
"""

from collections.abc import Callable
from typing import TypeVar

from diffusers.models.attention_dispatch import AttentionBackendName
from torch import Tensor

from ovi_studio.models.attention import attention
from ovi_studio.models.rotary import RotaryTable

T = TypeVar("T")
Deferred = Callable[[], T]
"""A result in progress; calling it waits for it."""
Heads = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values, (batch, tokens, heads, head_dim) each."""


class TokenLayout:
    """Every token is on this rank."""

    def shard(self, tokens: Tensor) -> Tensor:
        """Return this rank's part of (batch, tokens, dim)."""
        return tokens

    def shard_table(self, table: RotaryTable) -> RotaryTable:
        """Return the positions of this rank's tokens."""
        return table

    def shard_rows(self, rows: Tensor, boundary: int) -> tuple[Tensor, int]:
        """Return this rank's modulation rows (batch, 1 or 2, ...) and how many of its tokens take the first of two."""
        return rows, boundary

    def all_gather(self, tokens: Tensor) -> Tensor:
        """Join all ranks' parts (batch, tokens, width), on every rank."""
        return tokens

    def to_heads(self, heads: Heads) -> Deferred[Heads]:
        """Start the exchange from some tokens with all heads to all tokens with some heads."""
        return lambda: heads

    def to_tokens(self, x: Tensor) -> Tensor:
        """Exchange all tokens with some heads for some tokens with all heads."""
        return x

    def attend(self, query: Tensor, key: Tensor, value: Tensor, backend: AttentionBackendName) -> Deferred[Tensor]:
        """Start attention of a query that is the same on every rank to tokens of which this rank has its part."""
        result = attention(query, key, value, backend)
        return lambda: result


UNSHARDED = TokenLayout()
