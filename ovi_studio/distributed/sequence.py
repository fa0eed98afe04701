"""Sequence parallelism: several ranks share the video tokens of one pass (Ulysses, arXiv 2309.14509, adapted to Ovi).

Only video is sharded; the few hundred audio tokens are on every rank. Hence four of the six attentions of a block are
local: both to text, video to audio, and audio to itself. The other two communicate:

- video's self-attention: one exchange of queries, keys and values, from some tokens with all heads to all tokens with
  some heads, and one exchange back for the result;
- audio's attention to video: every rank attends to its own tokens, and the partial results are weighted by their
  log-sum-exp and summed.

Tokens are padded to a multiple of the number of ranks; padding never becomes a key and is cut off at the end, so it
changes nothing. Buffers are reused from block to block. Nothing here waits for the device.
"""

import math
from functools import cached_property

import torch
import torch.distributed as dist
from diffusers.models.attention_dispatch import AttentionBackendName
from torch import Tensor
from torch.nn import functional

from ovi_studio.distributed.partial_attention import attention_with_log_sum
from ovi_studio.models.rotary import RotaryTable
from ovi_studio.models.token_layout import Deferred, Heads, TokenLayout


class SequenceParallel(TokenLayout):
    """This rank's part of the video tokens of one clip.

    Args:
        group: the ranks that share the tokens, in token order.
        tokens: the number of video tokens of the clip.
    """

    def __init__(self, group: dist.ProcessGroup, tokens: int) -> None:
        self._group = group
        self._ranks = dist.get_world_size(group)
        self._tokens = tokens
        self._shard_size = math.ceil(tokens / self._ranks)
        self._first = dist.get_rank(group) * self._shard_size
        self._buffers: dict[tuple[str, torch.Size, torch.dtype], Tensor] = {}

    @cached_property
    def own(self) -> int:
        """The number of this rank's tokens without padding; 0 if its whole shard is padding."""
        return max(0, min(self._shard_size, self._tokens - self._first))

    def shard(self, tokens: Tensor) -> Tensor:
        part = tokens[:, self._first : self._first + self.own]
        return functional.pad(part, (0, 0, 0, self._shard_size - self.own))

    def shard_table(self, table: RotaryTable) -> RotaryTable:
        part = table.turns[self._first : self._first + self.own]
        return RotaryTable(functional.pad(part, (0, 0, 0, 0, 0, 0, 0, self._shard_size - self.own)))

    def shard_rows(self, rows: Tensor, boundary: int) -> tuple[Tensor, int]:
        before = min(max(0, boundary - self._first), self._shard_size)
        if before == 0:
            return rows[:, -1:], 0
        return (rows[:, :1], 0) if before == self._shard_size else (rows, before)

    def all_gather(self, tokens: Tensor) -> Tensor:
        gathered = tokens.new_empty(self._ranks, *tokens.shape)
        dist.all_gather_into_tensor(gathered.flatten(0, 1), tokens.contiguous(), group=self._group)
        return gathered.transpose(0, 1).flatten(1, 2)[:, : self._tokens]

    @torch.compiler.disable
    def to_heads(self, heads: Heads) -> Deferred[Heads]:
        batch, shard, count, width = heads[0].shape
        shape = torch.Size((self._ranks, len(heads), batch, shard, count // self._ranks, width))
        outgoing, incoming = (self._buffer(name, shape, heads[0]) for name in ("heads out", "heads in"))
        for index, x in enumerate(heads):
            outgoing[:, index] = x.unflatten(2, (self._ranks, -1)).permute(2, 0, 1, 3, 4)
        work = dist.all_to_all_single(incoming, outgoing, group=self._group, async_op=True)

        def arrive() -> Heads:
            work.wait()
            # (ranks, q/k/v, batch, tokens, heads, width) -> the ranks' tokens joined in order
            query, key, value = incoming.permute(1, 2, 0, 3, 4, 5).flatten(2, 3)[:, :, : self._tokens].unbind()
            return query, key, value

        return arrive

    @torch.compiler.disable
    def to_tokens(self, x: Tensor) -> Tensor:
        batch, _, count, width = x.shape
        shape = torch.Size((self._ranks, batch, self._shard_size, count, width))
        outgoing, incoming = (self._buffer(name, shape, x) for name in ("tokens out", "tokens in"))
        padded = functional.pad(x, (0, 0, 0, 0, 0, self._ranks * self._shard_size - self._tokens))
        outgoing.copy_(padded.unflatten(1, (self._ranks, self._shard_size)).transpose(0, 1))
        dist.all_to_all_single(incoming, outgoing, group=self._group)
        # (ranks, batch, tokens, heads, width) -> the ranks' heads joined in order
        return incoming.permute(1, 2, 0, 3, 4).flatten(2, 3)

    @torch.compiler.disable
    def attend(self, query: Tensor, key: Tensor, value: Tensor, backend: AttentionBackendName) -> Deferred[Tensor]:
        partial, log_sum = attention_with_log_sum(query, key[:, : self.own], value[:, : self.own])
        log_sums = self._buffer("log sums", torch.Size((self._ranks, *log_sum.shape)), log_sum)
        dist.all_gather_into_tensor(log_sums.flatten(0, 1), log_sum, group=self._group)
        weighted = partial * (log_sum - log_sums.logsumexp(dim=0)).exp().unsqueeze(-1)
        total = weighted.to(query.dtype)
        work = dist.all_reduce(total, group=self._group, async_op=True)

        def arrive() -> Tensor:
            work.wait()
            return total

        return arrive

    def _buffer(self, name: str, shape: torch.Size, like: Tensor) -> Tensor:
        key = (name, shape, like.dtype)
        if key not in self._buffers:
            self._buffers[key] = torch.empty(shape, dtype=like.dtype, device=like.device)
        return self._buffers[key]
