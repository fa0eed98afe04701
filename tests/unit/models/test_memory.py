"""Small GPUs: int8 and fp8 layers, and streamed blocks. The device is the CPU throughout."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ovi_studio.adapters.formats.lora import LowRank
from ovi_studio.adapters.fuse import WeightFuser
from ovi_studio.adapters.runtime import RuntimeAdapters, RuntimeLora
from ovi_studio.checkpoints.number_formats import convert, converted_layers, prepare
from ovi_studio.core.errors import JobError
from ovi_studio.core.weight_formats import Weights
from ovi_studio.models import quantized_linear
from ovi_studio.models.quantized_linear import (
    Float8Linear,
    Int8Linear,
    ScaledFloat8Linear,
    ScaledLinear,
    parallel_linear,
)
from ovi_studio.models.quantized_rows import quantise_rows
from ovi_studio.models.transformer import OviTransformer, Pass
from ovi_studio.runtime.streaming import HostedModel

CPU = torch.device("cpu")
DEPTH = 7
scaled = pytest.mark.parametrize("kind", [Int8Linear, ScaledFloat8Linear])


def random(*size: int, seed: int = 1) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def layer(columns: int = 32, rows: int = 24, seed: int = 0, bias: bool = True) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(columns, rows, bias).requires_grad_(False)


def relative(result: Tensor, expected: Tensor) -> float:
    return ((result.double() - expected.double()).norm() / expected.double().norm()).item()


@pytest.fixture
def model(tiny_dimensions: dict[str, Any]) -> OviTransformer:
    torch.manual_seed(0)
    towers = tiny_dimensions["fusion"]
    towers = {name: tower | {"num_layers": DEPTH} for name, tower in towers.items()}
    return OviTransformer(**towers).eval().requires_grad_(False)


def velocities(model: OviTransformer, seed: int = 1) -> tuple[Tensor, ...]:
    """Compute a guided step, from text to velocities."""
    text = model.prepare_text(random(1, 5, 16, seed=seed), random(1, 5, 16, seed=seed + 1))
    video, audio = random(1, 8, 3, 4, 6, seed=seed + 2), random(1, 11, 20, seed=seed + 3)
    both = model.velocities(video, audio, torch.tensor([500.0]), [Pass(text), Pass(text, 2)])
    return tuple(tensor for one in both for tensor in one)


def assert_same(result: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for one, other in zip(result, expected, strict=True):
        assert torch.equal(one, other)


# Layers


def test_int8_rows_are_within_half_a_step_and_zeros_stay_zeros() -> None:
    x = random(5, 40) * torch.tensor([[1e-6], [1.0], [1e4], [0.0], [3.0]])
    rows = quantise_rows(x)
    assert rows.values.dtype == torch.int8
    assert ((rows.values * rows.scale - x).abs() <= rows.scale * 0.501).all()
    assert rows.values[3].abs().max() == 0
    assert rows.values[1].abs().max() == 127


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_int8_layer_is_the_product_of_the_rounded_numbers(dtype: torch.dtype, bias: bool) -> None:
    plain = layer(bias=bias).to(dtype)
    quantised = Int8Linear.of(plain)
    x = random(2, 9, 32).to(dtype)
    inputs, weights = quantise_rows(x), quantise_rows(plain.weight)
    exact = (inputs.values * inputs.scale).double() @ (weights.values * weights.scale).double().T
    expected = exact if plain.bias is None else exact + plain.bias.double()
    result = quantised(x)
    assert result.dtype == dtype
    assert relative(result, expected) < (1e-6 if dtype == torch.float32 else 5e-3)
    assert 1e-4 < relative(result, plain(x)) < 0.02


def test_a_long_input_is_multiplied_in_spans_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    quantised = Int8Linear.of(layer())
    x = random(1, 103, 32)
    expected = quantised(x)
    monkeypatch.setattr(quantized_linear, "INTEGERS_AT_ONCE", 32 * 20)
    assert torch.equal(quantised(x), expected)


def test_the_weight_is_dequantised_where_integers_cannot_be_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = layer()
    quantised = Int8Linear.of(plain)
    x = random(3, 32)
    monkeypatch.setattr(Int8Linear, "multiplies", lambda *_: False)
    weights = quantise_rows(plain.weight)
    expected = nn.functional.linear(x, weights.values * weights.scale, plain.bias)
    torch.testing.assert_close(quantised(x), expected)


@scaled
def test_parallel_layers_equal_each_alone(kind: type[ScaledLinear]) -> None:
    layers = [kind.of(layer(rows=32, seed=seed)) for seed in range(3)]
    x = random(2, 9, 32)
    for result, one in zip(parallel_linear(x, layers), layers, strict=True):
        assert torch.equal(result, one(x))


@scaled
def test_a_scaled_layer_splits_into_rows_exactly(kind: type[ScaledLinear]) -> None:
    # As FSDP shards it: every rank has some rows of each parameter.
    whole = kind.of(layer(rows=32))
    x = random(7, 32)
    parts = []
    for rows in (slice(0, 16), slice(16, 32)):
        part = kind(32, 16)
        part.load_state_dict({name: tensor[rows] for name, tensor in whole.state_dict().items()}, assign=True)
        parts.append(part(x))
    assert torch.equal(torch.cat(parts, dim=1), whole(x))


@pytest.mark.parametrize("kind", [Int8Linear, Float8Linear, ScaledFloat8Linear])
def test_a_run_time_lora_works_with_a_layer_in_8_bits(kind: Any) -> None:
    owner = nn.Module()
    owner.deep = nn.Module()
    owner.deep.o = kind.of(layer(rows=32))
    x = random(4, 32)
    before = owner.deep.o(x)
    down, up = random(3, 32, seed=5), random(32, 3, seed=6)
    adapters = RuntimeAdapters(owner)
    adapters.inject({"deep.o": [RuntimeLora(LowRank(up=up, down=down, scale=0.5), (1.0,))]}, torch.float32)
    torch.testing.assert_close(owner.deep.o(x), before + 0.5 * x @ down.T @ up.T, rtol=1e-4, atol=1e-4)
    adapters.remove()
    assert torch.equal(owner.deep.o(x), before)


def test_an_fp8_layer_gives_the_numbers_of_its_weight_converted_when_loaded() -> None:
    stored = layer().weight.to(torch.float8_e4m3fn)
    kept = Float8Linear(32, 24, bias=False)
    kept.load_state_dict({"weight": stored}, assign=True)
    x = random(3, 32).bfloat16()
    assert kept.weight.dtype == torch.float8_e4m3fn
    assert torch.equal(kept(x), nn.functional.linear(x, stored.bfloat16()))


@pytest.mark.parametrize("bias", [True, False])
def test_a_large_fp8_weight_is_converted_in_parts_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch, bias: bool
) -> None:
    kept = Float8Linear.of(layer(bias=bias))
    x = random(2, 5, 32)
    expected = kept(x)
    converted: list[int] = []
    to = Tensor.to

    def watch(tensor: Tensor, *given: Any) -> Tensor:
        if tensor.dtype == torch.float8_e4m3fn:
            converted.append(tensor.numel())
        return to(tensor, *given)

    monkeypatch.setattr(Tensor, "to", watch)
    monkeypatch.setattr(quantized_linear, "DEQUANTISED_AT_ONCE", 32 * 5)
    torch.testing.assert_close(kept(x), expected, rtol=1e-6, atol=1e-6)
    assert len(converted) == 5
    assert max(converted) <= 32 * 5
    assert sum(converted) == 32 * 24


@scaled
@pytest.mark.parametrize("stored", [torch.float32, torch.float8_e4m3fn])
def test_a_change_is_fused_before_quantising_and_restored(kind: type[ScaledLinear], stored: torch.dtype) -> None:
    plain = layer()
    plain.weight.data = plain.weight.to(stored)
    quantised = kind.of(copy.deepcopy(plain))  # the stored values are not the layer's
    before = {name: tensor.clone() for name, tensor in quantised.state_dict().items()}
    fuser = WeightFuser(dict(quantised.named_parameters()), dict(plain.named_parameters()))
    change = LowRank(up=random(24, 3, seed=6), down=random(3, 32, seed=5), scale=0.5)
    assert fuser.can_change("weight")
    fuser.write({"weight": [(change, 0.8)]})
    changed = nn.Linear(32, 24)
    changed.load_state_dict({"weight": plain.weight.float() + 0.4 * change.up @ change.down, "bias": plain.bias})
    # The sum is rounded to float32 in another order; fp8's coarse steps have values close to their middle.
    differing = quantised.weight.float() != kind.of(changed).weight.float()
    assert differing.sum() <= (0 if kind is Int8Linear else 3)
    torch.testing.assert_close(quantised.weight_scale, kind.of(changed).weight_scale)
    fuser.restore(["weight"])
    assert all(torch.equal(tensor.float(), before[name].float()) for name, tensor in quantised.state_dict().items())
    # Without the unrounded weights there is nothing to add to.
    assert not WeightFuser(dict(quantised.named_parameters())).can_change("weight")


# The transformer


def converted(model: OviTransformer, weights: Weights) -> OviTransformer:
    """Return a converted copy, as loading creates it."""
    with torch.device("meta"):
        copy = OviTransformer(model.config.video, model.config.audio)
        prepare(copy, weights)
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        tensors |= convert(name, tensor, weights, torch.float32)
    copy.load_state_dict(tensors, assign=True)
    return copy.eval()


def test_only_the_blocks_layers_are_converted(model: OviTransformer) -> None:
    names = set(converted_layers(model))
    assert len(names) == DEPTH * 2 * (4 + 6 + 2)
    quantised = converted(model, Weights.INT8)
    kinds = {name: type(module) for name, module in quantised.named_modules() if isinstance(module, nn.Linear)}
    assert {name for name, kind in kinds.items() if kind is Int8Linear} == names
    assert {"video_model.time_projection.1", "audio_model.head.head"} <= kinds.keys() - names
    assert all(p.dtype in (torch.float32, torch.int8) for p in quantised.parameters())


def test_int8_changes_the_transformers_output_a_little(model: OviTransformer) -> None:
    errors = [
        relative(one, other)
        for one, other in zip(velocities(converted(model, Weights.INT8)), velocities(model), strict=True)
    ]
    assert all(1e-5 < error < 0.02 for error in errors), errors


@pytest.mark.slow
def test_fp8_products_change_the_transformers_output_more_than_int8_and_still_little(model: OviTransformer) -> None:
    expected = velocities(model)
    errors = {
        weights: [relative(*pair) for pair in zip(velocities(converted(model, weights)), expected, strict=True)]
        for weights in (Weights.INT8, Weights.FP8_FAST)
    }
    assert all(error < 0.08 for error in errors[Weights.FP8_FAST]), errors
    assert min(errors[Weights.FP8_FAST]) > max(errors[Weights.INT8])


def test_fp8_is_refused_for_a_file_that_has_none(model: OviTransformer) -> None:
    with pytest.raises(JobError, match="does not contain fp8 weights; choose int8"):
        converted(model, Weights.FP8)


# Streaming


class Late:
    """Transfers that copy as late as allowed, and overwrite a slot as soon as allowed."""

    def __init__(self, device: torch.device, slots: int) -> None:
        self.pending: dict[int, tuple[Tensor, Tensor]] = {}
        self.fetched: list[int] = []
        self.busy: set[int] = set()

    def fetch(self, slot: int, target: Tensor, source: Tensor) -> None:
        assert slot not in self.busy, "a slot is filled while a block computes in it"
        target.fill_(0x7F)
        self.pending[slot] = target, source
        self.fetched.append(source.data_ptr())

    def arrive(self, slot: int) -> None:
        self.busy.add(slot)
        if slot in self.pending:
            target, source = self.pending.pop(slot)
            target.copy_(source)

    def release(self, slot: int) -> None:
        self.busy.discard(slot)

    def close(self) -> None:
        for target, source in self.pending.values():
            target.copy_(source)
        self.pending.clear()


class Spy:
    """Creates transfers and keeps references to them."""

    def __init__(self) -> None:
        self.made: list[Late] = []

    def __call__(self, device: torch.device, slots: int) -> Late:
        self.made.append(Late(device, slots))
        return self.made[-1]


@pytest.mark.slow
@pytest.mark.parametrize("weights", [Weights.BF16, Weights.INT8])
@pytest.mark.parametrize(("resident", "slots"), [(0, 2), (1, 2), (3, 2), (4, 3), (0, 1), (6, 2), (None, 2)])
def test_streamed_blocks_compute_what_resident_ones_do(
    model: OviTransformer, weights: Weights, resident: int | None, slots: int
) -> None:
    model = converted(model, weights)
    expected = [velocities(model, seed) for seed in (1, 10)]
    hosted = HostedModel(model, CPU, model.fusion_blocks, resident, slots, transfers=Spy())
    assert hosted.streamed % slots == 0
    for _ in range(2):
        with hosted.in_use():
            for result, seed in zip(expected, (1, 10), strict=True):
                assert_same(velocities(model, seed), result)
    assert_same(velocities(model, 1), expected[0])


def test_a_step_fetches_every_streamed_block_once_for_both_passes(model: OviTransformer) -> None:
    spy = Spy()
    hosted = HostedModel(model, CPU, model.fusion_blocks, 1, transfers=spy)
    assert hosted.streamed == 6
    with hosted.in_use():
        at_first = len(spy.made[0].fetched)
        velocities(model)
        fetched = spy.made[0].fetched[at_first:]
    assert at_first == 2
    # Text and the step: each block once in both, in turn.
    assert len(fetched) == 2 * 6
    assert fetched[:6] == fetched[6:]
    assert len(set(fetched)) == 6


def test_a_block_called_out_of_order_is_fetched(model: OviTransformer) -> None:
    text = model.prepare_text(random(1, 5, 16), random(1, 5, 16))
    expected = [model.fusion_blocks[depth].project_text(random(1, 5, 32), random(1, 5, 32)) for depth in (5, 0, 3)]
    hosted = HostedModel(model, CPU, model.fusion_blocks, 0, transfers=Spy())
    with hosted.in_use():
        for depth, before in zip((5, 0, 3), expected, strict=True):
            after = model.fusion_blocks[depth].project_text(random(1, 5, 32), random(1, 5, 32))
            assert torch.equal(after[0].key, before[0].key)
    assert torch.equal(model.prepare_text(random(1, 5, 16), random(1, 5, 16)).video[0].key, text.video[0].key)


def test_weights_changed_while_writable_take_effect_at_once(model: OviTransformer) -> None:
    name = "video_model.blocks.4.ffn.0.weight"
    other = "audio_model.blocks.0.self_attn.q.weight"
    hosted = HostedModel(model, CPU, model.fusion_blocks, 2, transfers=Spy())
    parameters = dict(model.named_parameters())
    with hosted.in_use():
        before = velocities(model)
        with hosted.writable():
            for one in (name, other):
                parameters[one].data.mul_(1.5)
        changed = velocities(model)
    assert not torch.allclose(changed[0], before[0])
    assert_same(velocities(model), changed)


def test_a_failed_run_leaves_every_weight_in_host_memory(model: OviTransformer) -> None:
    expected = velocities(model)
    hosted = HostedModel(model, CPU, model.fusion_blocks, 0, transfers=Spy())
    model.fusion_blocks[4].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), hosted.in_use():
        velocities(model)
    model.fusion_blocks[4]._forward_pre_hooks.clear()
    assert_same(velocities(model), expected)
    assert not any("forward" in block.__dict__ or "project_text" in block.__dict__ for block in model.fusion_blocks)


def test_streaming_keeps_the_names_and_the_parameters(model: OviTransformer) -> None:
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    identities = {name: id(parameter) for name, parameter in model.named_parameters()}
    hosted = HostedModel(model, CPU, model.fusion_blocks, 1)
    with hosted.in_use():
        velocities(model)
    assert {name: id(parameter) for name, parameter in model.named_parameters()} == identities
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_device_memory_holds_the_slots_and_not_the_streamed_blocks(model: OviTransformer) -> None:
    hosted = HostedModel(model, CPU, model.fusion_blocks, 1)
    homes = {p.untyped_storage().data_ptr() for p in model.fusion_blocks[0].parameters()}
    assert len(homes) == 1  # packed: one copy brings the block
    with hosted.in_use():
        streamed = [{p.untyped_storage().data_ptr() for p in block.parameters()} for block in model.fusion_blocks]
        places = {place for one in streamed if len(one) == 1 for place in one}
    assert len(places) == 2
    assert not places & homes


@pytest.mark.slow
@torch.no_grad()  # as in a pipeline; otherwise backward passes are traced as well
def test_compiled_blocks_stream_too(model: OviTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    # Weights that move are inputs of the graphs, which this form checks as the one that makes code does.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    model = converted(model, Weights.INT8)
    expected = velocities(model)
    model.compile_blocks()
    hosted = HostedModel(model, CPU, model.fusion_blocks, 1, transfers=Spy())
    with hosted.in_use():
        for one, other in zip(velocities(model), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-2)
