"""Conversion of the transformer's weights to another number format while they are loaded, tensor by tensor.

Only the linear layers of the blocks are converted: 94% of the weights. Embeddings, time projection, modulation, norms
and heads keep the model's format; they are small, and the time embedding affects every token (docs/performance.md
gives the cost of each choice).
"""

import re
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from ovi_studio.core.errors import JobError
from ovi_studio.core.weight_formats import Weights
from ovi_studio.models.quantized_linear import Float8Linear, Int8Linear, ScaledFloat8Linear

M = TypeVar("M", bound=nn.Module)

_CONVERTED = re.compile(r"\.blocks\.\d+\.(self_attn|cross_attn|ffn)\.\w+$")


_LAYERS: Mapping[Weights, type[Int8Linear] | type[Float8Linear] | type[ScaledFloat8Linear]] = {
    Weights.INT8: Int8Linear,
    Weights.FP8: Float8Linear,
    Weights.FP8_FAST: ScaledFloat8Linear,
}


def converted_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """The layers whose weights may have a format other than the model's own, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and _CONVERTED.search(f".{name}")
    }


def official_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters in an official checkpoint, without the scales of converted layers."""
    return {
        name: tuple(parameter.shape)
        for name, parameter in model.named_parameters()
        if not name.endswith("weight_scale")
    }


def prepare(model: nn.Module, weights: Weights) -> None:
    """Replace layers of a model on the meta device by those that hold tensors from `convert`."""
    if weights is Weights.BF16:
        return
    kind = _LAYERS[weights]
    for name, layer in converted_layers(model).items():
        owner, _, attribute = name.rpartition(".")
        replacement = kind(layer.in_features, layer.out_features, layer.bias is not None)
        setattr(model.get_submodule(owner), attribute, replacement)


def as_loaded(model: M, dtype: torch.dtype) -> M:
    """Give a model on the meta device the dtypes that it would have after loading."""
    for name, parameter in model.named_parameters():
        if parameter.dtype == torch.float32 and not name.endswith("weight_scale"):
            parameter.data = parameter.data.to(dtype)
    return model


def convert(name: str, tensor: Tensor, weights: Weights, dtype: torch.dtype) -> dict[str, Tensor]:
    """Convert a checkpoint's tensor to the model's tensors: usually one, or two with a scale.

    Raises `JobError` for fp8 if the file stores the layer in another format: rounding it to fp8 without a scale would
    lose precision.
    """
    layer, _, kind = name.rpartition(".")
    if weights is Weights.BF16 or kind != "weight" or tensor.dim() != 2 or not _CONVERTED.search(f".{layer}"):
        return {name: tensor.to(dtype)}
    if weights is Weights.FP8 and tensor.dtype != torch.float8_e4m3fn:
        raise JobError(
            "This variant's file does not contain fp8 weights; choose int8 weights, or the variant with an fp8 file."
        )
    # From the stored value, without rounding to the model's format in between.
    return _LAYERS[weights].stored(name, tensor)
