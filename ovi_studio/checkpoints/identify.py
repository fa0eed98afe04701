"""Which part of a variant a safetensors file holds, told from the names, shapes and dtypes in its header. No torch.

A few landmarks identify a part: tensors that no other model has under these names with these shapes. Loading compares
every tensor.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ovi_studio.checkpoints.keys import TEXT_ENCODER_RULES, TRANSFORMER_RULES, VIDEO_VAE_RULES, Rules, rename
from ovi_studio.checkpoints.scaled_fp8 import is_fp8, is_scaled, weight_names
from ovi_studio.core.variants import Part, Variant, decoder_levels
from ovi_studio.core.weight_formats import Weights

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

_RULES: Mapping[Part, Rules] = {
    Part.TRANSFORMER: TRANSFORMER_RULES,
    Part.TEXT_ENCODER: TEXT_ENCODER_RULES,
    Part.VIDEO_VAE: VIDEO_VAE_RULES,
    Part.AUDIO_VAE: (),
    Part.VOCODER: (),
}
_HINTS: Mapping[Part, tuple[str, ...]] = {
    Part.TRANSFORMER: ("cross_attn.k_fusion.weight",),
    Part.TEXT_ENCODER: ("shared.weight", "token_embedding.weight", "embed_tokens.weight"),
    Part.VIDEO_VAE: ("decoder.conv_in.weight", "decoder.conv1.weight"),
    Part.AUDIO_VAE: ("decoder.conv_in.weight",),
    Part.VOCODER: ("conv_pre.bias",),
}
"""Ends of names without which a file cannot be the part: folders hold thousands of files of other models."""
_KIN: Mapping[Part, Mapping[str, int]] = {
    Part.TEXT_ENCODER: {"shared.weight": 2, "encoder.block.0.layer.0.SelfAttention.q.weight": 2},
    Part.VIDEO_VAE: {"decoder.conv_in.weight": 5, "post_quant_conv.weight": 5},
    Part.AUDIO_VAE: {"decoder.conv_in.weight": 3, "decoder.mid.attn_1.qkv.weight": 3},
    Part.VOCODER: {"conv_pre.bias": 1, "ups.0.0.bias": 1},
}
"""Tensors, with their number of dimensions, of all models of a kind, whatever their size."""
_FLOATS = {"F32", "F16", "BF16"}
_TOWERS = ("video_model", "audio_model")
_VARIANT_NAMES = (
    (re.compile(r"960x960_?10s"), "960x960_10s"),
    (re.compile(r"960x960"), "960x960_5s"),
    (re.compile(r"720x720|^model(_fp8_e4m3fn)?$|^wan_?2_[12]_ovi_(video|audio)"), "720x720_5s"),
)
"""How people name the files of the transformers, which all have the same shapes; the first that matches decides."""

_SHARD = re.compile(r"-\d{5}-of-\d{5}$")


@dataclass(frozen=True)
class Identity:
    """What a file is."""

    part: Part
    fault: str = ""
    """Why the variant cannot use it, as the end of a sentence about the file; empty if it can."""
    towers: tuple[str, ...] = ()
    """Of a transformer: the towers in the file."""
    dtype: str = ""
    """The dtype of most weights, as in safetensors."""


def identify(header: Mapping[str, Any], stem: str, variant: Variant) -> Identity | None:
    """What the file called `stem` is for `variant`; None if it has nothing to do with it.

    Args:
        header: names with dtype and shape, of one file or of all shards.
    """
    hinted = [part for part, ends in _HINTS.items() if any(name.endswith(ends) for name in header)]
    if not hinted:
        return None
    names = weight_names(header)
    dtype = _main_dtype(header, names)
    for part in hinted:
        rules = _RULES[part]
        shapes = {rename(name, rules): tuple(header[name]["shape"]) for name in names}
        if part is Part.TRANSFORMER:
            towers = tuple(tower for tower in _TOWERS if f"{tower}.blocks.0.cross_attn.k_fusion.weight" in shapes)
            if towers and variant_of(stem) in (None, variant.name.removesuffix("_fp8")):
                fault = _transformer_fault(shapes, towers, header, dtype, stem, variant)
                return Identity(part, fault, towers, dtype)
        elif all(len(shapes.get(name, ())) == dimensions for name, dimensions in _KIN[part].items()):
            fault = _shape_fault(shapes, _landmarks(part, variant.dimensions), part) or _dtype_fault(header, names)
            return Identity(part, fault, (), dtype)
    return None


def variant_of(stem: str) -> str | None:
    """The bf16 variant that the name of a transformer's file says; None if it does not say any."""
    stem = _SHARD.sub("", stem.lower())
    return next((name for pattern, name in _VARIANT_NAMES if pattern.search(stem)), None)


def _transformer_fault(
    shapes: Shapes, towers: Sequence[str], header: Mapping[str, Any], dtype: str, stem: str, variant: Variant
) -> str:
    landmarks: dict[str, Shape] = {}
    for tower in towers:
        landmarks |= _tower_landmarks(tower, variant.dimensions["fusion"][tower.removesuffix("_model")])
    if fault := _shape_fault(shapes, landmarks, Part.TRANSFORMER):
        return fault
    if variant_of(stem) is None:
        return (
            "is a transformer of Ovi, but its name does not say of which variant; rename it so that it contains "
            "960x960_10s, 960x960 or 720x720"
        )
    if is_scaled(header):
        return f"holds fp8 weights with scales, but variant {variant.name} needs the file without them"
    if variant.weights is Weights.FP8 and dtype != "F8_E4M3":
        return f"holds {dtype} weights, but variant {variant.name} needs F8_E4M3"
    if variant.weights is not Weights.FP8 and is_fp8(dtype):
        return f"holds {dtype} weights, but variant {variant.name} needs BF16"
    return _dtype_fault(header, weight_names(header))


def _tower_landmarks(tower: str, sizes: Mapping[str, Any]) -> dict[str, Shape]:
    dim, last = sizes["dim"], f"{tower}.blocks.{sizes['num_layers'] - 1}"
    kernel = {"video_model": ("weight", *sizes["patch_size"]), "audio_model": ("0.weight", 7)}[tower]
    return {
        f"{tower}.patch_embedding.{kernel[0]}": (dim, sizes["in_dim"], *kernel[1:]),
        f"{last}.ffn.0.weight": (sizes["ffn_dim"], dim),
        f"{last}.cross_attn.k_fusion.weight": (dim, dim),
    }


def _landmarks(part: Part, dimensions: Mapping[str, Any]) -> dict[str, Shape]:
    if part is Part.TEXT_ENCODER:
        sizes = dimensions["text_encoder"]
        last = f"encoder.block.{sizes['num_layers'] - 1}.layer"
        return {
            "shared.weight": (sizes["vocab_size"], sizes["dim"]),
            f"{last}.1.DenseReluDense.wo.weight": (sizes["dim"], sizes["dim_ffn"]),
            # T5 has this bias in its first layer alone.
            f"{last}.0.SelfAttention.relative_attention_bias.weight": (sizes["num_buckets"], sizes["num_heads"]),
        }
    if part is Part.VIDEO_VAE:
        sizes = dimensions["video_vae"]
        latents, pixels = sizes["z_dim"], 3 * sizes["patch_size"] ** 2
        return {
            "decoder.conv_in.weight": (sizes["dec_dim"] * decoder_levels(sizes)[0][-1], latents, 3, 3, 3),
            "quant_conv.weight": (2 * latents, 2 * latents, 1, 1, 1),
            "encoder.conv_in.weight": (sizes["dim"], pixels, 3, 3, 3),
        }
    if part is Part.AUDIO_VAE:
        sizes = dimensions["audio_codec"]["vae"]
        return {
            "decoder.conv_in.weight": (sizes["hidden_dim"] * sizes["ch_mult"][-1], sizes["embed_dim"], 3),
            "encoder.conv_in.weight": (sizes["hidden_dim"], sizes["data_dim"], 3),
            "data_mean": (1, sizes["data_dim"], 1),
        }
    sizes = dimensions["audio_codec"]["vocoder"]
    width, depth = sizes["upsample_initial_channel"], len(sizes["upsample_rates"])
    return {"conv_pre.bias": (width,), f"ups.{depth - 1}.0.bias": (width >> depth,)}


def _shape_fault(shapes: Shapes, landmarks: Shapes, part: Part) -> str:
    for name, shape in landmarks.items():
        if name not in shapes:
            return f"is the {part} of another model, or only a piece of one: it has no {name}"
        if shapes[name] != shape:
            return f"is the {part} of another model: {name} has shape {shapes[name]} instead of {shape}"
    return ""


def _main_dtype(header: Mapping[str, Any], names: Sequence[str]) -> str:
    """The dtype with the most bytes."""
    counts: dict[str, int] = {}
    for name in names:
        start, end = header[name]["data_offsets"]
        counts[header[name]["dtype"]] = counts.get(header[name]["dtype"], 0) + end - start
    return max(counts, key=lambda dtype: counts[dtype], default="")


def _dtype_fault(header: Mapping[str, Any], names: Sequence[str]) -> str:
    other = next((header[name]["dtype"] for name in names if not _is_read(header[name]["dtype"])), None)
    return f"holds {other} weights, which cannot be read" if other else ""


def _is_read(dtype: str) -> bool:
    return dtype in _FLOATS or is_fp8(dtype)
