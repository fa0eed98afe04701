"""Give a video VAE patches of another size, so that the same latents stand for a picture of more pixels.

The encoder then sees each patch averaged to its old size, and the decoder draws each old patch enlarged: latents, and
whatever was trained on them, stay valid. Only the decoder has to learn the new details.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

_FIRST, _LAST = ("encoder.conv_in.weight",), ("decoder.conv_out.weight", "decoder.conv_out.bias")
_COLOURS = 3


def with_patch_size(weights: Mapping[str, Tensor], patch: int) -> dict[str, Tensor]:
    """Return the weights of an `AutoencoderKLWan` for patches of `patch` x `patch` pixels.

    Args:
        weights: its state; the present size of its patches follows from the first layer.
    """
    old = round((weights[_FIRST[0]].shape[1] / _COLOURS) ** 0.5)
    changed = {name: tensor.clone() for name, tensor in weights.items()}
    if old == patch:
        return changed
    shrinking, growing = _averaging(patch, old), _interpolating(old, patch)
    for name in _FIRST:
        # A patch's pixels are channels: (colour, column, row), as `patchify` orders them.
        kernel = weights[name].unflatten(1, (_COLOURS, old, old)).float()
        changed[name] = torch.einsum("ocxy...,xi,yj->ocij...", kernel, shrinking, shrinking).flatten(1, 3)
    for name in _LAST:
        kernel = weights[name].unflatten(0, (_COLOURS, old, old)).float()
        changed[name] = torch.einsum("cxy...,ix,jy->cij...", kernel, growing, growing).flatten(0, 2)
    return {name: changed[name].to(weights[name].dtype) for name in changed}


def _averaging(pixels: int, cells: int) -> Tensor:
    """Return the matrix (cells, pixels) that averages a row of pixels into cells of equal width."""
    edges = torch.linspace(0, pixels, cells + 1)
    left, right = edges[:-1, None], edges[1:, None]
    pixel = torch.arange(pixels)
    overlap = (torch.minimum(right, pixel + 1.0) - torch.maximum(left, pixel.float())).clamp(min=0)
    return overlap / overlap.sum(dim=1, keepdim=True)


def _interpolating(cells: int, pixels: int) -> Tensor:
    """Return the matrix (pixels, cells) that interpolates linearly between the middles of a patch's cells."""
    places = ((torch.arange(pixels) + 0.5) * cells / pixels - 0.5).clamp(0, cells - 1)
    return (1 - (places[:, None] - torch.arange(cells)).abs()).clamp(min=0)
