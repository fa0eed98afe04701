"""Adapter files of every format: matched names, reports and refusals."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_helpers import parameter_shapes
from reference_adapters import FOLDER, LORA, QUERY, REFERENCE, reference_file, write_lora
from safetensors.torch import load_file, save_file

from ovi_studio.adapters.formats.lora import LowRank
from ovi_studio.adapters.header import read_header
from ovi_studio.adapters.match import match_header
from ovi_studio.adapters.names import NameMap
from ovi_studio.adapters.read import read_adapter
from ovi_studio.adapters.scaling import PeftConfig
from ovi_studio.core.errors import JobError


@pytest.fixture(scope="module")
def names() -> NameMap:
    return NameMap(parameter_shapes(REFERENCE / "fusion.weights.safetensors"))


# Names


@pytest.mark.parametrize(
    ("written", "official"),
    [
        ("diffusion_model.blocks.0.self_attn.q", "video_model.blocks.0.self_attn.q.weight"),
        ("model.diffusion_model.blocks.2.ffn.0", "video_model.blocks.2.ffn.0.weight"),
        (
            "base_model.model.video_model.blocks.1.cross_attn.k_fusion",
            "video_model.blocks.1.cross_attn.k_fusion.weight",
        ),
        ("audio_model.blocks.1.cross_attn.v_fusion", "audio_model.blocks.1.cross_attn.v_fusion.weight"),
        ("transformer.blocks.1.attn1.to_out.0", "video_model.blocks.1.self_attn.o.weight"),
        ("transformer.blocks.1.attn2.to_v", "video_model.blocks.1.cross_attn.v.weight"),
        ("transformer.blocks.1.ffn.net.0.proj", "video_model.blocks.1.ffn.0.weight"),
        ("transformer.blocks.1.norm2", "video_model.blocks.1.norm3.weight"),
        ("transformer.blocks.1.scale_shift_table", "video_model.blocks.1.modulation.modulation"),
        ("transformer.scale_shift_table", "video_model.head.modulation"),
        ("transformer.proj_out", "video_model.head.head.weight"),
        ("transformer.condition_embedder.time_proj", "video_model.time_projection.1.weight"),
        ("transformer.condition_embedder.time_embedder.linear_2", "video_model.time_embedding.2.weight"),
        ("transformer.condition_embedder.text_embedder.linear_1", "video_model.text_embedding.0.weight"),
        ("diffusion_model.patch_embedding", "video_model.patch_embedding.weight"),
        ("lora_unet_blocks_0_cross_attn_k_fusion", "video_model.blocks.0.cross_attn.k_fusion.weight"),
        ("lora_unet__blocks_0_self_attn_norm_q", "video_model.blocks.0.self_attn.norm_q.weight"),
        ("lycoris_blocks_2_ffn_2", "video_model.blocks.2.ffn.2.weight"),
        ("lora_unet_audio_model_blocks_2_ffn_2", "audio_model.blocks.2.ffn.2.weight"),
        ("lora_unet_head_head", "video_model.head.head.weight"),
        ("diffusion_model.blocks.1.modulation", "video_model.blocks.1.modulation.modulation"),
        ("blocks.0._orig_mod.self_attn.q", "video_model.blocks.0.self_attn.q.weight"),
        ("blocks.0.self_attn.q._orig_mod", "video_model.blocks.0.self_attn.q.weight"),
        (
            "generator.module.audio_model._fsdp_wrapped_module.blocks.1._checkpoint_wrapped_module.ffn.2",
            "audio_model.blocks.1.ffn.2.weight",
        ),
        ("ema.model.unet.dit.blocks.1.ffn.2", "video_model.blocks.1.ffn.2.weight"),
        ("base_model.model.model.audio_model.head.head", "audio_model.head.head.weight"),
        ("blocks_0_self.attn_q", "video_model.blocks.0.self_attn.q.weight"),
        ("transformer.audio_model.blocks.1.attn1.to_out.0", "audio_model.blocks.1.self_attn.o.weight"),
        ("diffusion_model.blocks.1.audio_block.cross_attn.k", "audio_model.blocks.1.cross_attn.k.weight"),
        ("diffusion_model.blocks.1.video_block.cross_attn.k", "video_model.blocks.1.cross_attn.k.weight"),
        ("lora_unet_blocks_1_audio_block_cross_attn_k_fusion", "audio_model.blocks.1.cross_attn.k_fusion.weight"),
        ("diffusion_model.audio_blocks.1.ffn.0", "audio_model.blocks.1.ffn.0.weight"),
        ("model.audio.blocks.1.ffn.0", "audio_model.blocks.1.ffn.0.weight"),
        ("lora_unet_audio_patch_embedding_2_w1", "audio_model.patch_embedding.2.w1.weight"),
        ("blocks.1.audio_block.modulation", "audio_model.blocks.1.modulation.modulation"),
        ("blocks_audio.1.ffn.0", "audio_model.blocks.1.ffn.0.weight"),
        ("lora_unet_blocks_video_1_ffn_0", "video_model.blocks.1.ffn.0.weight"),
        ("blocks.1.audio_cross_attn.q", None),
        ("audio_model.blocks.1.video_block.ffn.0", None),
        ("transformer_2.blocks.0.self_attn.q", None),
        ("blocks.0.self_attn.k_img", None),
        ("blocks.99.self_attn.q", None),
        ("lora_unet_blocks_0_cross", None),
    ],
)
def test_a_layer_is_found_by_every_known_spelling(names: NameMap, written: str, official: str | None) -> None:
    assert names.weight(written) == official


def test_the_published_model_has_366_linear_layers_in_each_tower() -> None:
    keys = json.loads((REFERENCE / "keys" / "ovi_fusion.keys.json").read_text())
    names = NameMap({name: tuple(shape) for name, shape in keys.items()})
    assert [names.linear_layers(tower) for tower in ("video", "audio")] == [366, 366]


def test_modulation_differences_of_extracts_are_found(tmp_path: Path, names: NameMap) -> None:
    path = write_lora(
        tmp_path / "m.safetensors", {"diffusion_model.blocks.1.diff_m": (1, 6, 64), "head.diff_m": (1, 2, 64)}
    )
    assert set(read_adapter(path, names).changes) == {
        "video_model.blocks.1.modulation.modulation",
        "video_model.head.modulation",
    }


@pytest.mark.parametrize("front", ["my_style.", "wan_5b_", "a.b."])
def test_an_unknown_front_of_all_names_is_left_away_and_said(tmp_path: Path, names: NameMap, front: str) -> None:
    rows = {"blocks.0.self_attn.q": 64, "audio_blocks.1.ffn.0": 192}
    down = {f"{front}{layer}.lora_A.weight": (2, 64) for layer in rows}
    up = {f"{front}{layer}.lora_B.weight": (rows[layer], 2) for layer in rows}
    adapter = read_adapter(write_lora(tmp_path / "f.safetensors", down | up), names)
    assert set(adapter.changes) == {f"{QUERY}.weight", "audio_model.blocks.1.ffn.0.weight"}
    assert f"without {front!r} in front" in (adapter.report.warning() or "")


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ("lora_A._orig_mod.weight", "lora_B.weight"),
        ("lora_A.default._orig_mod.weight", "lora_B.default.weight"),
        ("_orig_mod.lora_down.module.weight", "_orig_mod.lora_up.weight"),
    ],
)
def test_a_wrapper_word_behind_the_layers_name_is_removed(tmp_path: Path, names: NameMap, down: str, up: str) -> None:
    path = write_lora(tmp_path / "f.safetensors", {f"{QUERY}.{down}": (2, 64), f"{QUERY}.{up}": (64, 2)})
    assert set(read_adapter(path, names).changes) == {f"{QUERY}.weight"}


def test_an_unknown_front_of_some_names_is_not_left_away(tmp_path: Path, names: NameMap) -> None:
    shapes = {"lora_A": (2, 64), "lora_B": (64, 2)}
    fronts = ("one.", "two.")
    path = write_lora(
        tmp_path / "f.safetensors",
        {f"{front}blocks.0.self_attn.q.{half}.weight": shapes[half] for front in fronts for half in shapes},
    )
    with pytest.raises(JobError, match="0 of its 4 tensors"):
        read_adapter(path, names)


def test_an_adapter_name_inside_peft_keys_is_understood(tmp_path: Path, names: NameMap) -> None:
    path = write_lora(
        tmp_path / "p.safetensors",
        {f"{QUERY}.lora_A.default.weight": (2, 64), f"{QUERY}.lora_B.default.weight": (64, 2)},
    )
    assert set(read_adapter(path, names).changes) == {f"{QUERY}.weight"}


@pytest.mark.parametrize("adapter", ["", ".default"])
def test_the_bias_of_the_second_matrix_is_scaled_like_the_pair(tmp_path: Path, names: NameMap, adapter: str) -> None:
    pair = {f"{QUERY}.lora_A{adapter}.weight": (2, 64), f"{QUERY}.lora_B{adapter}.weight": (64, 2)}
    tensors = {**pair, f"{QUERY}.lora_B{adapter}.bias": (64,)}
    path = write_lora(tmp_path / "b.safetensors", tensors)
    content = load_file(path)
    if not adapter:
        save_file({**content, f"{QUERY}.alpha": torch.tensor(8.0)}, path)
    changes = read_adapter(path, names).changes
    assert set(changes) == {f"{QUERY}.weight", f"{QUERY}.bias"}
    (bias,) = changes[f"{QUERY}.bias"]
    scale = 1.0 if adapter else 4.0
    assert torch.equal(bias.delta(None), content[f"{QUERY}.lora_B{adapter}.bias"] * scale)


def test_a_bias_without_its_pair_is_not_used(tmp_path: Path, names: NameMap) -> None:
    path = write_lora(tmp_path / "b.safetensors", {f"{QUERY}.lora_B.bias": (64,)})
    with pytest.raises(JobError, match="comes without"):
        read_adapter(path, names)


# Reports and refusals


def test_unused_tensors_are_reported_with_their_reason(names: NameMap) -> None:
    report = read_adapter(reference_file("partial.safetensors"), names).report
    assert len(report.unused) == 4
    assert (report.matched, report.layers) == (4, 6)
    assert not report.complete
    assert "4 of the file's tensors are not used" in (report.warning() or "")
    assert all("_img" in item.tensor for item in report.unused)


def test_a_complete_match_has_no_warning(names: NameMap) -> None:
    report = read_adapter(reference_file("peft_rslora"), names).report
    assert report.warning() is None
    assert report.summary() == "12 of 12 layers matched (video 6 of 42, audio 6 of 42)"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty.safetensors", "is empty"),
        ("half_pair.safetensors", "lora_B or lora_up is missing"),
        ("html.safetensors", "web page"),
        ("lfs_pointer.safetensors", "git-lfs"),
        ("nan.safetensors", "NaN or infinite"),
        ("no_match.safetensors", "0 of its 2 tensors"),
        ("pickle.pt", "is a pickle"),
        ("pickle_in_disguise.safetensors", "is a pickle with the name"),
        ("truncated.safetensors", "was cut off: it has 12280 bytes where its header says 24560"),
        ("wrong_model_14b.safetensors", "made for Wan 14B (width 5120)"),
    ],
)
def test_each_bad_file_is_refused_with_a_specific_message(names: NameMap, name: str, words: str) -> None:
    with pytest.raises(JobError) as refusal:
        read_adapter(FOLDER / "rejected" / name, names)
    assert words in str(refusal.value)


def test_an_adapter_of_the_small_wan_model_is_refused_by_name(tmp_path: Path, names: NameMap) -> None:
    path = write_lora(
        tmp_path / "s.safetensors",
        {"blocks.0.ffn.0.lora_A.weight": (4, 1536), "blocks.0.ffn.0.lora_B.weight": (8960, 4)},
    )
    with pytest.raises(JobError, match=r"Wan 1\.3B \(width 1536\)"):
        read_adapter(path, names)


def test_a_whole_checkpoint_is_recognised(tmp_path: Path, names: NameMap) -> None:
    path = write_lora(tmp_path / "w.safetensors", {f"blocks.0.self_attn.{name}.weight": (64, 64) for name in "qkvo"})
    with pytest.raises(JobError, match="the weights of a whole model"):
        read_adapter(path, names)


def test_a_layer_under_two_names_is_refused(tmp_path: Path, names: NameMap) -> None:
    layers = ("blocks.0.self_attn.q", "diffusion_model.blocks.0.self_attn.q")
    shapes = {"lora_A": (2, 64), "lora_B": (64, 2)}
    path = write_lora(
        tmp_path / "t.safetensors", {f"{layer}.{half}.weight": shapes[half] for layer in layers for half in shapes}
    )
    with pytest.raises(JobError, match="twice"):
        read_adapter(path, names)


# PEFT folders


def write_peft(folder: Path, rank: int, **config: Any) -> Path:
    folder.mkdir()
    write_lora(
        folder / "adapter_model.safetensors",
        {f"base_model.model.{QUERY}.lora_A.weight": (rank, 64), f"base_model.model.{QUERY}.lora_B.weight": (64, rank)},
    )
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8, **config}))
    return folder


@pytest.mark.parametrize(
    ("rank", "config", "scale"),
    [
        (4, {}, 2.0),
        (4, {"use_rslora": True}, 4.0),
        (16, {"rank_pattern": {"self_attn.q": 16}}, 0.5),
        (4, {"alpha_pattern": {"self_attn.q": 2}}, 0.5),
        (4, {"alpha_pattern": {"attn.q": 2}}, 2.0),
        (4, {"alpha_pattern": {"^" + QUERY.replace(".", r"\."): 1}}, 0.25),
    ],
)
def test_a_peft_folder_is_scaled_as_peft_does(
    tmp_path: Path, names: NameMap, rank: int, config: dict[str, Any], scale: float
) -> None:
    (change,) = read_adapter(write_peft(tmp_path / "folder", rank, **config), names).changes[f"{QUERY}.weight"]
    assert isinstance(change, LowRank)
    assert change.scale == scale


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"peft_type": "LOHA"}, "method LOHA"),
        ({"init_lora_weights": "pissa_niter_16"}, "changes the base weights"),
        ({"use_dora": True}, "no magnitudes"),
        ({"alpha_pattern": {"(a+)+$": 1}}, "plain layer names"),
        ({"lora_alpha": math.nan}, "not a readable"),
        ({"lora_alpha": [8]}, "not a readable"),
    ],
)
def test_an_unsupported_peft_folder_is_refused(
    tmp_path: Path, names: NameMap, config: dict[str, Any], words: str
) -> None:
    with pytest.raises(JobError, match=words):
        read_adapter(write_peft(tmp_path / "folder", 4, **config), names)


def test_the_hash_of_a_peft_folder_includes_its_configuration(tmp_path: Path, names: NameMap) -> None:
    one, other = (write_peft(tmp_path / str(alpha), 4, lora_alpha=alpha) for alpha in (4, 8))
    assert read_adapter(one, names).sha256 != read_adapter(other, names).sha256


def test_a_config_scales_by_the_rank_of_the_tensors() -> None:
    assert PeftConfig(8, {}, rslora=True, dora=False).scale("layer", 16) == 2


# Headers


def test_a_header_alone_gives_the_report(names: NameMap) -> None:
    report = match_header("file", read_header(reference_file(LORA)), names).report
    assert report == read_adapter(reference_file(LORA), names).report


def test_headers_and_library_need_no_torch(python_environment: dict[str, str]) -> None:
    modules = ("header", "names", "match", "scaling", "contents", "describe", "library", "model_names")
    imports = ", ".join(["ovi_studio.core.adapter_stack", *(f"ovi_studio.adapters.{name}" for name in modules)])
    code = f"import sys, {imports}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=python_environment, timeout=60).returncode == 0
