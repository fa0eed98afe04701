"""Where the video tokens of a pass are. `TokenLayout`: all of them here, which makes every method a matter of course.

The transformer asks this object whenever it matters that tokens may be shared by several ranks; `distributed.sequence`
has the one that shares them. Whatever may take time on the way to other ranks is begun by one call and ended by
calling its result, so that other work can be done in between.
"""

from collections.abc import Callable
from typing import TypeVar

from diffusers.models.attention_dispatch import AttentionBackendName
from torch import Tensor

from ovi_studio.models.attention import attention
from ovi_studio.models.rotary import RotaryTable

T = TypeVar("T")
Deferred = Callable[[], T]
"""Something under way; calling it waits for it."""
Heads = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values, (batch, tokens, heads, head_dim) each."""


class TokenLayout:
    """Every token is here."""

    def shard(self, tokens: Tensor) -> Tensor:
        """This rank's part of (batch, tokens, dim)."""
        return tokens

    def shard_table(self, table: RotaryTable) -> RotaryTable:
        """The positions of this rank's tokens."""
        return table

    def shard_rows(self, rows: Tensor, boundary: int) -> tuple[Tensor, int]:
        """Rows of modulation (batch, 1 or 2, ...) and how many of this rank's tokens take the first of two."""
        return rows, boundary

    def all_gather(self, tokens: Tensor) -> Tensor:
        """All ranks' parts (batch, tokens, width) as the whole again, on every rank."""
        return tokens

    def to_heads(self, heads: Heads) -> Deferred[Heads]:
        """From some tokens with all heads to all tokens with some heads."""
        return lambda: heads

    def to_tokens(self, x: Tensor) -> Tensor:
        """From all tokens with some heads to some tokens with all heads."""
        return x

    def attend(self, query: Tensor, key: Tensor, value: Tensor, backend: AttentionBackendName) -> Deferred[Tensor]:
        """Attention of a query that is the same on every rank to these tokens, of which this rank has its part."""
        result = attention(query, key, value, backend)
        return lambda: result


UNSHARDED = TokenLayout()
