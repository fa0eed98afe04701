"""The layers of the Wan video VAE, applied to a video piece by piece: diffusers' parameters with arithmetic of our own.

Everything is channels-last in memory, from the first convolution to the last, and passes over the activations are few:

- A causal convolution reads one window of memory: the frames it keeps from the past, and its new frames, which norm and
  activation write there directly. Only the kept frames are copied; borders are padded by the convolution itself.
- Norm and SiLU are two kernels on a GPU. Compiling would join them, for a tenth of the time (docs/performance.md).
- Upsampling in time and space is one copy. The shortcut around it is added in place, without being expanded in memory.

The first piece of a video is a single frame, before which there are zeros: of three taps in time only the last counts.

Tensors are (batch, channels, frames, height, width). A `Past` belongs to one video, or to one tile of it; what it holds
is updated in place.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Past = dict[nn.Module, Tensor]
"""The last input frames of every causal convolution that has seen any."""

_TINY = 1e-12
"""The length below which the official norm divides by this constant."""


def causal_convolution(convolution: nn.Conv3d, x: Tensor, past: Past, norm: nn.Module | None = None) -> Tensor:
    """Apply a convolution that continues from the past, if `norm` is given to SiLU(norm(x))."""
    if convolution.kernel_size[0] == 1:
        return timeless(convolution, x if norm is None else _norm_silu(norm, x, torch.empty_like(x)))
    kept = past.get(convolution)
    if kept is None:
        return _first_frame(convolution, x if norm is None else _norm_silu(norm, x, torch.empty_like(x)), past)
    count, frames = kept.shape[2], x.shape[2]
    shape = (*x.shape[:2], count + frames, *x.shape[3:])
    window = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last_3d)
    window[:, :, :count] = kept
    if norm is None:
        window[:, :, count:] = x
    else:
        _norm_silu(norm, x, window[:, :, count:])
    kept.copy_(window[:, :, frames:])
    return _convolve_frames(convolution, window, convolution.weight)


def timeless(convolution: nn.Conv3d, x: Tensor) -> Tensor:
    """Apply a convolution with a single tap in time, which needs no past."""
    return _convolve_frames(convolution, x, convolution.weight)


def residual_block(block: Any, x: Tensor, past: Past) -> Tensor:
    """Apply a `WanResidualBlock`."""
    shortcut = x if isinstance(block.conv_shortcut, nn.Identity) else timeless(block.conv_shortcut, x)
    x = causal_convolution(block.conv1, x, past, block.norm1)
    x = causal_convolution(block.conv2, x, past, block.norm2)
    return x.add_(shortcut)


def mid_block(block: Any, x: Tensor, past: Past) -> Tensor:
    """Apply a `WanMidBlock`, whose attention looks at whole frames."""
    x = residual_block(block.resnets[0], x, past)
    for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
        x = residual_block(resnet, _attend(attention, x), past)
    return x


def up_block(block: Any, x: Tensor, past: Past, *, first: bool) -> Tensor:
    """Apply a `WanResidualUpBlock`.

    Args:
        first: whether this is the first piece, which is not upsampled in time.
    """
    inputs = x
    for resnet in block.resnets:
        x = residual_block(resnet, x, past)
    if block.upsampler is None:
        return x
    x = _upsample(block.upsampler, x, past, first=first)
    return _add_duplicates(x, inputs, block.avg_shortcut, first=first)


def down_block(block: Any, x: Tensor, past: Past, *, first: bool) -> Tensor:
    """Apply a `WanResidualDownBlock`; see `up_block`."""
    shortcut = block.avg_shortcut(x)
    for resnet in block.resnets:
        x = residual_block(resnet, x, past)
    if block.downsampler is not None:
        x = _downsample(block.downsampler, x, past, first=first)
    return x.add_(shortcut)


def _first_frame(convolution: nn.Conv3d, x: Tensor, past: Past) -> Tensor:
    past[convolution] = torch.cat([torch.zeros_like(x), x], dim=2)
    return _convolve_frames(convolution, x, convolution.weight[:, :, -1:])


def _convolve_frames(convolution: nn.Conv3d, window: Tensor, weight: Tensor) -> Tensor:
    padding = (0, convolution.kernel_size[1] // 2, convolution.kernel_size[2] // 2)
    return _convolve(window, weight, convolution.bias, convolution.stride, padding)


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...], padding: tuple[int, ...]
) -> Tensor:
    if x.device.type == "cpu" and x.dtype is torch.float32:
        # For small inputs torch chooses a kernel of its own instead, which takes two to seven times as long.
        return torch.mkldnn_convolution(x, weight, bias, padding, stride, (1,) * len(stride), 1)
    convolution = functional.conv2d if x.dim() == 4 else functional.conv3d
    return convolution(x, weight, bias, stride, padding)


def _norm_silu(norm: Any, x: Tensor, target: Tensor) -> Tensor:
    """Write SiLU(norm(x)) to `target`, for a `WanRMS_norm` over the channels."""
    channels = x.shape[1]
    if x.device.type == "cpu" and x.dtype is torch.float32:
        # `rms_norm` is a kernel of its own on a GPU only.
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min_(_TINY)
        torch.mul(x, length.reciprocal_().mul_(channels**0.5), out=target)
        return functional.silu(target.mul_(norm.gamma), inplace=True)
    scaled = functional.rms_norm(x.movedim(1, -1), (channels,), norm.gamma.flatten(), _TINY**2 / channels)
    torch.ops.aten.silu.out(scaled.movedim(-1, 1), out=target)
    return target


def _upsample(resample: Any, x: Tensor, past: Past, *, first: bool) -> Tensor:
    """Apply a `WanResample` that doubles height and width, and the frames if it has a convolution over time."""
    channels = x.shape[1]
    if resample.mode == "upsample3d":
        if first:
            past[resample.time_conv] = torch.zeros_like(x).repeat(1, 1, 2, 1, 1)
        else:
            x = causal_convolution(resample.time_conv, x, past)  # a pair of frames in the channels
    last = (
        x.movedim(1, -1).unflatten(-1, (-1, channels)).movedim(-2, 2)
    )  # (batch, frames, pair, height, width, channels)
    batch, frames, pair, height, width, _ = last.shape
    doubled = last[:, :, :, :, None, :, None].expand(-1, -1, -1, -1, 2, -1, 2, -1)
    pictures = doubled.reshape(batch * frames * pair, 2 * height, 2 * width, channels).movedim(-1, 1)
    convolution = resample.resample[1]
    pictures = _convolve(pictures, convolution.weight, convolution.bias, convolution.stride, convolution.padding)
    return _video(pictures, batch)


def _downsample(resample: Any, x: Tensor, past: Past, *, first: bool) -> Tensor:
    """Apply a `WanResample` that halves height and width, and the frames if it has a convolution over time."""
    convolution = resample.resample[1]
    last = x.transpose(1, 2).flatten(0, 1).movedim(1, -1)  # (pictures, height, width, channels)
    pictures = functional.pad(last, (0, 0, 0, 1, 0, 1)).movedim(-1, 1)
    pictures = _convolve(pictures, convolution.weight, convolution.bias, convolution.stride, convolution.padding)
    halved = _video(pictures, x.shape[0])
    if resample.mode != "downsample3d":
        return halved
    if first:
        past[resample.time_conv] = halved.clone()
        return halved
    return causal_convolution(resample.time_conv, halved, past)


def _video(pictures: Tensor, batch: int) -> Tensor:
    """View pictures (batch * frames, channels, height, width) as a video.

    By way of the order in memory: otherwise a single frame gets strides by which torch takes it for channels-first.
    """
    return pictures.movedim(1, -1).unflatten(0, (batch, -1)).movedim(-1, 1)


def _attend(attention: Any, x: Tensor) -> Tensor:
    """Apply a `WanAttentionBlock`: every pixel of a frame attends to all of them."""
    channels = x.shape[1]
    last = x.movedim(1, -1)  # (batch, frames, height, width, channels)
    gamma = attention.norm.gamma.flatten()
    tokens = functional.rms_norm(last.flatten(0, 1).flatten(1, 2), (channels,), gamma, _TINY**2 / channels)
    joined = functional.linear(tokens, attention.to_qkv.weight.flatten(1), attention.to_qkv.bias)
    query, key, value = joined.unsqueeze(1).chunk(3, dim=-1)
    found = functional.scaled_dot_product_attention(query, key, value).squeeze(1)
    result = functional.linear(found, attention.proj.weight.flatten(1), attention.proj.bias)
    return result.view(last.shape).movedim(-1, 1).add_(x)


def _add_duplicates(x: Tensor, inputs: Tensor, shortcut: Any, *, first: bool) -> Tensor:
    """Add the `DupUp3D` of a block's inputs to its result, in place: one input value for each of the positions.

    Channel o at position k of `factor` is input channel (o * factor + k) * inputs / (outputs * factor), rounded down.
    """
    outputs, channels, factor = x.shape[1], inputs.shape[1], shortcut.factor
    sides = range(shortcut.factor_s)
    # Of the first piece, the shortcut has only the last frame.
    times = (shortcut.factor_t - 1,) if first else range(shortcut.factor_t)
    positions = [(time, row, column) for time in times for row in sides for column in sides]
    for time, row, column in positions:
        place = x[:, :, 0 if first else time :: shortcut.factor_t, row :: len(sides), column :: len(sides)]
        index = (time * len(sides) + row) * len(sides) + column
        if channels % outputs == 0:
            step = channels // outputs
            place += inputs[:, index * step // factor :: step]
        else:
            source = [(output * factor + index) * channels // (outputs * factor) for output in range(outputs)]
            place += inputs[:, source]
    return x


def make_channels_last(module: nn.Module) -> None:
    """Store the weights of all convolutions channels-last.

    `module.to(memory_format=...)` refuses a module with weights of four and of five dimensions.
    """
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            layer.weight.data = layer.weight.data.contiguous(memory_format=formats[layer.weight.dim()])
