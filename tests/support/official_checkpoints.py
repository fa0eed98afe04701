"""Checkpoint files with the names of the official code, and models that are loaded from them or the tiny bundle."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from places import REFERENCE
from safetensors.torch import load_file
from torch import Tensor

from ovi_studio.checkpoints.layout import require, take_inventory
from ovi_studio.checkpoints.load import Models, load_models
from ovi_studio.core.variants import Part, Variant, published_variants

CPU = torch.device("cpu")


def read_json(name: str) -> dict[str, Any]:
    return json.loads((REFERENCE / f"{name}.config.json").read_text())


OFFICIAL = dataclasses.replace(
    published_variants()["720x720_5s"],
    dimensions={name: read_json(name) for name in ("fusion", "video_vae", "text_encoder", "audio_codec")},
)
WEIGHTS = {
    Part.TRANSFORMER: "fusion.weights",
    Part.TEXT_ENCODER: "text_encoder.weights",
    Part.VIDEO_VAE: "video_vae.weights",
    Part.AUDIO_VAE: "audio_codec.vae",
    Part.VOCODER: "audio_codec.vocoder",
}


def official_tensors(part: Part) -> dict[str, Tensor]:
    return load_file(REFERENCE / f"{WEIGHTS[part]}.safetensors")


def official_path(directory: Path, part: Part) -> Path:
    path = directory / OFFICIAL.files[part][0].location
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def load(variant: Variant, directory: Path, dtype: torch.dtype = torch.float32) -> Models:
    inventory = take_inventory(variant, directory)
    assert inventory.problems == ()
    return load_models(inventory, CPU, dtype)


def tensors_of(models: Models) -> dict[str, Tensor]:
    parts = (models.transformer, models.text_encoder, models.video_vae, models.audio_vae, models.vocoder)
    return {
        f"{number}.{name}": tensor for number, part in enumerate(parts) for name, tensor in part.state_dict().items()
    }


def assert_same(one: Models, other: Models) -> None:
    left, right = tensors_of(one), tensors_of(other)
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


def part_path(bundle: Path, part: Part) -> Path:
    (path,) = require("tiny", bundle).files[part]
    return path


def load_bundle(bundle: Path, dtype: torch.dtype = torch.float32) -> Models:
    return load_models(require("tiny", bundle), CPU, dtype)
