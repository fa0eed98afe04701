"""The fusion block: both towers' layers at one depth, with the parameter names of the official checkpoints.

Each tower attends to itself, then with one query to the text and to the other tower's tokens, then goes through
its feed-forward layers. All tokens share one timestep, except that those of a clean first frame have timestep 0: there
are one or two rows of modulation, not one per token.

Attention is started by one call and finished by calling what that returns: tokens may have to be exchanged between
ranks (`models.token_layout`), and meanwhile the other tower computes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from diffusers.models.attention_dispatch import AttentionBackendName
from torch import Tensor, nn
from torch.nn import functional

from ovi_studio.models.attention import attention
from ovi_studio.models.quantized_linear import ScaledLinear, parallel_linear
from ovi_studio.models.rotary import RotaryTable, in_chunks, normalised_and_rotated, rotate
from ovi_studio.models.token_layout import UNSHARDED, Deferred, TokenLayout


class KeyValue(NamedTuple):
    """Keys and values, (batch, tokens, heads, head_dim) each."""

    key: Tensor
    value: Tensor


class Modulation(NamedTuple):
    """Rows that modulate tokens: the first `boundary` tokens take row 0, the others the last row."""

    rows: Tensor
    """(batch, 1 or 2, values, dim)"""
    boundary: int


class Stream(NamedTuple):
    """One tower's tokens on their way through the blocks."""

    tokens: Tensor
    """(batch, tokens, dim)"""
    modulation: Modulation
    rotary: RotaryTable
    token_layout: TokenLayout = UNSHARDED
    """How the tokens are distributed over the ranks."""


class SelfAttention(nn.Module):
    """Multi-head attention with RMS norm on queries and keys over the whole width."""

    def __init__(self, dim: int, num_heads: int, eps: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.o = nn.Linear(dim, dim)
        self.norm_q = nn.RMSNorm(dim, eps=eps)
        self.norm_k = nn.RMSNorm(dim, eps=eps)
        self.backend = AttentionBackendName.NATIVE

    def forward(self, x: Tensor, rotary: RotaryTable, token_layout: TokenLayout) -> Deferred[Tensor]:
        query, key, value = _parallel_linear(x, self.q, self.k, self.v)
        query = normalised_and_rotated(query, self.norm_q, self.num_heads, rotary)
        key = normalised_and_rotated(key, self.norm_k, self.num_heads, rotary)
        arrive = token_layout.to_heads((query, key, self.heads(value)))

        def finish() -> Tensor:
            result = token_layout.to_tokens(attention(*arrive(), self.backend))
            return _linear(self.o, result.flatten(2))

        return finish

    def heads(self, x: Tensor) -> Tensor:
        """(batch, tokens, dim) -> (batch, tokens, heads, head_dim)"""
        return x.unflatten(-1, (self.num_heads, -1))


class CrossAttention(SelfAttention):
    """One query attends to the text and to the other tower; the two results are added before the output projection.

    Queries and keys between the towers carry their own tower's rotary embedding; text attention carries none.
    """

    def __init__(self, dim: int, num_heads: int, eps: float) -> None:
        super().__init__(dim, num_heads, eps)
        self.k_fusion = nn.Linear(dim, dim)
        self.v_fusion = nn.Linear(dim, dim)
        self.pre_attn_norm_fusion = nn.LayerNorm(dim, eps=1e-6)
        self.norm_k_fusion = nn.RMSNorm(dim, eps=1e-6)

    def project_text(self, context: Tensor) -> KeyValue:
        """Project embedded text (batch, text_len, dim) to this block's keys and values."""
        return KeyValue(self.heads(self.norm_k(self.k(context))), self.heads(self.v(context)))

    def forward(  # type: ignore[override]  # shares the layers of self-attention, not its call
        self, x: Tensor, rotary: RotaryTable, text: KeyValue, other: Stream
    ) -> Deferred[Tensor]:
        query = self.heads(self.norm_q(_linear(self.q, x)))
        key, value = _parallel_linear(self.pre_attn_norm_fusion(other.tokens), self.k_fusion, self.v_fusion)
        key = normalised_and_rotated(key, self.norm_k_fusion, self.num_heads, other.rotary)
        texts = x.shape[0] // key.shape[0]
        asking = _side_by_side(rotate(query, rotary), texts)
        from_other = other.token_layout.attend(asking, key, self.heads(value), self.backend)
        from_text = attention(query, text.key, text.value, self.backend)
        return lambda: _linear(self.o, (from_text + _along_batch(from_other(), texts)).flatten(2))


class BlockModulation(nn.Module):
    """The block's own offset to the six modulation values: shift, scale and gate for attention and for feed-forward."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.modulation = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)

    def forward(self, modulation: Modulation) -> list[Modulation]:
        rows = modulation.rows + self.modulation.unsqueeze(0)
        return [Modulation(value, modulation.boundary) for value in rows.unbind(2)]


class TowerBlock(nn.Module):
    """One tower's half of a fusion block."""

    def __init__(self, dim: int, ffn_dim: int, num_heads: int, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps, elementwise_affine=False)
        self.self_attn = SelfAttention(dim, num_heads, eps)
        self.norm3 = nn.LayerNorm(dim, eps)
        self.cross_attn = CrossAttention(dim, num_heads, eps)
        self.norm2 = nn.LayerNorm(dim, eps, elementwise_affine=False)
        self.ffn = nn.Sequential(nn.Linear(dim, ffn_dim), nn.GELU(approximate="tanh"), nn.Linear(ffn_dim, dim))
        self.modulation = BlockModulation(dim)

    def attend_to_itself(self, own: Stream, modulation: Sequence[Modulation]) -> Deferred[Tensor]:
        shift, scale, gate, *_ = modulation
        attended = self.self_attn(modulated(self.norm1, own.tokens, shift, scale), own.rotary, own.token_layout)
        return lambda: _gated(own.tokens, attended(), gate)

    def attend_to_others(
        self, own: Stream, modulation: Sequence[Modulation], text: KeyValue, other: Stream
    ) -> Deferred[Tensor]:
        *_, shift, scale, gate = modulation
        attended = self.cross_attn(self.norm3(own.tokens), own.rotary, text, other)

        def finish() -> Tensor:
            x = own.tokens + attended()
            widen, activate, narrow = self.ffn
            change = in_chunks(
                lambda part: _linear(narrow, activate(_linear(widen, part))), modulated(self.norm2, x, shift, scale)
            )
            return _gated(x, change, gate)

        return finish


class BlockInput(NamedTuple):
    """Input of a block for one pass."""

    video: Stream
    audio: Stream
    video_text: KeyValue
    audio_text: KeyValue


class FusionBlock(nn.Module):
    """Both towers' blocks at one depth: the unit that is compiled, sharded, offloaded or left out.

    Its weights are used in `forward` and `project_text` alone, so moving or gathering them needs two hooks.
    """

    def __init__(self, video: TowerBlock, audio: TowerBlock) -> None:
        super().__init__()
        self.video = video
        self.audio = audio

    def forward(self, inputs: Sequence[BlockInput]) -> list[tuple[Tensor, Tensor]]:
        """Return new tokens of both towers for every input.

        One call serves all passes, so that the weights are fetched once; the passes are computed one after the other,
        since a batch of both would take twice the memory. A pass that skips this block has no input here, but the
        block is called even without inputs: which weights are fetched does not depend on the passes.
        """
        return [self.forward_one(*one) for one in inputs]

    def project_text(self, video_context: Tensor, audio_context: Tensor) -> tuple[KeyValue, KeyValue]:
        """Return keys and values of both towers for embedded text (batch, text_len, dim)."""
        return self.video.cross_attn.project_text(video_context), self.audio.cross_attn.project_text(audio_context)

    def forward_one(
        self, video: Stream, audio: Stream, video_text: KeyValue, audio_text: KeyValue
    ) -> tuple[Tensor, Tensor]:
        """Compute one pass. Each tower attends to the other's tokens from before that one's cross-attention."""
        video_modulation = self.video.modulation(video.modulation)
        audio_modulation = self.audio.modulation(audio.modulation)
        # The exchange that a call starts goes on while the next call computes.
        x = self.video.attend_to_itself(video, video_modulation)
        y = self.audio.attend_to_itself(audio, audio_modulation)
        # Not with `_replace`: torch 2.11's compiler turns that into an incomplete tuple where ranks exchange tokens.
        audio = Stream(y(), audio.modulation, audio.rotary, audio.token_layout)
        video = Stream(x(), video.modulation, video.rotary, video.token_layout)
        del x, y  # frees the queries, keys and values that they hold
        y = self.audio.attend_to_others(audio, audio_modulation, audio_text, video)
        # Without the audio of another text (`audio_branch`), which follows along the batch.
        own = audio.tokens[: video.tokens.shape[0]]
        audio = Stream(own, audio.modulation, audio.rotary, audio.token_layout)
        x = self.video.attend_to_others(video, video_modulation, video_text, audio)
        return x(), y()


def _side_by_side(query: Tensor, texts: int) -> Tensor:
    """(texts * batch, tokens, heads, head_dim) -> (batch, texts * tokens, ...): all texts attend to the same keys."""
    return query if texts == 1 else query.unflatten(0, (texts, -1)).transpose(0, 1).flatten(1, 2)


def _along_batch(x: Tensor, texts: int) -> Tensor:
    """Invert `_side_by_side`."""
    return x if texts == 1 else x.unflatten(1, (texts, -1)).transpose(0, 1).flatten(0, 1)


def _parallel_linear(x: Tensor, *layers: nn.Module) -> Sequence[Tensor]:
    """Apply several linear layers to the same input, which layers in 8 bits quantise once.

    Plain layers stay apart: one wide product would be no faster, but would need a copy of the joined weights, and its
    parts would have to be copied to be contiguous again.
    """
    quantised = [layer for layer in layers if isinstance(layer, ScaledLinear)]
    if len(quantised) == len(layers):
        return parallel_linear(x, quantised)
    return [_linear(layer, x) for layer in layers]


def _linear(layer: nn.Module, x: Tensor) -> Tensor:
    return _product(x, layer.weight, layer.bias) if type(layer) is nn.Linear else layer(x)


def _product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply a linear layer; compiled for a CPU, the bias is fused with the operations that follow."""
    if torch.compiler.is_compiling() and x.device.type == "cpu":
        return x @ weight.T + bias
    return functional.linear(x, weight, bias)


def modulated(norm: nn.LayerNorm, x: Tensor, shift: Modulation, scale: Modulation) -> Tensor:
    """Return norm(x) * (1 + scale) + shift, with each token's modulation row; the norm has no weights of its own."""
    result = _scaled_norm(norm, x, shift.rows[:, -1], scale.rows[:, -1])
    if boundary := shift.boundary:
        result[:, :boundary] = _scaled_norm(norm, x[:, :boundary], shift.rows[:, 0], scale.rows[:, 0])
    return result


def _scaled_norm(norm: nn.LayerNorm, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return norm(x) * (1 + scale) + shift for x (batch, tokens, dim) and rows (batch, dim)."""
    if x.shape[0] == 1:  # one kernel takes the row as the norm's weights
        return functional.layer_norm(x, norm.normalized_shape, 1 + scale[0], shift[0], norm.eps)
    return torch.addcmul(shift.unsqueeze(1), norm(x), 1 + scale.unsqueeze(1))


def _gated(x: Tensor, change: Tensor, gate: Modulation) -> Tensor:
    """Return x + change * gate, with each token's modulation row."""
    result = torch.addcmul(x, change, gate.rows[:, -1:])
    if boundary := gate.boundary:
        result[:, :boundary] = torch.addcmul(x[:, :boundary], change[:, :boundary], gate.rows[:, :1])
    return result
