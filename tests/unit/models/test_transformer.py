"""The fusion transformer: skipped blocks, prepared text, positions, attention kernels, and no host reads."""

import json
import re
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from known_shapes import KnownShapes
from places import REFERENCE
from torch import Tensor

from ovi_studio.adapters.runtime import RuntimeAdapters, RuntimeLora
from ovi_studio.bench.adapters import random_changes
from ovi_studio.core.errors import JobError
from ovi_studio.core.solvers import SOLVERS
from ovi_studio.models import attention, compilation
from ovi_studio.models.fusion_block import BlockInput
from ovi_studio.models.rotary import RotaryTable, audio_table, normalised_and_rotated, rotate, video_table
from ovi_studio.models.transformer import OviTransformer, Pass
from ovi_studio.sampling.denoise import Latents, Schedule, denoise
from ovi_studio.sampling.guidance import Guidance

OFFICIAL_KEYS = REFERENCE / "keys" / "ovi_fusion.keys.json"
FRAMES, HEIGHT, WIDTH, LENGTH = 3, 4, 6, 11
DEPTH = 3
SIZES = [(3, 6, 11), (2, 8, 7), (4, 4, 13)]
"""Latent frames, width and audio length."""
CPU = torch.device("cpu")

Build = Callable[..., OviTransformer]


@pytest.fixture
def build(tiny_dimensions: dict[str, Any]) -> Build:
    """Return a function that builds a transformer with random weights; options apply to both towers."""

    def make(**options: Any) -> OviTransformer:
        torch.manual_seed(0)
        towers = tiny_dimensions["fusion"]
        return OviTransformer(**{name: tower | {"num_layers": DEPTH} | options for name, tower in towers.items()})

    return make


@pytest.fixture
def model(build: Build) -> OviTransformer:
    return build().eval().requires_grad_(False)


def random(*size: int, seed: int = 1) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def latents(batch: int = 1) -> tuple[Tensor, Tensor]:
    return random(batch, 8, FRAMES, HEIGHT, WIDTH), random(batch, LENGTH, 20, seed=2)


def embeddings(batch: int = 1) -> tuple[Tensor, Tensor]:
    """Return embeddings of two texts with different lengths, like the negative prompts of the two towers."""
    return random(batch, 7, 16, seed=3), random(batch, 5, 16, seed=4)


def run(model: OviTransformer, timestep: float = 500.0, **options: Any) -> tuple[Tensor, Tensor]:
    return model(*latents(), torch.tensor([timestep]), model.prepare_text(*embeddings()), **options)


def assert_close(result: tuple[Tensor, ...], expected: tuple[Tensor, ...], tolerance: float = 1e-6) -> None:
    for one, other in zip(result, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def differ(one: Tensor, other: Tensor) -> bool:
    return not torch.allclose(one, other, rtol=1e-3, atol=1e-3)


def without_block(state: dict[str, Tensor], left_out: int) -> dict[str, Tensor]:
    """Return a model's tensors without one block of each tower; later blocks move up."""

    def moved(match: re.Match[str]) -> str:
        depth = int(match[1])
        return f".blocks.{depth - (depth > left_out)}."

    kept = {name: tensor for name, tensor in state.items() if f".blocks.{left_out}." not in name}
    return {re.sub(r"\.blocks\.(\d+)\.", moved, name): tensor for name, tensor in kept.items()}


@pytest.mark.parametrize("depth", range(DEPTH))
def test_a_skipped_block_is_as_if_neither_tower_had_it(build: Build, model: OviTransformer, depth: int) -> None:
    shorter = build(num_layers=DEPTH - 1).requires_grad_(False)
    shorter.load_state_dict(without_block(model.state_dict(), depth))
    skipped = run(model, skip_block=depth)
    assert_close(skipped, run(shorter))
    for tower in (0, 1):
        assert differ(skipped[tower], run(model)[tower])


def test_a_text_prepared_once_serves_every_step(model: OviTransformer) -> None:
    text = model.prepare_text(*embeddings())
    for timestep in (999.0, 500.0, 20.0):
        result = model(*latents(), torch.tensor([timestep]), text)
        assert_close(result, run(model, timestep), tolerance=0)


def test_each_tower_attends_to_its_own_text(model: OviTransformer) -> None:
    video_text, audio_text = embeddings()
    other = random(1, 5, 16, seed=9)
    plain = model.prepare_text(video_text, audio_text)
    changed = model.prepare_text(video_text, other)
    assert_close(tuple(changed.video[0]), tuple(plain.video[0]), tolerance=0)
    assert differ(changed.audio[0].key, plain.audio[0].key)


def test_missing_text_positions_are_zeros_that_count(build: Build, model: OviTransformer) -> None:
    def velocities(model: OviTransformer, padding: int) -> tuple[Tensor, Tensor]:
        padded = [torch.nn.functional.pad(embedding, (0, 0, 0, padding)) for embedding in embeddings()]
        return model(*latents(), torch.tensor([500.0]), model.prepare_text(*padded))

    assert_close(velocities(model, padding=9), velocities(model, padding=0))
    # The same weights with less room for text: fewer zeros change the result, so they are not masked.
    shorter = build(text_len=8).requires_grad_(False)
    shorter.load_state_dict(model.state_dict())
    assert differ(velocities(shorter, padding=0)[0], velocities(model, padding=0)[0])
    assert differ(velocities(shorter, padding=0)[1], velocities(model, padding=0)[1])


def test_a_clean_first_frame_changes_nothing_when_everything_is_clean(model: OviTransformer) -> None:
    assert_close(run(model, timestep=0.0, clean_first_frame=True), run(model, timestep=0.0))


def test_a_clean_first_frame_has_timestep_zero_and_the_others_their_own(build: Build) -> None:
    # Without blocks a token's velocity depends on itself and its timestep alone.
    model = build(num_layers=0).requires_grad_(False)
    video, audio = run(model, timestep=700.0, clean_first_frame=True)
    clean, noisy = run(model, timestep=0.0)[0], run(model, timestep=700.0)[0]
    assert_close((video[:, :, :1], video[:, :, 1:]), (clean[:, :, :1], noisy[:, :, 1:]))
    assert_close((audio,), (run(model, timestep=700.0)[1],))
    assert differ(clean, noisy)


@pytest.mark.parametrize("clean", [False, True])
def test_a_batch_of_two_equals_two_single_passes(model: OviTransformer, clean: bool) -> None:
    video, audio = latents(batch=2)
    texts = embeddings(batch=2)
    timesteps = torch.tensor([900.0, 300.0])
    together = model(video, audio, timesteps, model.prepare_text(*texts), clean_first_frame=clean)
    for index in (0, 1):
        one = slice(index, index + 1)
        text = model.prepare_text(*(embedding[one] for embedding in texts))
        alone = model(video[one], audio[one], timesteps[one], text, clean_first_frame=clean)
        assert_close((together[0][one], together[1][one]), alone, tolerance=1e-5)


def test_one_model_takes_clips_of_changing_size(build: Build, model: OviTransformer) -> None:
    text = model.prepare_text(*embeddings())
    video, audio = latents()
    inputs = [(video, audio), (video[:, :, :2], audio), (video[..., :2, :], audio), (video, audio[:, :7])]
    for small_video, small_audio in [*inputs, *inputs]:
        result = model(small_video, small_audio, torch.tensor([500.0]), text)
        fresh = build().requires_grad_(False)(small_video, small_audio, torch.tensor([500.0]), text)
        assert_close(result, fresh, tolerance=0)


@pytest.mark.parametrize("clean", [False, True])
def test_every_tensor_that_enters_a_block_is_contiguous(
    model: OviTransformer, clean: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered: list[Tensor] = []
    for block in model.fusion_blocks:

        def watch(inputs: list[BlockInput], forward: Any = block.forward) -> Any:
            for video, audio, *texts in inputs:
                streams = [(one.tokens, one.modulation.rows, *one.rotary) for one in (video, audio)]
                entered.extend(tensor for tensors in (*streams, *texts) for tensor in tensors)
            return forward(inputs)

        monkeypatch.setattr(block, "forward", watch)
    run(model, clean_first_frame=clean)
    assert len(entered) == DEPTH * (2 * 3 + 2 * 2)
    assert all(tensor.is_contiguous() for tensor in entered)


# Numbers in 16 bits


def test_queries_and_keys_are_rounded_once() -> None:
    tokens, heads, width = 30, 4, 16
    x = random(1, tokens, heads * width).bfloat16()
    norm = torch.nn.RMSNorm(heads * width, eps=1e-6).bfloat16().requires_grad_(False)
    norm.weight.copy_(random(heads * width, seed=2))
    table = audio_table(tokens, width, 1.0, CPU)
    wide = torch.nn.RMSNorm(heads * width, eps=1e-6).double().requires_grad_(False)
    wide.weight.copy_(norm.weight)
    exact = rotate(wide(x.double()).unflatten(-1, (heads, width)).float(), table)
    result = normalised_and_rotated(x, norm, heads, table)
    # bfloat16 has 8 significant bits; the error of float32 comes on top.
    assert ((result.float() - exact).abs() <= exact.abs() * 2**-8 * 1.001 + 1e-6).all()


def test_a_model_in_64_bits_computes_in_64_bits(build: Build) -> None:
    model = build().eval().requires_grad_(False)
    text = model.prepare_text(*embeddings())
    expected = model(*latents(), torch.tensor([500.0]), text)
    model.double()
    text = model.prepare_text(*(embedding.double() for embedding in embeddings()))
    video, audio = (one.double() for one in latents())
    result = model(video, audio, torch.tensor([500.0]), text)
    assert {one.dtype for one in result} == {torch.float64}
    assert_close(tuple(one.float() for one in result), expected, tolerance=1e-5)


# Rotary embeddings, against complex numbers in float64


def turned(x: Tensor, angles: np.ndarray) -> Tensor:
    """Rotate the channel pairs of x (tokens, channels) by angles (tokens, channels / 2)."""
    pairs = x.double().numpy().reshape(len(x), -1, 2)
    result = (pairs[..., 0] + 1j * pairs[..., 1]) * np.exp(1j * angles)
    return torch.from_numpy(np.stack([result.real, result.imag], axis=-1).reshape(x.shape))


def angles(positions: np.ndarray, channels: int) -> np.ndarray:
    return positions[:, None] * 10_000.0 ** (-np.arange(0, channels, 2) / channels)


def rotation_error(table: RotaryTable, expected_angles: np.ndarray) -> float:
    tokens, pairs = expected_angles.shape
    x = 2 * torch.rand(tokens, 2 * pairs, generator=torch.Generator().manual_seed(0)) - 1
    result = rotate(x[None, :, None], table)[0, :, 0]
    assert result.dtype == torch.float32
    return (result.double() - turned(x, expected_angles)).abs().max().item()


@pytest.mark.parametrize("head_dim", [128, 64, 16])
def test_video_positions_rotate_as_in_float64(head_dim: int) -> None:
    frames, height, width = 61, 5, 30
    space = 2 * (head_dim // 6)
    t, y, x = (axis.ravel() for axis in np.mgrid[:frames, :height, :width])
    expected = np.concatenate([angles(t, head_dim - 2 * space), angles(y, space), angles(x, space)], axis=1)
    assert rotation_error(video_table(frames, height, width, head_dim, CPU), expected) < 1e-6


@pytest.mark.parametrize("head_dim", [128, 16])
def test_audio_positions_rotate_only_the_time_channels_as_in_float64(head_dim: int) -> None:
    space = 2 * (head_dim // 6)
    time = angles(np.arange(314), head_dim - 2 * space) * 0.19676
    expected = np.concatenate([time, np.zeros((314, space))], axis=1)
    assert rotation_error(audio_table(314, head_dim, 0.19676, CPU), expected) < 1e-6


def test_rotation_keeps_the_dtype() -> None:
    table = audio_table(5, 16, 1.0, CPU)
    assert rotate(torch.randn(1, 5, 2, 16, dtype=torch.bfloat16), table).dtype == torch.bfloat16


# Kernels and devices


def test_an_unknown_attention_is_refused_with_the_known_ones() -> None:
    with pytest.raises(JobError, match="Unknown attention kernel 'fast'; choose one of native, native-flash"):
        attention.choose_backend("fast", torch.device("cpu"))


@pytest.mark.parametrize(
    ("name", "package"), [("flash2", "flash_attn"), ("flash3", "flash_attn_interface"), ("sage", "sageattention")]
)
def test_attention_that_is_not_installed_is_refused_with_advice(
    name: str, package: str, cuda: Callable[..., Any]
) -> None:
    if find_spec(package):
        pytest.skip(f"{package} is installed here")
    cuda(80)
    with pytest.raises(JobError, match=rf"^Attention '{name}' needs a package .*; install it or use 'native'\.$"):
        attention.choose_backend(name, torch.device("cuda", 0))


def test_the_chosen_attention_is_used_everywhere(model: OviTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(model)
    used = []
    dispatch = attention.dispatch_attention_fn

    def watch(*inputs: Tensor, backend: Any) -> Tensor:
        used.append(backend)
        return dispatch(*inputs, backend=backend)

    monkeypatch.setattr(attention, "dispatch_attention_fn", watch)
    other = attention.AttentionBackendName._NATIVE_MATH
    model.set_attention(other)
    assert_close(run(model), expected, tolerance=1e-5)
    assert used == [other] * (DEPTH * 2 * 3)  # two towers, each attends to itself, to the text and to the other


@pytest.mark.slow
@pytest.mark.parametrize(("solver", "guided"), [*((solver, True) for solver in SOLVERS), ("unipc", False)])
def test_no_step_reads_a_tensor_on_the_host(build: Build, solver: Any, guided: bool) -> None:
    model = build(num_layers=2).eval().requires_grad_(False).to("meta")
    noise = Latents(torch.randn(8, FRAMES, HEIGHT, WIDTH, device="meta"), torch.randn(LENGTH, 20, device="meta"))
    text = model.prepare_text(*(embedding.to("meta") for embedding in embeddings()))
    guidance = Guidance(text, text if guided else None, video_scale=4.0, audio_scale=3.0, skip_block=1)
    # A meta tensor has no values: whatever asked for one, and so would make a GPU wait, raises.
    first_frame = torch.randn(8, 1, HEIGHT, WIDTH, device="meta")
    with KnownShapes():
        result = denoise(model, noise, guidance, Schedule(solver, 4, 5.0), first_frame=first_frame)
    assert result.video.shape == noise.video.shape
    assert result.audio.device.type == "meta"


@torch.no_grad()
def steps_of_every_size(model: OviTransformer, *, clean: bool) -> tuple[Tensor, ...]:
    """With and without guidance."""
    text = model.prepare_text(*embeddings())
    found: list[Tensor] = []
    for frames, width, length in SIZES:
        video, audio = random(1, 8, frames, HEIGHT, width), random(1, length, 20)
        for passes in ([Pass(text)], [Pass(text), Pass(text, skip_block=1)]):
            step = model.velocities(video, audio, torch.tensor([500.0]), passes, clean_first_frame=clean)
            found += [tensor for one in step for tensor in one]
    return tuple(found)


@pytest.mark.slow
@pytest.mark.usefixtures("graphs_alone")
def test_all_sizes_share_one_graph_for_clips_from_text_and_one_for_those_from_a_picture(model: OviTransformer) -> None:
    expected = [steps_of_every_size(model, clean=clean) for clean in (False, True)]
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    model.compile_blocks()
    for clean in (False, True):
        assert_close(steps_of_every_size(model, clean=clean), expected[clean], tolerance=1e-5)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before + 1 + clean


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for the CPU needs g++")
def test_code_made_of_blocks_computes_what_they_do_in_all_sizes(model: OviTransformer) -> None:
    expected = steps_of_every_size(model, clean=True)
    model.compile_blocks()
    assert_close(steps_of_every_size(model, clean=True), expected, tolerance=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("graphs_alone")
def test_compiled_blocks_follow_run_time_adapters_from_step_to_step(model: OviTransformer) -> None:
    adapters = RuntimeAdapters(model)
    adapters.inject(
        {layer: [RuntimeLora(change, (1.0, 0.5))] for layer, change in random_changes(model, 2)}, torch.float32
    )

    def results() -> list[tuple[Tensor, Tensor]]:
        found = []
        for step in (0, 1):
            adapters.set_step(step)
            with torch.no_grad():
                found.append(run(model))
        return found

    expected = results()
    assert differ(expected[0][0], expected[1][0])
    model.compile_blocks()
    for result, other in zip(results(), expected, strict=True):
        assert_close(result, other, tolerance=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("graphs_alone")
def test_a_block_with_too_many_variants_is_an_error_and_not_slow(
    model: OviTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation, "MAX_BLOCK_VARIANTS", 1)
    torch.compiler.reset()
    model.compile_blocks()
    with torch.no_grad():
        run(model)
        with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
            run(model, clean_first_frame=True)
    torch.compiler.reset()


# Training and files


@pytest.mark.parametrize("clean", [False, True])
def test_gradients_reach_every_parameter(build: Build, clean: bool) -> None:
    model = build()
    video, audio = run(model, clean_first_frame=clean)
    (video.square().mean() + audio.square().mean()).backward()
    missing = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or parameter.grad.abs().max() == 0
    ]
    assert missing == []


def depth_less(names: Any) -> set[str]:
    return {re.sub(r"\.blocks\.\d+\.", ".blocks.0.", name) for name in names}


@pytest.mark.slow
def test_tensors_keep_their_official_names_whatever_was_done_to_the_model(model: OviTransformer) -> None:
    official = depth_less(json.loads(OFFICIAL_KEYS.read_text()))
    assert depth_less(model.state_dict()) == official
    model.set_attention(attention.choose_backend("native", torch.device("cpu")))
    model.compile_blocks()
    assert depth_less(model.state_dict()) == official
    assert len(model.state_dict()) == len(dict(model.named_parameters()))


def test_a_configuration_of_another_architecture_is_refused(build: Build) -> None:
    for option in ({"qk_norm": False}, {"window_size": [8, 8]}, {"cross_attn_type": "i2v"}):
        with pytest.raises(ValueError, match=r"tower option .* is not supported"):
            build(**option)
