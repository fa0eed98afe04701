"""Ovi's transformer (arXiv 2510.01284): two towers of equal shape, over video and audio latents, fused block by block.

In every block each tower attends to itself, then with one query to the text and to the other tower's tokens, then
goes through its feed-forward layers. Parameter names are those of the official checkpoints. Three things are done
once where the official code does them again and again, with the same result:

- all tokens share one timestep, except that those of a clean first frame have timestep 0: there are one or two rows of
  modulation, not one per token;
- text keys and values depend on the prompt alone (`prepare_text`), not on the step;
- rotary tables depend on the grid alone and are kept from step to step.

Nothing in a forward pass waits for the device: no tensor is read on the host.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.attention_dispatch import AttentionBackendName
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional

from ovi_studio.models.attention import attention
from ovi_studio.models.rotary import RotaryTable, audio_table, rotate, video_table


class KeyValue(NamedTuple):
    """(batch, tokens, heads, head_dim) each."""

    key: Tensor
    value: Tensor


class TextContext(NamedTuple):
    """What a prompt means to every block of each tower; computed once, used in every step."""

    video: Sequence[KeyValue]
    audio: Sequence[KeyValue]


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

    def forward(self, x: Tensor, rotary: RotaryTable) -> Tensor:
        query, key, value = _side_by_side(x, self.q, self.k, self.v)
        query = rotate(self.heads(self.norm_q(query)), rotary)
        key = rotate(self.heads(self.norm_k(key)), rotary)
        return _linear(self.o, attention(query, key, self.heads(value), self.backend).flatten(2))

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
        """Embedded text (batch, text_len, dim) as this block's keys and values."""
        return KeyValue(self.heads(self.norm_k(self.k(context))), self.heads(self.v(context)))

    def forward(  # type: ignore[override]
        self, x: Tensor, rotary: RotaryTable, text: KeyValue, other: Tensor, other_rotary: RotaryTable
    ) -> Tensor:
        query = self.heads(self.norm_q(_linear(self.q, x)))
        from_text = attention(query, text.key, text.value, self.backend)
        key, value = _side_by_side(self.pre_attn_norm_fusion(other), self.k_fusion, self.v_fusion)
        key = rotate(self.heads(self.norm_k_fusion(key)), other_rotary)
        from_other = attention(rotate(query, rotary), key, self.heads(value), self.backend)
        return _linear(self.o, (from_text + from_other).flatten(2))


class BlockModulation(nn.Module):
    """The block's own offset to the six values (shift, scale, gate; before attention and feed-forward)."""

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

    def attend_to_itself(self, x: Tensor, modulation: Sequence[Modulation], rotary: RotaryTable) -> Tensor:
        shift, scale, gate, *_ = modulation
        return _gated(x, self.self_attn(_modulated(self.norm1(x), shift, scale), rotary), gate)

    def attend_to_others(
        self,
        x: Tensor,
        modulation: Sequence[Modulation],
        rotary: RotaryTable,
        text: KeyValue,
        other: Tensor,
        other_rotary: RotaryTable,
    ) -> Tensor:
        *_, shift, scale, gate = modulation
        x = x + self.cross_attn(self.norm3(x), rotary, text, other, other_rotary)
        widen, activate, narrow = self.ffn
        hidden = activate(_linear(widen, _modulated(self.norm2(x), shift, scale)))
        return _gated(x, _linear(narrow, hidden), gate)


class FusionBlock(nn.Module):
    """Both towers' blocks at one depth: the unit that is compiled, sharded, offloaded or left out."""

    def __init__(self, video: TowerBlock, audio: TowerBlock) -> None:
        super().__init__()
        self.video = video
        self.audio = audio

    def forward(
        self, video: Stream, audio: Stream, video_text: KeyValue, audio_text: KeyValue
    ) -> tuple[Tensor, Tensor]:
        """New tokens of both towers. Each attends to what the other was before its own cross-attention."""
        video_modulation = self.video.modulation(video.modulation)
        audio_modulation = self.audio.modulation(audio.modulation)
        x = self.video.attend_to_itself(video.tokens, video_modulation, video.rotary)
        y = self.audio.attend_to_itself(audio.tokens, audio_modulation, audio.rotary)
        return (
            self.video.attend_to_others(x, video_modulation, video.rotary, video_text, y, audio.rotary),
            self.audio.attend_to_others(y, audio_modulation, audio.rotary, audio_text, x, video.rotary),
        )


class Head(nn.Module):
    """Norm, shift and scale by the time embedding, and the projection to latent channels."""

    def __init__(self, dim: int, out_features: int, eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps, elementwise_affine=False)
        self.head = nn.Linear(dim, out_features)
        self.modulation = nn.Parameter(torch.randn(1, 2, dim) / dim**0.5)

    def forward(self, x: Tensor, time: Modulation) -> Tensor:
        """x (batch, tokens, dim); time rows (batch, rows, 1, dim)"""
        shift, scale = (time.rows + self.modulation.unsqueeze(0)).unbind(2)
        return self.head(_modulated(self.norm(x), Modulation(shift, time.boundary), Modulation(scale, time.boundary)))


class ChannelLastConv1d(nn.Conv1d):
    """Convolution along the tokens of (batch, tokens, channels)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class GatedConvMLP(nn.Module):
    """SwiGLU with convolutions; two thirds of the hidden width, rounded up to a multiple of 256."""

    def __init__(self, dim: int, hidden_dim: int, kernel_size: int) -> None:
        super().__init__()
        width = 256 * math.ceil(2 * hidden_dim // 3 / 256)
        padding = kernel_size // 2
        self.w1 = ChannelLastConv1d(dim, width, kernel_size, padding=padding, bias=False)
        self.w2 = ChannelLastConv1d(width, dim, kernel_size, padding=padding, bias=False)
        self.w3 = ChannelLastConv1d(dim, width, kernel_size, padding=padding, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(functional.silu(self.w1(x)) * self.w3(x))


class Tower(nn.Module):
    """Embeddings, blocks and head over one kind of latents; the keyword arguments are the official configuration."""

    def __init__(
        self,
        *,
        dim: int,
        ffn_dim: int,
        freq_dim: int,
        num_heads: int,
        num_layers: int,
        text_len: int,
        patch_size: Sequence[int],
        in_dim: int,
        out_dim: int,
        text_dim: int = 4096,
        eps: float = 1e-6,
        temporal_rope_scaling_factor: float = 1.0,
        **unused: Any,
    ) -> None:
        super().__init__()
        _refuse_other_architectures(unused)
        self.freq_dim = freq_dim
        self.head_dim = dim // num_heads
        self.text_len = text_len
        self.patch_size = tuple(patch_size)
        self.rope_scaling = temporal_rope_scaling_factor
        self.patch_embedding = self._patch_embedding(in_dim, dim)
        self.text_embedding = nn.Sequential(nn.Linear(text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim))
        self.time_embedding = nn.Sequential(nn.Linear(freq_dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, dim * 6))
        self.blocks = nn.ModuleList(TowerBlock(dim, ffn_dim, num_heads, eps) for _ in range(num_layers))
        self.head = Head(dim, math.prod(patch_size) * out_dim, eps)

    def _patch_embedding(self, in_dim: int, dim: int) -> nn.Module:
        raise NotImplementedError

    def embed_time(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """Timesteps (batch, rows) -> time embedding (batch, rows, 1, dim) and modulation (batch, rows, 6, dim)."""
        dtype = self.time_embedding[0].weight.dtype
        time = self.time_embedding(_sinusoid(timestep, self.freq_dim).to(dtype))
        return time.unsqueeze(2), self.time_projection(time).unflatten(-1, (6, -1))

    def embed_text(self, embeddings: Tensor) -> Tensor:
        """Text encoder output (batch, tokens, text_dim), zero-padded to `text_len` and not masked, as in training."""
        padding = self.text_len - embeddings.shape[1]
        return self.text_embedding(functional.pad(embeddings, (0, 0, 0, padding)))

    def project_text(self, embeddings: Tensor) -> list[KeyValue]:
        context = self.embed_text(embeddings)
        return [block.cross_attn.project_text(context) for block in self.blocks]


class VideoTower(Tower):
    """Over latents (batch, channels, frames, height, width)."""

    def _patch_embedding(self, in_dim: int, dim: int) -> nn.Module:
        return nn.Conv3d(in_dim, dim, kernel_size=self.patch_size, stride=self.patch_size)

    def patchify(self, latents: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
        """Tokens (batch, tokens, dim) and their grid (frames, height, width)."""
        patches = self.patch_embedding(latents)
        frames, height, width = patches.shape[2:]
        return patches.flatten(2).transpose(1, 2), (frames, height, width)

    def unpatchify(self, tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Head output (batch, tokens, patch * channels) -> latents."""
        patches = tokens.unflatten(2, (*self.patch_size, -1)).unflatten(1, grid)
        # batch, frames, height, width, patch in each direction, channels -> channels first, patches beside their grid
        return patches.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)


class AudioTower(Tower):
    """Over latents (batch, length, channels)."""

    def _patch_embedding(self, in_dim: int, dim: int) -> nn.Module:
        return nn.Sequential(
            ChannelLastConv1d(in_dim, dim, kernel_size=7, padding=3), nn.SiLU(), GatedConvMLP(dim, dim * 4, 7)
        )


class OviTransformer(ModelMixin, ConfigMixin):
    """Velocity of video and audio latents at one timestep, given text.

    Args:
        video, audio: the official tower configurations (`models/ovi.json`, entry `fusion`).
    """

    _no_split_modules = ("TowerBlock",)

    @register_to_config
    def __init__(self, video: Mapping[str, Any], audio: Mapping[str, Any]) -> None:
        super().__init__()
        self.video_model = VideoTower(**video)
        self.audio_model = AudioTower(**audio)
        # A view of the towers' blocks and no registered module, so that parameters keep their official names.
        pairs = zip(self.video_model.blocks, self.audio_model.blocks, strict=True)
        self.fusion_blocks: tuple[nn.Module, ...] = tuple(FusionBlock(*pair) for pair in pairs)
        self._rotary: tuple[tuple[Any, ...], tuple[RotaryTable, RotaryTable]] | None = None

    def set_attention(self, backend: AttentionBackendName) -> None:
        """Use another attention kernel in every block (see `attention.choose_backend`)."""
        for module in self.modules():
            if isinstance(module, SelfAttention):
                module.backend = backend

    def compile_blocks(self) -> None:
        """Compile the fusion block: one compilation serves all of them, since they are alike."""
        for block in self.fusion_blocks:
            block.compile()

    def prepare_text(self, video_embeddings: Tensor, audio_embeddings: Tensor) -> TextContext:
        """Keys and values of every block for text embeddings (batch, tokens, text_dim), one for each tower."""
        return TextContext(
            self.video_model.project_text(video_embeddings), self.audio_model.project_text(audio_embeddings)
        )

    def forward(
        self,
        video: Tensor,
        audio: Tensor,
        timestep: Tensor,
        text: TextContext,
        *,
        clean_first_frame: bool = False,
        skip_block: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Predicted velocities, in the shapes of the latents.

        Args:
            video: latents (batch, channels, frames, height, width).
            audio: latents (batch, length, channels).
            timestep: (batch,), from 0 (clean) to 1000 (noise).
            text: from `prepare_text`.
            clean_first_frame: the first latent frame is given, not noisy; its tokens have timestep 0.
            skip_block: depth of the block that is left out (skip-layer guidance).
        """
        tokens, grid = self.video_model.patchify(video)
        audio_tokens = self.audio_model.patch_embedding(audio)
        rotary = self._rotary_tables(grid, audio_tokens.shape[1], tokens.device)
        boundary = grid[1] * grid[2] if clean_first_frame else 0
        steps = torch.stack([torch.zeros_like(timestep), timestep] if clean_first_frame else [timestep], dim=1)
        video_time, video_rows = self.video_model.embed_time(steps)
        audio_time, audio_rows = self.audio_model.embed_time(timestep.unsqueeze(1))

        video_stream = Stream(tokens, Modulation(video_rows, boundary), rotary[0])
        audio_stream = Stream(audio_tokens, Modulation(audio_rows, 0), rotary[1])
        for depth, block in enumerate(self.fusion_blocks):
            if depth == skip_block:
                continue
            tokens, audio_tokens = block(video_stream, audio_stream, text.video[depth], text.audio[depth])
            video_stream = video_stream._replace(tokens=tokens)
            audio_stream = audio_stream._replace(tokens=audio_tokens)

        velocity = self.video_model.head(video_stream.tokens, Modulation(video_time, boundary))
        audio_velocity = self.audio_model.head(audio_stream.tokens, Modulation(audio_time, 0))
        return self.video_model.unpatchify(velocity, grid), audio_velocity

    def _rotary_tables(
        self, grid: tuple[int, int, int], length: int, device: torch.device
    ) -> tuple[RotaryTable, RotaryTable]:
        key = (grid, length, device)
        if self._rotary is None or self._rotary[0] != key:
            video, audio = self.video_model, self.audio_model
            tables = (
                video_table(*grid, video.head_dim, device),
                audio_table(length, audio.head_dim, audio.rope_scaling, device),
            )
            self._rotary = (key, tables)
        return self._rotary[1]


def _sinusoid(timestep: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding (..., dim), float64: a handful of values, whose angles reach 1000 radians."""
    position = timestep.double()
    exponents = torch.arange(dim // 2, device=timestep.device, dtype=torch.float64) / (dim // 2)
    angles = position.unsqueeze(-1) * 10_000.0**-exponents
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _side_by_side(x: Tensor, *layers: nn.Module) -> Sequence[Tensor]:
    """Several linear layers on the same input, as one wider product where they are plain layers.

    Joining the weights costs a copy of them, which is little beside the product: one wide product of 2,304 tokens takes
    0.88 of the time of three narrow ones (width 512, CPU). Layers with an adapter beside them go one by one.
    """
    if any(type(layer) is not nn.Linear for layer in layers):
        return [layer(x) for layer in layers]
    weight = torch.cat([layer.weight for layer in layers])
    return _product(x, weight, torch.cat([layer.bias for layer in layers])).chunk(len(layers), dim=-1)


def _linear(layer: nn.Module, x: Tensor) -> Tensor:
    return _product(x, layer.weight, layer.bias) if type(layer) is nn.Linear else layer(x)


def _product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer; compiled for a CPU, the bias joins the operations that follow instead of a pass of its own."""
    if torch.compiler.is_compiling() and x.device.type == "cpu":
        return x @ weight.T + bias
    return functional.linear(x, weight, bias)


def _modulated(x: Tensor, shift: Modulation, scale: Modulation) -> Tensor:
    """x * (1 + scale) + shift, row by row"""
    parts = zip(_rows(x, shift.boundary), shift.rows.unbind(1), scale.rows.unbind(1), strict=True)
    return _joined([torch.addcmul(low.unsqueeze(1), part, 1 + high.unsqueeze(1)) for part, low, high in parts])


def _gated(x: Tensor, change: Tensor, gate: Modulation) -> Tensor:
    """x + change * gate, row by row"""
    parts = zip(_rows(x, gate.boundary), _rows(change, gate.boundary), gate.rows.unbind(1), strict=True)
    return _joined([torch.addcmul(part, delta, row.unsqueeze(1)) for part, delta, row in parts])


def _rows(x: Tensor, boundary: int) -> list[Tensor]:
    return [x[:, :boundary], x[:, boundary:]] if boundary else [x]


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _refuse_other_architectures(options: Mapping[str, Any]) -> None:
    """The official configuration has switches of which every published checkpoint uses one position."""
    expected = {"model_type": ("ti2v", "t2a"), "window_size": ([-1, -1], (-1, -1)), "qk_norm": (True,)}
    expected["cross_attn_norm"] = (True,)
    for name, value in options.items():
        if value not in expected.get(name, ()):
            raise ValueError(f"tower option {name}={value!r} is not supported")
