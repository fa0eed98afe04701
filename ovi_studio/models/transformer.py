"""Ovi's transformer (arXiv 2510.01284): two towers of equal shape, over video and audio latents, fused block by block.

Parameter names are those of the official checkpoints. Three things are done once where the official code repeats them,
with the same result:

- all tokens share one timestep, except that those of a clean first frame have timestep 0: there are one or two rows of
  modulation, not one per token;
- text keys and values depend on the prompt alone (`prepare_text`), not on the step;
- rotary tables depend on the grid alone and are cached from step to step.

Nothing in a forward pass waits for the device: no tensor is read on the host.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.attention_dispatch import AttentionBackendName
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional

from ovi_studio.models.audio_branch import AudioBranch, audio_after, block_audio, with_branch
from ovi_studio.models.compilation import compiled
from ovi_studio.models.fusion_block import (
    BlockInput,
    FusionBlock,
    KeyValue,
    Modulation,
    SelfAttention,
    Stream,
    TowerBlock,
    modulated,
)
from ovi_studio.models.rotary import RotaryTable, audio_table, video_table
from ovi_studio.models.token_layout import UNSHARDED, TokenLayout


class TextContext(NamedTuple):
    """Keys and values of a prompt for every block of each tower; computed once, used in every step."""

    video: Sequence[KeyValue]
    audio: Sequence[KeyValue]


class Pass(NamedTuple):
    """One pass through the blocks: positive or negative."""

    text: TextContext
    skip_block: int | None = None
    """Depth of the block to skip (skip-layer guidance)."""
    audio_branch: AudioBranch | None = None
    """A second text for audio; such a pass skips no block itself."""


class Head(nn.Module):
    """Norm, shift and scale by the time embedding, then the projection to latent channels."""

    def __init__(self, dim: int, out_features: int, eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps, elementwise_affine=False)
        self.head = nn.Linear(dim, out_features)
        self.modulation = nn.Parameter(torch.randn(1, 2, dim) / dim**0.5)

    def forward(self, x: Tensor, time: Modulation) -> Tensor:
        """x (batch, tokens, dim); time rows (batch, rows, 1, dim)"""
        shift, scale = (time.rows + self.modulation.unsqueeze(0)).unbind(2)
        return self.head(modulated(self.norm, x, Modulation(shift, time.boundary), Modulation(scale, time.boundary)))


class ChannelLastConv1d(nn.Conv1d):
    """Convolution along the tokens of (batch, tokens, channels)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2).contiguous()


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


class Tower(nn.Module, ABC):
    """Embeddings, blocks and head for one kind of latents; the keyword arguments are the official configuration."""

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

    @abstractmethod
    def _patch_embedding(self, in_dim: int, dim: int) -> nn.Module:
        """Build the layer that turns latents into tokens."""

    def tower_blocks(self) -> list[TowerBlock]:
        """Return the blocks with their type, which a `ModuleList` does not have."""
        return [block for block in self.blocks if isinstance(block, TowerBlock)]

    def embed_time(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """Embed timesteps (batch, rows): time embedding (batch, rows, 1, dim) and modulation (batch, rows, 6, dim)."""
        dtype = self.time_embedding[0].get_parameter("weight").dtype
        time = self.time_embedding(_sinusoid(timestep, self.freq_dim).to(dtype))
        return time.unsqueeze(2), self.time_projection(time).unflatten(-1, (6, -1))

    def embed_text(self, embeddings: Tensor) -> Tensor:
        """Embed encoded text (batch, tokens, text_dim), zero-padded to `text_len` and not masked, as in training."""
        padding = self.text_len - embeddings.shape[1]
        return self.text_embedding(functional.pad(embeddings, (0, 0, 0, padding)))


class VideoTower(Tower):
    """The tower for video latents (batch, channels, frames, height, width)."""

    def _patch_embedding(self, in_dim: int, dim: int) -> nn.Module:
        frames, height, width = self.patch_size
        patch = (frames, height, width)
        return nn.Conv3d(in_dim, dim, kernel_size=patch, stride=patch)

    def patchify(self, latents: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
        """Return tokens (batch, tokens, dim) and their grid (frames, height, width)."""
        patches = self.patch_embedding(latents)
        frames, height, width = patches.shape[2:]
        return patches.flatten(2).transpose(1, 2).contiguous(), (frames, height, width)

    def unpatchify(self, tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Convert head output (batch, tokens, patch * channels) to latents."""
        patches = tokens.unflatten(2, (*self.patch_size, -1)).unflatten(1, grid)
        # (batch, grid, patch in each direction, channels) -> channels first, each patch axis next to its grid axis
        return patches.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)


class AudioTower(Tower):
    """The tower for audio latents (batch, length, channels)."""

    def _patch_embedding(self, in_dim: int, dim: int) -> nn.Module:
        return nn.Sequential(
            ChannelLastConv1d(in_dim, dim, kernel_size=7, padding=3), nn.SiLU(), GatedConvMLP(dim, dim * 4, 7)
        )


class OviTransformer(ModelMixin, ConfigMixin):
    """Predicts the velocity of video and audio latents at one timestep, given text.

    Args:
        video, audio: the official tower configurations (`models/ovi.json`, entry `fusion`).
    """

    _no_split_modules = ("TowerBlock",)

    @register_to_config
    def __init__(self, video: Mapping[str, Any], audio: Mapping[str, Any]) -> None:
        super().__init__()
        self.video_model = VideoTower(**video)
        self.audio_model = AudioTower(**audio)
        # A view of the towers' blocks, not a registered module, so that parameters keep their official names.
        pairs = zip(self.video_model.tower_blocks(), self.audio_model.tower_blocks(), strict=True)
        self.fusion_blocks: tuple[FusionBlock, ...] = tuple(FusionBlock(*pair) for pair in pairs)
        self._rotary: tuple[tuple[Any, ...], tuple[RotaryTable, RotaryTable]] | None = None

    def set_attention(self, backend: AttentionBackendName) -> None:
        """Use another attention kernel in every block (see `attention.choose_backend`)."""
        for module in self.modules():
            if isinstance(module, SelfAttention):
                module.backend = backend

    def compile_blocks(self) -> None:
        """Compile one pass through a block; one compilation serves all blocks, since they have the same shapes."""
        for block in self.fusion_blocks:
            block.forward_one = compiled(block.forward_one)  # type: ignore[method-assign]  # of this block alone

    def prepare_text(self, video_embeddings: Tensor, audio_embeddings: Tensor) -> TextContext:
        """Compute keys and values of every block from text embeddings (batch, tokens, text_dim) for each tower."""
        contexts = self.video_model.embed_text(video_embeddings), self.audio_model.embed_text(audio_embeddings)
        projected = [block.project_text(*contexts) for block in self.fusion_blocks]
        return TextContext([video for video, _ in projected], [audio for _, audio in projected])

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
        """Predict the velocities of a single pass; see `velocities`."""
        single = [Pass(text, skip_block)]
        return self.velocities(video, audio, timestep, single, clean_first_frame=clean_first_frame)[0]

    def velocities(
        self,
        video: Tensor,
        audio: Tensor,
        timestep: Tensor,
        passes: Sequence[Pass],
        *,
        clean_first_frame: bool = False,
        token_layout: TokenLayout = UNSHARDED,
    ) -> list[tuple[Tensor, Tensor]]:
        """Predict the velocities of every pass, in the shapes of the latents.

        The passes go from block to block together, so that a block's weights are fetched once for all of them. The
        audio of a pass with a branch is followed by that of the branch along the batch.

        Args:
            video: latents (batch, channels, frames, height, width).
            audio: latents (batch, length, channels).
            timestep: (batch,), from 0 (clean) to 1000 (noise).
            passes: their texts come from `prepare_text`.
            clean_first_frame: whether the first latent frame is given, not noisy; its tokens then have timestep 0.
            token_layout: how the ranks share the video tokens; each passes all latents and gets all velocities.
        """
        tokens, grid = self.video_model.patchify(video)
        audio_tokens = self.audio_model.patch_embedding(audio)
        rotary = self._rotary_tables(grid, audio_tokens.shape[1], tokens.device)
        boundary = grid[1] * grid[2] if clean_first_frame else 0
        steps = torch.stack([torch.zeros_like(timestep), timestep] if clean_first_frame else [timestep], dim=1)
        video_time, video_rows = self.video_model.embed_time(steps)
        audio_time, audio_rows = self.audio_model.embed_time(timestep.unsqueeze(1))

        rows = Modulation(*token_layout.shard_rows(video_rows, boundary))
        start = (
            Stream(token_layout.shard(tokens), rows, token_layout.shard_table(rotary[0]), token_layout),
            Stream(audio_tokens, Modulation(audio_rows, 0), rotary[1]),
        )
        del tokens, audio_tokens
        time = Modulation(*token_layout.shard_rows(video_time, boundary))
        return [
            (
                self.video_model.unpatchify(token_layout.all_gather(self.video_model.head(video_tokens, time)), grid),
                self.audio_model.head(audio_tokens, Modulation(with_branch(audio_time, one.audio_branch), 0)),
            )
            for one, (video_tokens, audio_tokens) in zip(passes, self._through_blocks(*start, passes), strict=True)
        ]

    def _through_blocks(self, video: Stream, audio: Stream, passes: Sequence[Pass]) -> list[tuple[Tensor, Tensor]]:
        """Return the tokens of both towers after the last block, for every pass."""
        tokens = [(video.tokens, with_branch(audio.tokens, one.audio_branch)) for one in passes]
        for depth, block in enumerate(self.fusion_blocks):
            active = [index for index, one in enumerate(passes) if one.skip_block != depth]
            inputs = [_block_input(passes[index], depth, video, audio, *tokens[index]) for index in active]
            for index, (new, new_audio) in zip(active, block(inputs), strict=True):
                tokens[index] = new, audio_after(new_audio, passes[index].audio_branch, tokens[index][1], depth)
        return tokens

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


def _block_input(
    one: Pass, depth: int, video: Stream, audio: Stream, video_tokens: Tensor, audio_tokens: Tensor
) -> BlockInput:
    own_audio, audio_text = block_audio(audio, one.text.audio[depth], one.audio_branch, audio_tokens, depth)
    return BlockInput(video._replace(tokens=video_tokens), own_audio, one.text.video[depth], audio_text)


def _sinusoid(timestep: Tensor, dim: int) -> Tensor:
    """Return the sinusoidal embedding (..., dim) in float64: few values, with angles of up to 1000 radians."""
    position = timestep.double()
    exponents = torch.arange(dim // 2, device=timestep.device, dtype=torch.float64) / (dim // 2)
    angles = position.unsqueeze(-1) * 10_000.0**-exponents
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _refuse_other_architectures(options: Mapping[str, Any]) -> None:
    """Raise ValueError for a value that no published checkpoint uses: those are not implemented."""
    expected = {"model_type": ("ti2v", "t2a"), "window_size": ([-1, -1], (-1, -1)), "qk_norm": (True,)}
    expected["cross_attn_norm"] = (True,)
    for name, value in options.items():
        if value not in expected.get(name, ()):
            raise ValueError(f"tower option {name}={value!r} is not supported")
