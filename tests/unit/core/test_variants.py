"""What the variants say about their files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ovi_studio.capacity.memory import Demand
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec, clip_size
from ovi_studio.core.variants import EMBEDDED_BUNDLE, published_variants, read_bundle
from ovi_studio.core.weight_formats import Weights


def bundle(folder: Path, **entries: object) -> Path:
    described = json.loads((EMBEDDED_BUNDLE / "bundle.json").read_text(encoding="utf-8"))
    (folder / "bundle.json").write_text(json.dumps(described | entries), encoding="utf-8")
    return folder


def test_only_the_community_file_is_in_fp8() -> None:
    assert [name for name, variant in published_variants().items() if variant.weights is not Weights.BF16] == [
        "720x720_5s_fp8"
    ]
    assert published_variants()["720x720_5s_fp8"].weights is Weights.FP8


def test_a_bundle_may_say_that_its_file_is_in_fp8(tmp_path: Path) -> None:
    assert read_bundle(bundle(tmp_path)).weights is Weights.BF16
    assert read_bundle(bundle(tmp_path, weights="fp8")).weights is Weights.FP8


@pytest.mark.parametrize("weights", ["fp4", "int8", "fp8-fast"])
def test_a_bundle_in_a_number_format_that_no_file_has_is_refused(tmp_path: Path, weights: str) -> None:
    with pytest.raises(JobError, match=rf"does not describe a model bundle .*'{weights}' are not stored in files"):
        read_bundle(bundle(tmp_path, weights=weights))


def test_sizes_of_a_bundle_follow_the_dimensions_of_its_models(tmp_path: Path) -> None:
    assert {(variant.latent_stride, variant.size_unit) for variant in published_variants().values()} == {(16, 32)}
    dimensions = json.loads((EMBEDDED_BUNDLE / "bundle.json").read_text(encoding="utf-8"))["dimensions"]
    dimensions["video_vae"] |= {"patch_size": 6, "dim_mult": [1, 2, 2]}
    variant = read_bundle(bundle(tmp_path, dimensions=dimensions, pixel_area=144 * 144, default_size=[144, 144]))
    assert (variant.latent_stride, variant.size_unit) == (24, 48)
    spec = ClipSpec(prompt="a ball", variant=variant.name)
    assert clip_size(spec, variant) == (144, 144)
    assert clip_size(replace(spec, size=(90, 160)), variant) == (96, 192)
    assert clip_size(spec, variant, picture=(1080, 1920)) == (96, 192)
    assert Demand.of(variant).latent_size == (6, 6)
    assert Demand.of(variant).video_tokens == variant.video_latent_frames * 9
