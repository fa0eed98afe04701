"""Weights in fp8 with a scale for each layer, and what else ComfyUI's files hold besides weights.

Told from the header of a safetensors file; imports no torch.
"""

from collections.abc import Mapping
from typing import Any

_SCALES = ("scale_weight", "weight_scale")
_INPUT_SCALES = ("scale_input", "input_scale", "comfy_quant")
_NO_WEIGHTS = ("scaled_fp8", "spiece_model")
"""A mark of such files, and the tokenizer inside a text encoder's file."""


def is_fp8(dtype: str) -> bool:
    """Whether a dtype of the safetensors format has 8 bits and a fraction."""
    return dtype in {"F8_E4M3", "F8_E5M2"}


def scale_name(name: str, header: Mapping[str, Any]) -> str | None:
    """The name of the scale that belongs to the fp8 weight `name`; None if there is none."""
    layer, _, kind = name.rpartition(".")
    if kind != "weight" or not is_fp8(header[name]["dtype"]):
        return None
    return next((scale for scale in (f"{layer}.{suffix}" for suffix in _SCALES) if scale in header), None)


def is_scaled(header: Mapping[str, Any]) -> bool:
    """Whether any weight has a scale."""
    return any(scale_name(name, header) for name in header)


def weight_names(header: Mapping[str, Any]) -> list[str]:
    """The names of all tensors but the scales of fp8 weights and what is no weight."""
    aside = set(_NO_WEIGHTS)
    for name in header:
        if scale := scale_name(name, header):
            layer = name.rpartition(".")[0]
            aside |= {scale, *(f"{layer}.{suffix}" for suffix in _INPUT_SCALES)}
    return [name for name in header if name not in aside]
