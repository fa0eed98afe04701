"""Adapters on the model: equal when fused and at run time, exactly undone, and limited to the given parameters."""

import hashlib
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from reference_adapters import (
    AUDIO,
    DIFFERENCES,
    DORA,
    FILES,
    LORA,
    REFERENCE,
    build_model,
    reference_file,
    use,
    write_lora,
)
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ovi_studio.adapters.formats.dora import Decomposed
from ovi_studio.adapters.formats.lora import LowRank
from ovi_studio.adapters.fuse import WeightFuser
from ovi_studio.adapters.manager import AdapterManager
from ovi_studio.adapters.names import NameMap
from ovi_studio.adapters.read import read_adapter
from ovi_studio.checkpoints.load import assign, read_tensors
from ovi_studio.core.errors import JobError
from ovi_studio.models.transformer import OviTransformer


@torch.no_grad()
def velocities(model: OviTransformer) -> Tensor:
    """Return both predictions of the model for one set of inputs, flattened."""
    case = load_file(REFERENCE / "fusion.t2av.safetensors")
    inputs = {name: tensor.to(model.dtype) for name, tensor in case.items()}
    text = model.prepare_text(inputs["video_context"][None], inputs["audio_context"][None])
    video, audio = model(inputs["video"][None], inputs["audio"][None], case["timestep"], text)
    return torch.cat([video.flatten(), audio.flatten()]).float()


def distance(one: Tensor, other: Tensor) -> float:
    return (torch.linalg.vector_norm(one - other) / torch.linalg.vector_norm(other)).item()


def fingerprint(model: nn.Module) -> str:
    """Return the hash of the names and bytes of all parameters."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(name.encode())
        digest.update(parameter.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class CountedFuser(WeightFuser):
    """Records which parameters are written."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.written: list[str] = []

    def write(self, changes: Mapping[str, Any]) -> None:
        self.written += changes
        super().write(changes)


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_a_tower_at_zero_is_not_changed() -> None:
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


def test_a_file_other_than_the_clips_is_refused_with_both_hashes() -> None:
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
    with pytest.raises(JobError, match="NaN or infinite"):
        manager.prepare((use(LORA), use("huge")), 1)
    assert fingerprint(model) == before


class QuantisedLinear(nn.Module):
    """A linear layer whose weight is stored in 8 bits."""

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


def test_run_time_adapters_work_with_quantised_weights() -> None:
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


def test_a_change_that_quantised_weights_do_not_support_is_refused() -> None:
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
