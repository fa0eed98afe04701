"""Every number that scales a change is used, wherever a file has it: alphas, headers, magnitudes, multipliers."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from adapter_helpers import parameter_shapes
from reference_adapters import QUERY, REFERENCE
from safetensors.torch import save_file
from torch import Tensor

from ovi_studio.adapters.match_report import MatchReport
from ovi_studio.adapters.names import NameMap
from ovi_studio.adapters.read import read_adapter
from ovi_studio.core.errors import JobError
from ovi_studio.training.lora import LoraCard, LoraSettings, save_lora

LAYER = "transformer.blocks.0.attn1.to_q"
OTHER = "transformer.blocks.1.attn2.to_k"
OFFICIAL = {LAYER: f"{QUERY}.weight", OTHER: "video_model.blocks.1.cross_attn.k.weight"}
DOWN, UP = (torch.randn(shape, generator=torch.Generator().manual_seed(1)) for shape in ((4, 64), (64, 4)))


@pytest.fixture(scope="module")
def names() -> NameMap:
    return NameMap(parameter_shapes(REFERENCE / "fusion.weights.safetensors"))


def pair(layer: str = LAYER, down: str = "lora_A.weight", up: str = "lora_B.weight") -> dict[str, Tensor]:
    return {f"{layer}.{down}": DOWN, f"{layer}.{up}": UP}


def write(folder: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    path = folder / "a.safetensors"
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, path, dict(metadata or {}))
    return path


def delta(path: Path, names: NameMap, parameter: str = f"{QUERY}.weight", weight: Tensor | None = None) -> Tensor:
    (change,) = read_adapter(path, names).changes[parameter]
    return change.delta(weight).view(names.shapes[parameter])


def report(path: Path, names: NameMap) -> MatchReport:
    return read_adapter(path, names).report


# Headers


def diffusers(**values: object) -> dict[str, str]:
    """A header as diffusers writes it."""
    values = {"r": 4, "lora_alpha": 64, "use_rslora": False, "alpha_pattern": {}, "rank_pattern": {}} | values
    return {"lora_adapter_metadata": json.dumps({f"transformer.{name}": value for name, value in values.items()})}


@pytest.mark.parametrize(
    ("metadata", "scale"),
    [
        ({}, 1),
        (diffusers(), 16),
        (diffusers(use_rslora=True), 32),
        (diffusers(alpha_pattern={"blocks.0.attn1.to_q": 8}), 2),
        (diffusers(alpha_pattern={"attn1.to_q": 8}), 2),
        (diffusers(alpha_pattern={"^transformer.blocks.0.attn1.to_q": 8}), 2),
        (diffusers(alpha_pattern={"attn2.to_k": 8}), 16),
        (diffusers(lora_alpha=None), 2),  # PEFT's own default
        ({"lora_adapter_metadata": '{"r": 4, "lora_alpha": 2}'}, 0.5),
        ({"lora_adapter_metadata": '{"transformer": {"r": 4, "lora_alpha": 12}}'}, 3),
        ({"lora_adapter_metadata": '{"text_encoder.lora_alpha": 1, "transformer.lora_alpha": 12}'}, 3),
        ({"lora_adapter_metadata": '{"transformer.target_modules": ["to_q"]}', "alpha": "8"}, 2),
        ({"alpha": "8", "rank": "4"}, 2),
        ({"lora_alpha": "8.0"}, 2),
        ({"lora_alpha": "8", "r": "4", "use_rslora": "True"}, 4),
        ({"lora_alpha": "8", "alpha_pattern": '{"attn1.to_q": 2}'}, 0.5),
        ({"adapter_config": '{"r": 4, "lora_alpha": 2, "peft_type": "LORA"}'}, 0.5),
        ({"rank": "4"}, 1),
        ({"ss_network_dim": "4", "ss_network_alpha": "1"}, 0.25),
        ({"ss_network_alpha": "None"}, 1),
        ({"lora_alpha": "8", "ss_network_alpha": "1"}, 2),
        # musubi-tuner folds alpha into the tensors when it converts to these names, and keeps the header.
        ({"ss_network_alpha": "1", "ss_network_module": "networks.lora_wan"}, 1),
    ],
)
def test_the_header_scales_a_pair_without_alpha(
    tmp_path: Path, names: NameMap, metadata: dict[str, str], scale: float
) -> None:
    path = write(tmp_path, pair(), metadata)
    torch.testing.assert_close(delta(path, names), scale * UP @ DOWN)
    assert report(path, names).scales == (scale,)


@pytest.mark.parametrize(
    "metadata", [diffusers(), {"ss_network_alpha": "32", "ss_network_dim": "4", "ss_network_module": "networks.lora"}]
)
def test_an_alpha_among_the_tensors_counts_more_than_the_header(
    tmp_path: Path, names: NameMap, metadata: dict[str, str]
) -> None:
    tensors = pair(down="lora_down.weight", up="lora_up.weight") | pair(OTHER, "lora_down.weight", "lora_up.weight")
    path = write(tmp_path, tensors | {f"{LAYER}.alpha": torch.tensor(2.0)}, metadata)
    torch.testing.assert_close(delta(path, names), 0.5 * UP @ DOWN)
    # Layers without one follow the header.
    stated = 64 / 4 if "lora_adapter_metadata" in metadata else 32 / 4
    torch.testing.assert_close(delta(path, names, OFFICIAL[OTHER]), stated * UP @ DOWN)


def test_each_component_has_its_own_scale(tmp_path: Path, names: NameMap) -> None:
    tensors = pair("audio_model.blocks.0.self_attn.q") | pair("video_model.blocks.0.self_attn.q")
    metadata = {"lora_adapter_metadata": '{"audio_model.lora_alpha": 8, "video_model.lora_alpha": 2}'}
    path = write(tmp_path, tensors, metadata)
    torch.testing.assert_close(delta(path, names, "audio_model.blocks.0.self_attn.q.weight"), 2 * UP @ DOWN)
    torch.testing.assert_close(delta(path, names), 0.5 * UP @ DOWN)
    with pytest.raises(JobError, match="different scales for audio_model, video_model"):
        read_adapter(write(tmp_path, pair("blocks.0.self_attn.q"), metadata), names)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"lora_adapter_metadata": "{"}, "no JSON object"),
        ({"lora_adapter_metadata": "[1]"}, "no JSON object"),
        (diffusers(lora_alpha="much"), "alpha 'much' is not a number"),
        (diffusers(lora_alpha=float("inf")), "alpha 'inf' is not a number"),
        (diffusers(use_rslora="perhaps"), "neither true nor false"),
        (diffusers(alpha_pattern=[1]), "alpha_pattern is not an object"),
        (diffusers(alpha_pattern={"(a+)+$": 1}), "plain layer names"),
        (diffusers(init_lora_weights="pissa"), "changes the base weights"),
        (diffusers(peft_type="LOHA"), "method LOHA"),
        (diffusers(use_dora=True), "no magnitudes"),
        ({"alpha": "much"}, "alpha 'much' is not a number"),
        ({"use_rslora": "true", "r": "4"}, "use_rslora without lora_alpha"),
    ],
)
def test_a_header_whose_scale_is_unclear_is_refused(
    tmp_path: Path, names: NameMap, metadata: dict[str, str], words: str
) -> None:
    with pytest.raises(JobError, match=words) as refusal:
        read_adapter(write(tmp_path, pair(), metadata), names)
    assert "a.safetensors" in str(refusal.value)


def test_an_alpha_pattern_without_a_layer_is_said(tmp_path: Path, names: NameMap) -> None:
    path = write(tmp_path, pair(), diffusers(alpha_pattern={"blocks.7.attn1.to_q": 8}))
    assert "alpha_pattern for blocks.7.attn1.to_q names no layer" in (report(path, names).warning() or "")


def test_an_adapter_that_was_trained_here_is_not_scaled_twice(tmp_path: Path, names: NameMap) -> None:
    path, settings = tmp_path / "own.safetensors", LoraSettings(rank=4, alpha=16)
    weights = {f"{QUERY}.lora_A.default.weight": DOWN, f"{QUERY}.lora_B.default.weight": UP}
    save_lora(weights, path, settings, LoraCard(title="own", base_model="tiny"))
    torch.testing.assert_close(delta(path, names), 4 * UP @ DOWN)


# Numbers among the tensors


@pytest.mark.parametrize("ending", ["alpha", "lora_alpha", "network_alpha"])
@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.int64, torch.uint8],
)
def test_an_alpha_is_read_under_each_name_and_in_each_format(
    tmp_path: Path, names: NameMap, ending: str, dtype: torch.dtype
) -> None:
    path = write(tmp_path, pair() | {f"{LAYER}.{ending}": torch.tensor(6.0).to(dtype)})
    torch.testing.assert_close(delta(path, names), 1.5 * UP @ DOWN)


def test_an_alpha_belongs_to_the_only_adapter_of_its_layer(tmp_path: Path, names: NameMap) -> None:
    named = pair(down="lora_A.default.weight", up="lora_B.default.weight")
    path = write(tmp_path, named | {f"{LAYER}.alpha": torch.tensor(8.0), f"{LAYER}.dora_scale": torch.ones(64)})
    weight = torch.randn(64, 64)
    changed = weight + 2 * UP @ DOWN
    expected = changed / changed.norm(dim=1, keepdim=True) - weight
    torch.testing.assert_close(delta(path, names, weight=weight), expected)


@pytest.mark.parametrize(
    "ending",
    [
        "dora_scale",
        "magnitude",
        "magnitude.weight",
        "lora_magnitude_vector",
        "lora_magnitude_vector.weight",
        "lora_magnitude_vector.default.weight",
    ],
)
def test_magnitudes_make_a_dora_under_each_name(tmp_path: Path, names: NameMap, ending: str) -> None:
    weight, lengths = torch.randn(64, 64), torch.rand(64) + 0.5
    path = write(tmp_path, pair() | {f"{LAYER}.{ending}": lengths}, diffusers(lora_alpha=8))
    changed = weight + 2 * UP @ DOWN
    expected = lengths[:, None] * changed / changed.norm(dim=1, keepdim=True) - weight
    torch.testing.assert_close(delta(path, names, weight=weight), expected)
    assert report(path, names).kinds == ("DoRA",)


@pytest.mark.parametrize("by_rows", [False, True])
@pytest.mark.parametrize("ending", ["scale_weight", "weight_scale"])
def test_fp8_matrices_are_multiplied_by_their_scale(tmp_path: Path, names: NameMap, ending: str, by_rows: bool) -> None:
    down, up = (matrix.to(torch.float8_e4m3fn) for matrix in (DOWN, UP))
    scale = torch.arange(1.0, 5.0) if by_rows else torch.tensor(0.25)
    tensors = {f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": up}
    scales = {f"{LAYER}.lora_A.{ending}": scale, f"{LAYER}.lora_B.{ending}": torch.tensor([3.0])}
    path = write(tmp_path, tensors | scales | {f"{LAYER}.alpha": torch.tensor(8.0)})
    expected = 2 * (3 * up.float()) @ (down.float() * (scale[:, None] if by_rows else scale))
    torch.testing.assert_close(delta(path, names), expected)
    assert report(path, names).complete


def test_a_scalar_multiplies_every_product(tmp_path: Path, names: NameMap) -> None:
    scalar = {f"{LAYER}.scalar": torch.tensor(-0.5)}
    path = write(tmp_path, pair() | scalar | {f"{LAYER}.alpha": torch.tensor(8.0)})
    torch.testing.assert_close(delta(path, names), -UP @ DOWN)
    first, second = torch.randn(8, 8), torch.randn(8, 8)
    path = write(tmp_path, {f"{LAYER}.lokr_w1": first, f"{LAYER}.lokr_w2": second, **scalar})
    torch.testing.assert_close(delta(path, names), -0.5 * torch.kron(first, second))


@pytest.mark.parametrize("kernel", [(), (1, 1)])
def test_a_tucker_core_of_a_linear_layer_is_applied(tmp_path: Path, names: NameMap, kernel: tuple[int, ...]) -> None:
    core = torch.randn(4, 4)
    tensors = pair(down="lora_down.weight", up="lora_up.weight") | {
        f"{LAYER}.lora_mid.weight": core.view(4, 4, *kernel)
    }
    path = write(tmp_path, tensors | {f"{LAYER}.alpha": torch.tensor(2.0)})
    torch.testing.assert_close(delta(path, names), 0.5 * UP @ core @ DOWN)


# What is not understood


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("oft_blocks", torch.ones(2, 2)),
        ("bora_scale.weight", torch.ones(64)),
        ("lora_C.default.weight", torch.ones(4, 4)),
        ("scale", torch.tensor(2.0)),
        ("scale_weight", torch.tensor(2.0)),
        ("reshape_weight", torch.ones(2)),
        ("lora_down.weight", DOWN),  # twice
        ("lora.alpha", torch.tensor(2.0)),
        ("scalar", torch.ones(3)),
        ("lora_A.scale_weight", torch.ones(3)),
        ("dora_scale", torch.ones(64, dtype=torch.uint8)),
        ("alpha.scale_weight", torch.tensor(2.0)),
    ],
)
def test_a_layer_with_a_tensor_that_is_not_understood_is_refused_alone(
    tmp_path: Path, names: NameMap, name: str, tensor: Tensor
) -> None:
    path = write(tmp_path, pair() | pair(OTHER) | {f"{LAYER}.{name}": tensor})
    adapter = read_adapter(path, names)
    assert set(adapter.changes) == {OFFICIAL[OTHER]}
    assert {item.tensor for item in adapter.report.unused} == {*pair(), f"{LAYER}.{name}"}
    reasons = " ".join(item.reason for item in adapter.report.unused if item.tensor in pair())
    assert "comes with" in reasons or "has " in reasons
    assert (adapter.report.matched, adapter.report.complete) == (1, False)


@pytest.mark.parametrize("name", ["base_layer.weight", "base_layer.bias", "scale_input"])
def test_a_tensor_that_cannot_change_the_layer_is_only_left_out(tmp_path: Path, names: NameMap, name: str) -> None:
    path = write(tmp_path, pair() | {f"{LAYER}.{name}": torch.ones(64)})
    torch.testing.assert_close(delta(path, names), UP @ DOWN)
    assert [item.tensor for item in report(path, names).unused] == [f"{LAYER}.{name}"]


def test_a_difference_under_two_names_is_refused(tmp_path: Path, names: NameMap) -> None:
    path = write(tmp_path, {f"{front}.blocks.0.norm3.diff": torch.ones(64) for front in ("model", "ema")})
    with pytest.raises(JobError, match="twice, under two names"):
        read_adapter(path, names)


# Changes of nothing


@pytest.mark.parametrize(
    ("tensors", "metadata"),
    [
        ({f"{LAYER}.alpha": torch.tensor(0.0)}, {}),
        ({f"{LAYER}.alpha": torch.tensor(0, dtype=torch.int32)}, {}),
        ({f"{LAYER}.scalar": torch.tensor(0.0)}, {}),
        ({f"{LAYER}.lora_B.weight": -torch.zeros(64, 4)}, {}),
        ({}, diffusers(lora_alpha=0)),
    ],
)
def test_an_adapter_of_zeros_says_that_it_changes_nothing(
    tmp_path: Path, names: NameMap, tensors: dict[str, Tensor], metadata: dict[str, str]
) -> None:
    path = write(tmp_path, pair() | tensors, metadata)
    assert not delta(path, names).any()
    assert "changes nothing" in (report(path, names).warning() or "")


def test_one_change_is_not_nothing(tmp_path: Path, names: NameMap) -> None:
    path = write(tmp_path, pair() | pair(OTHER) | {f"{LAYER}.alpha": torch.tensor(0.0)})
    assert report(path, names).warning() is None
    dora = pair() | {f"{LAYER}.alpha": torch.tensor(0.0), f"{LAYER}.magnitude": torch.ones(64)}
    assert report(write(tmp_path, dora), names).warning() is None
