"""Full-size or tiny models with random weights, made in seconds.

Values are drawn on the device where the model computes, tensor by tensor, and copied from there: the host alone would
take minutes for full-size weights. Their scale keeps every activation finite: norms are 1, matrices preserve the
variance of their input. The codecs are small enough for PyTorch's default initialisation.
"""

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from tiny_model import DIMENSIONS
from torch import Tensor, nn

from gpu.check import Rig
from ovi_studio.checkpoints.number_formats import as_loaded, prepare
from ovi_studio.core.variants import published_variants
from ovi_studio.core.weight_formats import Weights
from ovi_studio.models.attention import choose_backend
from ovi_studio.models.audio_vae import AudioVAE
from ovi_studio.models.text_encoder import build_text_encoder
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.models.video_vae import build_video_vae
from ovi_studio.models.vocoder import Vocoder

M = TypeVar("M", bound=nn.Module)

CPU = torch.device("cpu")


def dimensions(rig: Rig) -> Mapping[str, Any]:
    """Return the dimensions of every model: the published ones, or tiny ones."""
    return DIMENSIONS if rig.small else published_variants()["960x960_5s"].dimensions


def fusion_dimensions(rig: Rig, layers: int, **others: int) -> dict[str, Any]:
    """Return the transformer's dimensions with `layers` blocks; `others` overrides further values of both towers."""
    fusion = copy.deepcopy(dict(dimensions(rig)["fusion"]))
    for tower in fusion.values():
        tower.update(num_layers=layers, **others)
    return fusion


def meta_transformer(fusion: Mapping[str, Any], dtype: torch.dtype, weights: Weights = Weights.BF16) -> OviTransformer:
    """Build a transformer on the meta device, with the number formats that loading gives it."""
    with torch.device("meta"):
        model = OviTransformer(**fusion)
        prepare(model, weights)
        return as_loaded(model, dtype).eval().requires_grad_(False)


def random_transformer(
    rig: Rig, fusion: Mapping[str, Any], home: torch.device, weights: Weights = Weights.BF16, seed: int = 0
) -> OviTransformer:
    """Build a transformer with random weights on the device `home`."""
    model = filled(meta_transformer(fusion, rig.dtype, weights).to_empty(device=home), rig.device, seed)
    model.set_attention(choose_backend("native", rig.device))
    return model


def random_text_encoder(rig: Rig, home: torch.device) -> nn.Module:
    with torch.device("meta"):
        model = as_loaded(build_text_encoder(dimensions(rig)["text_encoder"]), rig.dtype)
    model = model.to_empty(device=home).eval().requires_grad_(False)
    model.tie_weights()
    return filled(model, rig.device)


def random_video_vae(rig: Rig, home: torch.device) -> Any:
    return _initialised(rig, lambda: build_video_vae(dimensions(rig)["video_vae"]), home, rig.dtype)


def random_audio_vae(rig: Rig, home: torch.device) -> AudioVAE:
    codec = dimensions(rig)["audio_codec"]["vae"]
    return _initialised(rig, lambda: AudioVAE(**codec), home, torch.float32).fuse_weight_norm()


def random_vocoder(rig: Rig, home: torch.device) -> Vocoder:
    codec = dimensions(rig)["audio_codec"]["vocoder"]
    return _initialised(rig, lambda: Vocoder.from_config(codec), home, torch.float32)


def filled(model: M, worker: torch.device, seed: int = 0) -> M:
    """Fill a model, which must have no buffers, with random weights drawn on `worker`."""
    assert not list(model.buffers())
    generator = torch.Generator(worker).manual_seed(seed)
    for name, parameter in model.named_parameters():
        parameter.data.copy_(_values(name, parameter, generator))
    return model


def _values(name: str, like: Tensor, generator: torch.Generator) -> Tensor:
    values = torch.empty(like.shape, dtype=like.dtype, device=generator.device)
    if like.dtype == torch.int8:
        return values.random_(-127, 128, generator=generator)
    if name.endswith("weight_scale"):
        # Integers from -127 to 127 have a standard deviation of 73.
        return values.fill_(1 / 73 / _MATRIX_COLUMNS**0.5)
    if name.endswith("weight") and like.dim() == 1:
        return values.fill_(1)
    fan_in = like[0].numel() if name.endswith("weight") else 2500
    return values.normal_(std=fan_in**-0.5, generator=generator)


_MATRIX_COLUMNS = 3072
"""Columns of most matrices; a scale does not know those of its own matrix."""


def _initialised(rig: Rig, build: Any, home: torch.device, dtype: torch.dtype) -> Any:
    with torch.random.fork_rng([rig.device] if rig.on_gpu else []), rig.device:
        torch.manual_seed(0)
        model = build()
    return as_loaded(model, dtype).to(home).eval().requires_grad_(False)
