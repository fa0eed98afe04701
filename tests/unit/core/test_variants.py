"""What the variants say about their files."""

import json
from pathlib import Path

import pytest

from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import EMBEDDED_BUNDLE, published_variants, read_bundle
from ovi_studio.core.weight_formats import Weights


def bundle(folder: Path, **entries: str) -> Path:
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
