"""The audio VAE of MMAudio at 16 kHz: log10 mel spectrogram (B, 80, 2L) <-> latent (B, 20, L).

A mel frame is 16 ms and a latent frame 32 ms. The layout is that of latent diffusion's autoencoder (arXiv
2112.10752) with one axis; the layers are the magnitude-preserving ones of EDM2 (arXiv 2312.02696, whose
equations are cited below). Parameter names are those of the official file `v1-16.pth`.

The file holds raw weights, which every forward pass normalises anew: right for training, wasteful for
inference. `AudioVAE.fuse_weight_norm` normalises them once; save a model before that call, not after.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RESIDUAL_WEIGHT = 0.3
"""Weight of the new branch in a sum."""

ACTIVATION_LIMIT = 256.0
"""Activations are clipped to this magnitude after every block; it matters in half precision."""


def unit_rms(x: Tensor, dim: int | tuple[int, ...], eps: float = 1e-4) -> Tensor:
    """Scale `x` to root mean square 1 along `dim`: EDM2's pixel norm and weight normalisation."""
    precise = torch.promote_types(x.dtype, torch.float32)
    norm = torch.linalg.vector_norm(x, dim=dim, keepdim=True, dtype=precise)
    return x / (norm * math.sqrt(norm.numel() / x.numel()) + eps).to(x.dtype)


def mp_silu(x: Tensor) -> Tensor:
    """SiLU that keeps the variance of a standard normal input (EDM2, eq. 81)."""
    return F.silu(x) / 0.596


def mp_sum(x: Tensor, branch: Tensor, weight: float = RESIDUAL_WEIGHT) -> Tensor:
    """Interpolate from `x` to `branch` and keep the variance of independent inputs (EDM2, eq. 88)."""
    return torch.lerp(x, branch, weight) / math.hypot(1 - weight, weight)


class MPConv1d(nn.Module):
    """A convolution without bias whose filters are normalised in the forward pass (EDM2, eq. 47).

    (B, in_dim, T) -> (B, out_dim, T).
    """

    def __init__(self, in_dim: int, out_dim: int, kernel_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_dim, in_dim, kernel_size))
        self.fused = False

    def effective_weight(self) -> Tensor:
        """Filters of root mean square 1 over the square root of their fan-in, which is an L2 norm of 1."""
        if self.fused:
            return self.weight
        return unit_rms(self.weight, dim=(1, 2)) / math.sqrt(self.weight[0].numel())

    def forward(self, x: Tensor) -> Tensor:
        return F.conv1d(x, self.effective_weight(), padding=self.weight.shape[-1] // 2)

    @torch.no_grad()
    def fuse(self) -> None:
        """Replace the raw weight with the effective one, in place; a second call changes nothing."""
        self.weight.copy_(self.effective_weight())
        self.fused = True

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        # Files hold raw weights: a model that was fused before must normalise what it loads now.
        self.fused = False
        super()._load_from_state_dict(state_dict, *args, **kwargs)


class VAEResBlock(nn.Module):
    """Pixel norm, then two activated convolutions with a shortcut: (B, I, T) -> (B, O, T)."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.conv1 = MPConv1d(in_dim, out_dim, 3)
        self.conv2 = MPConv1d(out_dim, out_dim, 3)
        self.nin_shortcut = MPConv1d(in_dim, out_dim, 1) if in_dim != out_dim else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = unit_rms(x, dim=1)
        branch = self.conv2(mp_silu(self.conv1(mp_silu(x))))
        return mp_sum(self.nin_shortcut(x), branch)


class Attention(nn.Module):
    """Cosine attention over time with one head; q, k and v have unit magnitude: (B, C, T) -> same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkv = MPConv1d(dim, 3 * dim, 1)
        self.proj_out = MPConv1d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        # The file interleaves q, k and v channel by channel.
        qkv = self.qkv(x).unflatten(1, (-1, 3))
        q, k, v = unit_rms(qkv, dim=1).permute(2, 0, 3, 1).unsqueeze(2)
        out = F.scaled_dot_product_attention(q, k, v)
        return mp_sum(x, self.proj_out(out.squeeze(1).mT))


class VAEDownsample(nn.Module):
    """Halve the time axis: (B, C, T) -> (B, C, T // 2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = MPConv1d(dim, dim, 1)
        self.conv2 = MPConv1d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        # Pooling commutes with a pointwise convolution; in this order both work on half the frames.
        return self.conv2(self.conv1(F.avg_pool1d(x, 2)))


class VAEUpsample(nn.Module):
    """Double the time axis: (B, C, T) -> (B, C, 2T)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = MPConv1d(dim, dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.repeat_interleave(2, dim=-1))


class Level(nn.Module):
    """The blocks of one resolution, each with its attention if the level has any: (B, I, T) -> (B, O, T)."""

    def __init__(self, in_dim: int, out_dim: int, num_blocks: int, attention: bool) -> None:
        super().__init__()
        dims = [in_dim] + [out_dim] * num_blocks
        self.block = nn.ModuleList(VAEResBlock(a, b) for a, b in pairwise(dims))
        self.attn = nn.ModuleList(Attention(out_dim) for _ in range(num_blocks if attention else 0))

    def forward(self, x: Tensor) -> Tensor:
        for index, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[index](x)
            x = x.clamp(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)
        return x


class DownLevel(Level):
    """A level of the encoder; with `resample` it ends by halving the time axis."""

    def __init__(self, in_dim: int, out_dim: int, num_blocks: int, attention: bool, resample: bool) -> None:
        super().__init__(in_dim, out_dim, num_blocks, attention)
        self.downsample = VAEDownsample(out_dim) if resample else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.downsample(super().forward(x))


class UpLevel(Level):
    """A level of the decoder; with `resample` it ends by doubling the time axis."""

    def __init__(self, in_dim: int, out_dim: int, num_blocks: int, attention: bool, resample: bool) -> None:
        super().__init__(in_dim, out_dim, num_blocks, attention)
        self.upsample = VAEUpsample(out_dim) if resample else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.upsample(super().forward(x))


class Middle(nn.Module):
    """The blocks at the lowest resolution: (B, C, T) -> same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.block_1 = VAEResBlock(dim, dim)
        self.attn_1 = Attention(dim)
        self.block_2 = VAEResBlock(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block_2(self.attn_1(self.block_1(x)))
        return x.clamp(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)


class Encoder(nn.Module):
    """Normalised mel (B, in_dim, T) -> (B, out_dim, T / 2^len(down_layers))."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        hidden_dim: int,
        level_dims: Sequence[int],
        num_res_blocks: int,
        down_layers: Sequence[int],
        attn_layers: Sequence[int],
    ) -> None:
        super().__init__()
        self.conv_in = MPConv1d(in_dim, hidden_dim, 3)
        inputs = [hidden_dim, *level_dims[:-1]]
        self.down = nn.ModuleList(
            DownLevel(*dims, num_res_blocks, attention=i in attn_layers, resample=i in down_layers)
            for i, dims in enumerate(zip(inputs, level_dims, strict=True))
        )
        self.mid = Middle(level_dims[-1])
        self.conv_out = MPConv1d(level_dims[-1], out_dim, 3)
        self.learnable_gain = nn.Parameter(torch.zeros([]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(mp_silu(self.mid(x))) * (1 + self.learnable_gain)


class Decoder(nn.Module):
    """Latent (B, in_dim, T) -> normalised mel (B, out_dim, T * 2^len(down_layers)).

    Level 0 comes last. What the encoder halves at the end of level i is doubled at the end of level i + 1.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        level_dims: Sequence[int],
        num_res_blocks: int,
        down_layers: Sequence[int],
        attn_layers: Sequence[int],
    ) -> None:
        super().__init__()
        self.conv_in = MPConv1d(in_dim, level_dims[-1], 3)
        self.mid = Middle(level_dims[-1])
        inputs = [*level_dims[1:], level_dims[-1]]
        self.up = nn.ModuleList(
            UpLevel(*dims, num_res_blocks + 1, attention=i in attn_layers, resample=i - 1 in down_layers)
            for i, dims in enumerate(zip(inputs, level_dims, strict=True))
        )
        self.conv_out = MPConv1d(level_dims[0], out_dim, 3)
        self.learnable_gain = nn.Parameter(torch.zeros([]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid(self.conv_in(x))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(mp_silu(x)) * (1 + self.learnable_gain)


class AudioVAE(nn.Module):
    """Encoder and decoder between log10 mel spectrograms and latents.

    Args:
        data_dim: mel bands (80).
        embed_dim: latent channels (20).
        hidden_dim: channels after the encoder's first convolution (384).
        ch_mult: channels of each level in units of `hidden_dim`.
        num_res_blocks: residual blocks per level in the encoder; the decoder has one more.
        down_layers: levels after which the encoder halves the time axis.
        attn_layers: levels with attention after every block. A number beyond the last level, such as the
            official 3, means none; the middle always has attention.

    The statistics of the mel data, `data_mean` and `data_std` (1, data_dim, 1), come with the checkpoint;
    until it is loaded they are the identity.
    """

    data_mean: Tensor
    data_std: Tensor

    def __init__(
        self,
        data_dim: int,
        embed_dim: int,
        hidden_dim: int,
        ch_mult: Sequence[int],
        num_res_blocks: int,
        down_layers: Sequence[int],
        attn_layers: Sequence[int],
    ) -> None:
        super().__init__()
        level_dims = [hidden_dim * factor for factor in ch_mult]
        layout = (level_dims, num_res_blocks, down_layers, attn_layers)
        self.encoder = Encoder(data_dim, 2 * embed_dim, hidden_dim, *layout)
        self.decoder = Decoder(embed_dim, data_dim, *layout)
        self.register_buffer("data_mean", torch.zeros(1, data_dim, 1))
        self.register_buffer("data_std", torch.ones(1, data_dim, 1))

    def encode(self, mel: Tensor) -> Tensor:
        """Log10 mel (B, data_dim, 2L) -> mean of the latent's distribution (B, embed_dim, L).

        An odd last frame is dropped.
        """
        moments = self.encoder((mel - self.data_mean) / self.data_std)
        mean, _log_variance = moments.chunk(2, dim=1)
        return mean

    def decode(self, latent: Tensor) -> Tensor:
        """Latent (B, embed_dim, L) -> log10 mel (B, data_dim, 2L)."""
        return self.decoder(latent) * self.data_std + self.data_mean

    def fuse_weight_norm(self) -> Self:
        """Normalise all weights once, in place, so that later calls need not; for inference, after loading.

        A second call changes nothing; loading weights again undoes it.
        """
        for module in self.modules():
            if isinstance(module, MPConv1d):
                module.fuse()
        return self
