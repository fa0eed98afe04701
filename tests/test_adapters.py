"""Adapters on the model: alike when fused and at run time, exactly undone, and nothing more than asked for."""

import hashlib
import json
import math
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ovi_studio.adapters.changes import Decomposed, LowRank
from ovi_studio.adapters.fuse import WeightFuser
from ovi_studio.adapters.header import PeftConfig, parameter_shapes, read_header
from ovi_studio.adapters.manager import AdapterManager
from ovi_studio.adapters.match import match_header
from ovi_studio.adapters.names import NameMap
from ovi_studio.adapters.read import read_adapter
from ovi_studio.adapters.stack import AdapterUse, Strength, parse_stack, stack_to_json
from ovi_studio.checkpoints.load import assign, read_tensors
from ovi_studio.errors import JobError
from ovi_studio.models.transformer import OviTransformer

REFERENCE = Path(__file__).parent / "reference"
FOLDER = REFERENCE / "lora"
FILES = sorted(
    [path for path in FOLDER.glob("*.safetensors") if not path.name.endswith(".expected.safetensors")]
    + [path.parent for path in FOLDER.glob("*/adapter_config.json")]
)
LORA, AUDIO, DORA, DIFFERENCES = (
    f"{name}.safetensors" for name in ("native_ab", "audio_tower", "dora", "native_updown_diff")
)
QUERY = "video_model.blocks.0.self_attn.q"


def build_model(dtype: torch.dtype = torch.float32) -> OviTransformer:
    model = OviTransformer(**json.loads((REFERENCE / "fusion.config.json").read_text()))
    tensors = load_file(REFERENCE / "fusion.weights.safetensors")
    return assign(model, {name: tensor.to(dtype) for name, tensor in tensors.items()})


@pytest.fixture(scope="module")
def names() -> NameMap:
    return NameMap(parameter_shapes([REFERENCE / "fusion.weights.safetensors"]))


def reference_file(name: str) -> Path:
    return FOLDER / name


def use(name: str, video: Any = 1, audio: Any = None, sha256: str | None = None) -> AdapterUse:
    audio = video if audio is None else audio
    return AdapterUse(name=name, video=Strength.parse(video), audio=Strength.parse(audio), sha256=sha256)


@torch.no_grad()
def velocities(model: OviTransformer) -> Tensor:
    """Both predictions of the model for one set of inputs, flat."""
    case = load_file(REFERENCE / "fusion.t2av.safetensors")
    inputs = {name: tensor.to(model.dtype) for name, tensor in case.items()}
    text = model.prepare_text(inputs["video_context"][None], inputs["audio_context"][None])
    video, audio = model(inputs["video"][None], inputs["audio"][None], case["timestep"], text)
    return torch.cat([video.flatten(), audio.flatten()]).float()


def distance(one: Tensor, other: Tensor) -> float:
    return (torch.linalg.vector_norm(one - other) / torch.linalg.vector_norm(other)).item()


def fingerprint(model: nn.Module) -> str:
    """Hash of the names and bytes of all parameters."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(name.encode())
        digest.update(parameter.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_lora(path: Path, tensors: Mapping[str, Sequence[int]], **metadata: str) -> Path:
    """A file with random tensors of these shapes."""
    generator = torch.Generator().manual_seed(len(tensors))
    save_file({name: torch.randn(shape, generator=generator) for name, shape in tensors.items()}, path, metadata)
    return path


class CountedFuser(WeightFuser):
    """Notes which parameters are written."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.written: list[str] = []

    def write(self, changes: Mapping[str, Any]) -> None:
        self.written += changes
        super().write(changes)


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
        ("blocks.0.self_attn.k_img", None),
        ("blocks.99.self_attn.q", None),
        ("lora_unet_blocks_0_cross", None),
    ],
)
def test_a_layer_is_found_under_every_name_it_goes_by(names: NameMap, written: str, official: str | None) -> None:
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


def test_an_adapter_name_inside_peft_keys_is_understood(tmp_path: Path, names: NameMap) -> None:
    path = write_lora(
        tmp_path / "p.safetensors",
        {f"{QUERY}.lora_A.default.weight": (2, 64), f"{QUERY}.lora_B.default.weight": (64, 2)},
    )
    assert set(read_adapter(path, names).changes) == {f"{QUERY}.weight"}


@pytest.mark.parametrize("adapter", ["", ".default"])
def test_the_bias_of_the_second_half_is_scaled_like_the_pair(tmp_path: Path, names: NameMap, adapter: str) -> None:
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


def test_a_bias_without_its_pair_is_left_out(tmp_path: Path, names: NameMap) -> None:
    path = write_lora(tmp_path / "b.safetensors", {f"{QUERY}.lora_B.bias": (64,)})
    with pytest.raises(JobError, match="stands without"):
        read_adapter(path, names)


# Reports and refusals


def test_what_is_left_out_is_reported_with_its_reason(names: NameMap) -> None:
    report = read_adapter(reference_file("partial.safetensors"), names).report
    assert len(report.left_out) == 4
    assert (report.matched, report.layers) == (4, 6)
    assert not report.complete
    assert "4 of the file's tensors are left out" in (report.warning() or "")
    assert all("_img" in item.tensor for item in report.left_out)


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
        ("nan.safetensors", "no numbers"),
        ("no_match.safetensors", "0 of its 2 tensors"),
        ("pickle.pt", "is a pickle"),
        ("pickle_in_disguise.safetensors", "is a pickle under the name"),
        ("truncated.safetensors", "was cut off: it has 12280 bytes where its header says 24560"),
        ("wrong_model_14b.safetensors", "made for Wan 14B (width 5120)"),
    ],
)
def test_each_bad_file_is_refused_with_a_sentence_of_its_own(names: NameMap, name: str, words: str) -> None:
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


def test_a_whole_checkpoint_is_told_from_an_adapter(tmp_path: Path, names: NameMap) -> None:
    path = write_lora(tmp_path / "w.safetensors", {f"blocks.0.self_attn.{name}.weight": (64, 64) for name in "qkvo"})
    with pytest.raises(JobError, match="whole model's weights"):
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
def test_the_scale_of_a_peft_folder_is_that_of_peft(
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
        ({"lora_alpha": math.nan}, "no readable"),
        ({"lora_alpha": [8]}, "no readable"),
    ],
)
def test_a_peft_folder_that_means_something_else_is_refused(
    tmp_path: Path, names: NameMap, config: dict[str, Any], words: str
) -> None:
    with pytest.raises(JobError, match=words):
        read_adapter(write_peft(tmp_path / "folder", 4, **config), names)


def test_the_configuration_counts_in_the_hash_of_a_peft_folder(tmp_path: Path, names: NameMap) -> None:
    one, other = (write_peft(tmp_path / str(alpha), 4, lora_alpha=alpha) for alpha in (4, 8))
    assert read_adapter(one, names).sha256 != read_adapter(other, names).sha256


def test_a_config_scales_by_the_rank_of_the_tensors() -> None:
    assert PeftConfig(8, {}, rslora=True, dora=False).scale("layer", 16) == 2


# Strengths


@pytest.mark.parametrize(
    ("text", "steps", "expected"),
    [
        ("0.8", 3, (0.8,)),
        ("1;0", 4, (1, 1, 0, 0)),
        ("1;0", 7, (1, 1, 1, 1, 0, 0, 0)),
        ("0.9,0.8", 4, (0.9, 0.9, 0.8, 0.8)),
        ("1;0.5,0", 8, (1, 1, 1, 1, 0.5, 0.5, 0, 0)),
        ("1;0", 1, (1,)),
        ("3,2,1", 2, (3, 2)),
        ("1;1", 5, (1,)),
        ("-0.5", 2, (-0.5,)),
    ],
)
def test_a_schedule_divides_the_steps_evenly(text: str, steps: int, expected: tuple[float, ...]) -> None:
    assert Strength.parse(text).over(steps) == expected


@pytest.mark.parametrize("text", ["0.8", "1;0", "0.9,0.8", "1;0.5,0", "-1"])
def test_a_strength_survives_as_text(text: str) -> None:
    assert str(Strength.parse(text)) == text


@pytest.mark.parametrize(
    "value", ["", "strong", "1;;0", "nan", "inf", "11", "1," * 2000, None, True, [1], {"video": 1}]
)
def test_what_is_no_strength_is_refused(value: Any) -> None:
    with pytest.raises(JobError):
        Strength.parse(value)


def test_a_stack_survives_as_json() -> None:
    stack = (use("a.safetensors", "1;0", 0.2, sha256="0" * 64), use("b/c.safetensors"))
    assert parse_stack(json.dumps(stack_to_json(stack))) == stack
    assert parse_stack(None) == parse_stack("") == ()


@pytest.mark.parametrize(
    "value",
    [
        "no json",
        "{}",
        [1],
        [{}],
        [{"name": ""}],
        [{"name": "a\nb"}],
        [{"name": "a", "weight": 1}],
        [{"name": "a", "sha256": "12"}],
        [{"name": "a"}, {"name": "a"}],
        [{"name": str(index)} for index in range(100)],
    ],
)
def test_what_is_no_stack_is_refused(value: Any) -> None:
    with pytest.raises(JobError):
        parse_stack(value)


# On the model


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_fused_and_run_time_agree(path: Path) -> None:
    model = build_model()
    manager = AdapterManager(model, lambda _: path)
    plain = velocities(model)
    manager.prepare((use(path.name, 0.7, 0.4),), steps=2)
    fused = velocities(model)
    # A schedule runs beside the layers; its second step is this one.
    manager.prepare((use(path.name, "0;0.7", "0;0.4"),), steps=2)
    assert torch.equal(velocities(model), plain)
    assert manager.set_step(1)
    assert distance(velocities(model), fused) < 1e-6
    assert distance(fused, plain) > 1e-5


def test_fused_and_run_time_agree_within_rounding_in_bfloat16() -> None:
    model = build_model(torch.bfloat16)
    manager = AdapterManager(model, reference_file)
    stack = (LORA, "musubi.safetensors", AUDIO)
    exact_model = build_model()
    exact_manager = AdapterManager(exact_model, reference_file)
    exact_manager.prepare(tuple(use(name) for name in stack), 2)
    rounding = distance(velocities(model), velocities(build_model()))
    for strength in (1, "1;0"):
        manager.prepare(tuple(use(name, strength) for name in stack), 2)
        assert distance(velocities(model), velocities(exact_model)) < 2 * rounding + 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_hundred_random_stacks_leave_no_trace(dtype: torch.dtype) -> None:
    model = build_model(dtype)
    before = fingerprint(model)
    manager = AdapterManager(model, reference_file)
    draw = random.Random(0)
    for _ in range(100):
        chosen = draw.sample([path.name for path in FILES], draw.randint(1, 4))
        strengths = [draw.choice([0.01, 0.8, -1.2, 0, "1;0", "0.2,0.5;0"]) for _ in range(8)]
        manager.prepare(tuple(use(name, draw.choice(strengths), draw.choice(strengths)) for name in chosen), steps=4)
        manager.set_step(draw.randrange(4))
    manager.prepare((), steps=4)
    assert fingerprint(model) == before


def test_pristine_values_can_come_from_the_checkpoint() -> None:
    model = build_model(torch.bfloat16)
    before = fingerprint(model)
    manager = AdapterManager(model, reference_file, pristine=load_file(REFERENCE / "fusion.weights.safetensors"))
    for name in (LORA, DORA, DIFFERENCES):
        manager.prepare((use(name),), 1)
        assert fingerprint(model) != before
    manager.clear()
    assert fingerprint(model) == before


def test_the_checkpoint_file_is_not_changed_by_fusing_into_its_mapping(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes((REFERENCE / "fusion.weights.safetensors").read_bytes())
    model = OviTransformer(**json.loads((REFERENCE / "fusion.config.json").read_text()))
    assign(model, dict(read_tensors(path)))
    AdapterManager(model, reference_file).prepare((use(LORA, 1),), 1)
    assert path.read_bytes() == (REFERENCE / "fusion.weights.safetensors").read_bytes()


def test_parameters_are_changed_in_place() -> None:
    model = build_model()
    views = {name: parameter.data for name, parameter in model.named_parameters()}
    manager = AdapterManager(model, reference_file)
    manager.prepare((use(LORA),), 1)
    assert all(parameter.data_ptr() == views[name].data_ptr() for name, parameter in model.named_parameters())


def test_removing_restores_the_plain_modules() -> None:
    model = build_model()
    before = dict(model.named_modules())
    attributes = set(vars(model))
    manager = AdapterManager(model, reference_file)
    manager.prepare((use(LORA, "1;0"), use(AUDIO, "0;1")), 4)
    assert dict(model.named_modules()) != before
    manager.prepare((), 4)
    assert dict(model.named_modules()) == before
    assert set(vars(model)) == attributes


def test_only_the_touched_parameters_are_written_and_restored() -> None:
    model = build_model()
    fuser = CountedFuser(dict(model.named_parameters()))
    changes = read_adapter(
        reference_file(LORA), NameMap({n: tuple(p.shape) for n, p in model.named_parameters()})
    ).changes
    fuser.write({name: [(change, 1.0) for change in own] for name, own in changes.items()})
    assert fuser.touched == changes.keys()
    marker = model.get_parameter("audio_model.head.head.bias")
    marker.data.fill_(7)
    fuser.restore(dict(model.named_parameters()))
    assert not fuser.touched
    assert marker.data.eq(7).all(), "an untouched parameter was overwritten"


def test_strength_zero_costs_nothing() -> None:
    model = build_model()
    before = dict(model.named_modules())

    def never(name: str) -> Path:
        raise AssertionError("the file was looked for")

    manager = AdapterManager(model, never)
    prepared = manager.prepare((use("gone.safetensors", 0, "0;0,0"),), 4)
    assert prepared.reports == {}
    assert dict(model.named_modules()) == before


def test_a_tower_at_zero_is_left_alone() -> None:
    model = build_model()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    AdapterManager(model, reference_file).prepare((use("peft_rslora", 1, 0),), 1)
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed
    assert all(name.startswith("video_model.") for name in changed)


def test_a_step_at_zero_computes_no_adapter() -> None:
    model = build_model()
    manager = AdapterManager(model, reference_file)
    manager.prepare((use(LORA, "1;0"),), 2)
    layer = model.get_submodule("video_model.blocks.0.self_attn.v")
    calls: list[int] = []
    for pair in layer.lora_A.values():
        pair.register_forward_hook(lambda *_: calls.append(1))
    velocities(model)
    assert calls == [1]
    assert manager.set_step(1)
    velocities(model)
    assert calls == [1]


def test_the_same_stack_again_reads_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model()
    manager = AdapterManager(model, reference_file)
    stack = (use(LORA, "1;0.5"), use(DORA, 0.4))
    manager.prepare(stack, 4)
    first = velocities(model)
    manager.set_step(3)
    monkeypatch.setattr("ovi_studio.adapters.manager.read_adapter", lambda *_: pytest.fail("read again"))
    manager.prepare(tuple(reversed(stack)), 4)
    assert torch.equal(velocities(model), first), "the next clip starts at the first step's strengths"


def test_a_constant_stack_is_one_adapter_in_each_layer() -> None:
    model = build_model(torch.bfloat16)
    AdapterManager(model, reference_file).prepare(tuple(use(path.name, 0.02) for path in FILES), 3)
    wrapped = [module for module in model.modules() if hasattr(module, "lora_A")]
    assert wrapped
    assert all(list(module.lora_A) == ["constant"] for module in wrapped)


def test_a_weak_adapter_is_not_rounded_away_in_bfloat16() -> None:
    exact, model = build_model(), build_model(torch.bfloat16)
    layer = "video_model.blocks.0.self_attn.v"
    with torch.no_grad():
        x = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
        before = exact.get_submodule(layer)(x)
        AdapterManager(exact, reference_file).prepare((use(LORA, 0.01),), 1)
        AdapterManager(model, reference_file).prepare((use(LORA, 0.01),), 1)
        change = exact.get_submodule(layer)(x) - before
        wrapped = model.get_submodule(layer)
        name = "constant"
        added = wrapped.lora_B[name](wrapped.lora_A[name](x.bfloat16())).float()
    assert distance(added, change) < 0.02


def test_changes_of_the_weights_that_text_is_prepared_with_are_announced() -> None:
    manager = AdapterManager(build_model(), reference_file)
    manager.prepare((use(LORA, "1,0.5,0.5"),), 3)
    assert [manager.set_step(step) for step in (0, 1, 2, 2, 0)] == [False, True, False, False, True]


def test_a_file_other_than_the_one_asked_for_is_refused_with_both_hashes() -> None:
    manager = AdapterManager(build_model(), reference_file)
    digest = hashlib.sha256(reference_file(LORA).read_bytes()).hexdigest()
    prepared = manager.prepare((use(LORA),), 1)
    assert prepared.stack[0].sha256 == digest
    with pytest.raises(JobError) as refusal:
        manager.prepare((use(LORA, sha256="0" * 64),), 1)
    assert digest in str(refusal.value)
    assert "0" * 64 in str(refusal.value)


def test_a_bad_file_leaves_the_model_as_it_was() -> None:
    model = build_model()
    manager = AdapterManager(model, reference_file)
    manager.prepare((use(LORA),), 1)
    before = fingerprint(model)
    with pytest.raises(JobError):
        manager.prepare((use(AUDIO), use("rejected/nan.safetensors")), 1)
    assert fingerprint(model) == before


def test_strengths_that_overflow_leave_pristine_weights(tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    layer = "blocks.0.self_attn.q"
    save_file(
        {f"{layer}.lora_A.weight": torch.full((1, 64), 1e30), f"{layer}.lora_B.weight": torch.full((64, 1), 1e30)}, path
    )
    model = build_model()
    before = fingerprint(model)
    manager = AdapterManager(model, {"huge": path, LORA: reference_file(LORA)}.__getitem__)
    with pytest.raises(JobError, match="no numbers"):
        manager.prepare((use(LORA), use("huge")), 1)
    assert fingerprint(model) == before


class QuantisedLinear(nn.Module):
    """A linear layer whose weight is held in 8 bits."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = plain.in_features, plain.out_features
        scale = plain.weight.abs().amax(1, keepdim=True) / 127
        self.register_buffer("values", (plain.weight / scale).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.bias = plain.bias

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.values * self.scale, self.bias)


def quantised_model() -> tuple[OviTransformer, dict[str, tuple[int, ...]]]:
    model = build_model()
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and ".blocks." in name:
            owner, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(owner), attribute, QuantisedLinear(module))
    return model, shapes


def test_adapters_run_beside_quantised_weights() -> None:
    model, shapes = quantised_model()
    plain = velocities(model)
    manager = AdapterManager(model, reference_file, shapes=shapes)
    manager.prepare((use(LORA), use(DIFFERENCES)), 1)
    changed = velocities(model)
    full = build_model()
    AdapterManager(full, reference_file).prepare((use(LORA), use(DIFFERENCES)), 1)
    assert distance(changed, velocities(full)) < 2 * distance(plain, velocities(build_model())) + 0.01
    manager.clear()
    assert torch.equal(velocities(model), plain)


def test_a_change_that_quantised_weights_cannot_take_is_refused() -> None:
    model, shapes = quantised_model()
    with pytest.raises(JobError, match="quantised"):
        AdapterManager(model, reference_file, shapes=shapes).prepare((use(DORA),), 1)


def test_dora_at_a_strength_is_a_step_towards_the_whole_change() -> None:
    weight = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    change = Decomposed(LowRank(torch.ones(2, 6), torch.ones(8, 2), 0.5), torch.ones(8, 1))
    assert torch.allclose(torch.linalg.vector_norm(weight + change.delta(weight), dim=1), torch.ones(8))
    total = weight.clone()
    change.add_to(total, weight, 0.3)
    assert torch.allclose(total, weight + 0.3 * change.delta(weight))


def test_an_adapter_of_a_convolution_is_fused(tmp_path: Path) -> None:
    layer = "diffusion_model.patch_embedding"
    path = write_lora(
        tmp_path / "c.safetensors",
        {f"{layer}.lora_A.weight": (2, 8, 1, 2, 2), f"{layer}.lora_B.weight": (64, 2, 1, 1, 1)},
    )
    model = build_model()
    before = model.video_model.patch_embedding.weight.clone()
    AdapterManager(model, lambda _: path).prepare((use("c"),), 1)
    tensors = load_file(path)
    down, up = (tensors[f"{layer}.lora_{half}.weight"].flatten(1) for half in "AB")
    assert torch.allclose(model.video_model.patch_embedding.weight, before + (up @ down).view_as(before), atol=1e-5)


def test_a_header_alone_gives_the_report(names: NameMap) -> None:
    report = match_header("file", read_header(reference_file(LORA)), names).report
    assert report == read_adapter(reference_file(LORA), names).report


def test_headers_and_library_need_no_torch(python_environment: dict[str, str]) -> None:
    modules = ("header", "names", "match", "stack", "describe", "library")
    imports = ", ".join(f"ovi_studio.adapters.{name}" for name in modules)
    code = f"import sys, {imports}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=python_environment, timeout=60).returncode == 0
