"""The BigVGAN vocoder (arXiv 2206.04658): log10 mel spectrogram (B, mels, T) -> waveform (B, 1, samples).

Only the generator, with residual blocks of kind "1" and the parameter names of MMAudio's 16 kHz checkpoint
`best_netG.pt`. Weight norm belongs to training: `fold_weight_norm` turns the tensors of a checkpoint into the
plain weights that this module has.
"""

import inspect
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TAPS = 12
"""Length of the resampling filters."""

MARGIN = TAPS // 2 - 1
"""How far a resampling filter reaches to each side of the sample pair that it works on."""

WEIGHT_NORM_SUFFIXES = (
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
    (".weight_g", ".weight_v"),
)
"""PyTorch's two spellings of the magnitude and the direction of a weight."""


def fold_weight_norm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace each magnitude g and direction v of a weight-normalised layer by its weight g * v / |v|.

    Understands both of PyTorch's spellings; every other tensor passes through unchanged. Raises ValueError
    if one half of a pair is missing.
    """
    folded = dict(tensors)
    for suffixes in WEIGHT_NORM_SUFFIXES:
        halves = [(name, suffix) for suffix in suffixes for name in tensors if name.endswith(suffix)]
        for layer in sorted({name.removesuffix(suffix) for name, suffix in halves}):
            magnitude, direction = (folded.pop(layer + suffix, None) for suffix in suffixes)
            if magnitude is None or direction is None:
                raise ValueError(f"Half of the weight of {layer} is missing: download the vocoder again.")
            folded[f"{layer}.weight"] = _weight(magnitude, direction)
    return folded


def _weight(magnitude: Tensor, direction: Tensor) -> Tensor:
    # The norm runs over the axes along which the magnitude has one value.
    axes = [axis for axis, size in enumerate(magnitude.shape) if size == 1]
    norm = torch.linalg.vector_norm(direction, dim=axes, keepdim=True)
    return direction * (magnitude / norm)


def kaiser_lowpass() -> Tensor:
    """Return a new filter (1, 1, TAPS) with sum 1 that keeps the lower half of the band: a sinc under a Kaiser window.

    The window's shape follows from the width of the transition, 0.6 of the band, by Kaiser's formulas
    (Oppenheim and Schafer, Discrete-Time Signal Processing), into which BigVGAN puts half the number of taps.
    """
    return _lowpass_taps().to(torch.get_default_device(), copy=True)


@cache
def _lowpass_taps() -> Tensor:
    # Once and on the CPU: a vocoder has dozens of filters, and on the meta device each would take longer than the rest.
    attenuation = 2.285 * (TAPS // 2 - 1) * 1.2 * math.pi + 7.95
    beta = 0.1102 * (attenuation - 8.7)
    time = torch.arange(TAPS, device="cpu") - (TAPS - 1) / 2
    taps = torch.kaiser_window(TAPS, periodic=False, beta=beta, device="cpu") * torch.sinc(time / 2)
    return (taps / taps.sum()).view(1, 1, TAPS)


class Snake(nn.Module):
    """x + sin^2(alpha x) / beta with one alpha and beta per channel: (B, C, T) -> same.

    Without `beta` it is the snake of arXiv 2006.08195, whose beta is alpha. With `logscale` the parameters
    are logarithms. With gradients switched off the result overwrites the input.
    """

    def __init__(self, channels: int, beta: bool, logscale: bool) -> None:
        super().__init__()
        self.logscale = logscale
        initial = torch.zeros if logscale else torch.ones
        self.alpha = nn.Parameter(initial(channels))
        self.beta = nn.Parameter(initial(channels)) if beta else None

    def forward(self, x: Tensor) -> Tensor:
        alpha = self._scale(self.alpha)
        beta = alpha if self.beta is None else self._scale(self.beta)
        # In place, because these are the largest tensors of the model and memory traffic dominates their cost.
        wave = (x * alpha).sin_().square_()
        return torch.addcmul(x, wave, 1 / (beta + 1e-9), out=None if torch.is_grad_enabled() else x)

    def _scale(self, parameter: Tensor) -> Tensor:
        scale = parameter.exp() if self.logscale else parameter
        return scale.unsqueeze(-1)


class VocoderUpsample(nn.Module):
    """Double the samples, band-limited, with a meaningless MARGIN at each end: (B, C, T) -> (B, C, 2T + 10)."""

    filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", kaiser_lowpass())

    def forward(self, x: Tensor) -> Tensor:
        channels, reach = x.shape[1], TAPS // 4
        x = F.pad(x, (reach, reach), mode="replicate")
        # Every second input of the filter is a zero, hence the gain of 2.
        taps = (2 * self.filter).expand(channels, -1, -1)
        return F.conv_transpose1d(x, taps, stride=2, padding=2 * reach, groups=channels)


class LowPass(nn.Module):
    """Keep every second sample of the band-limited input, without padding: (B, C, 2T + 10) -> (B, C, T)."""

    filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", kaiser_lowpass())

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        return F.conv1d(x, self.filter.expand(channels, -1, -1), stride=2, groups=channels)


class VocoderDownsample(nn.Module):
    """Halve the samples; a module around the filter because the official parameter names have it."""

    def __init__(self) -> None:
        super().__init__()
        self.lowpass = LowPass()

    def forward(self, x: Tensor) -> Tensor:
        return self.lowpass(x)


class AliasFreeActivation(nn.Module):
    """Snake at twice the rate, so that the harmonics it makes do not fold back: (B, C, T) -> same."""

    def __init__(self, channels: int, beta: bool, logscale: bool) -> None:
        super().__init__()
        self.upsample = VocoderUpsample()
        self.act = Snake(channels, beta, logscale)
        self.downsample = VocoderDownsample()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.upsample(x))
        # Beyond its ends the signal repeats its outermost sample. Writing that into the margins saves the
        # copy that padding would make, and with it a good part of the activation's time on a CPU.
        x[..., :MARGIN] = x[..., MARGIN, None]
        x[..., -MARGIN:] = x[..., -MARGIN - 1, None]
        return self.downsample(x)


class VocoderResBlock(nn.Module):
    """Residual pairs of a dilated and a plain convolution, each after an activation: (B, C, T) -> same."""

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        dilations: Sequence[int],
        beta: bool,
        logscale: bool,
    ) -> None:
        super().__init__()

        def conv(dilation: int) -> nn.Conv1d:
            return nn.Conv1d(channels, channels, kernel_size, dilation=dilation, padding="same")

        self.convs1 = nn.ModuleList(conv(dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(conv(1) for _ in dilations)
        self.activations = nn.ModuleList(
            AliasFreeActivation(channels, beta, logscale) for _ in range(2 * len(dilations))
        )

    def forward(self, x: Tensor) -> Tensor:
        before, between = self.activations[::2], self.activations[1::2]
        for act1, conv1, act2, conv2 in zip(before, self.convs1, between, self.convs2, strict=True):
            x = x + conv2(act2(conv1(act1(x))))
        return x


class Vocoder(nn.Module):
    """The generator of BigVGAN; every argument is an entry of its configuration file.

    Args:
        num_mels: mel bands of the input.
        upsample_rates: factor of each stage; their product is the mel's hop size (256).
        upsample_kernel_sizes: filter length of each stage.
        upsample_initial_channel: channels before the first stage; every stage halves them.
        resblock: "1"; other kinds raise ValueError.
        resblock_kernel_sizes: one residual block for each; their outputs are averaged.
        resblock_dilation_sizes: dilations within each block.
        activation: "snakebeta" or "snake"; others raise ValueError.
        snake_logscale: whether the activation's parameters are logarithms.
    """

    def __init__(
        self,
        num_mels: int,
        upsample_rates: Sequence[int],
        upsample_kernel_sizes: Sequence[int],
        upsample_initial_channel: int,
        resblock: str,
        resblock_kernel_sizes: Sequence[int],
        resblock_dilation_sizes: Sequence[Sequence[int]],
        activation: str,
        snake_logscale: bool,
    ) -> None:
        super().__init__()
        if resblock != "1":
            raise ValueError(f'Vocoder resblock "{resblock}" is not supported: it must be "1".')
        if activation not in ("snake", "snakebeta"):
            raise ValueError(f'Vocoder activation "{activation}" is not supported: use snake or snakebeta.')
        snake = {"beta": activation == "snakebeta", "logscale": snake_logscale}

        channels = upsample_initial_channel
        self.conv_pre = nn.Conv1d(num_mels, channels, 7, padding=3)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        for rate, size in zip(upsample_rates, upsample_kernel_sizes, strict=True):
            up = nn.ConvTranspose1d(channels, channels // 2, size, rate, padding=(size - rate) // 2)
            channels //= 2
            self.ups.append(nn.Sequential(up))  # the official names have a list of one here
            for kernel, dilations in zip(resblock_kernel_sizes, resblock_dilation_sizes, strict=True):
                self.resblocks.append(VocoderResBlock(channels, kernel, dilations, **snake))
        self.activation_post = AliasFreeActivation(channels, **snake)
        self.conv_post = nn.Conv1d(channels, 1, 7, padding=3)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build from a whole BigVGAN configuration; entries that only matter in training are ignored.

        Raises ValueError for a generator of BigVGAN v2, whose last layer is different.
        """
        for entry in ("use_tanh_at_final", "use_bias_at_final"):
            if not config.get(entry, True):
                raise ValueError(f"Vocoder with {entry} = false (BigVGAN v2) is not supported.")
        accepted = inspect.signature(cls).parameters
        return cls(**{name: value for name, value in config.items() if name in accepted})

    def forward(self, mel: Tensor) -> Tensor:
        """Log10 mel (B, num_mels, T) -> waveform (B, 1, T * prod(upsample_rates)) in (-1, 1)."""
        x = self.conv_pre(mel)
        blocks = len(self.resblocks) // len(self.ups)
        for stage, up in enumerate(self.ups):
            x = up(x)
            x = sum(block(x) for block in self.resblocks[stage * blocks : (stage + 1) * blocks]) / blocks
        return self.conv_post(self.activation_post(x)).tanh()
