"""The names and shapes for matching adapters equal those of the models."""

import json
from typing import Any

import pytest
import torch
from places import REFERENCE

from ovi_studio.adapters.model_names import model_names, transformer_shapes
from ovi_studio.core.variants import EMBEDDED_BUNDLE, published_variants, read_bundle
from ovi_studio.models.transformer import OviTransformer

KEYS = REFERENCE / "keys" / "ovi_fusion.keys.json"


def built_shapes(dimensions: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = OviTransformer(**dimensions)
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def test_the_published_model_has_these_parameters_and_no_others() -> None:
    published = {name: tuple(shape) for name, shape in json.loads(KEYS.read_text()).items()}
    assert transformer_shapes(published_variants()["960x960_5s"].dimensions["fusion"]) == published


@pytest.mark.parametrize("which", ["tiny", "embedded"])
def test_small_models_have_these_parameters_and_no_others(tiny_dimensions: dict[str, Any], which: str) -> None:
    small = {"tiny": tiny_dimensions, "embedded": read_bundle(EMBEDDED_BUNDLE).dimensions}[which]["fusion"]
    assert transformer_shapes(small) == built_shapes(small)


def test_the_names_of_variants_of_one_size_are_cached() -> None:
    variants = published_variants()
    names = model_names(variants["960x960_5s"])
    assert names is model_names(variants["960x960_10s"])
    assert [names.linear_layers(tower) for tower in ("video", "audio")] == [366, 366]
