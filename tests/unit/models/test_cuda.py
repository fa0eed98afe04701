"""Code paths that need a GPU, tested without one: `fake_cuda` answers like cards of given sizes."""

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_cuda import computing_on_the_host
from places import ROOT
from warm_start import PIPELINES

from ovi_studio.__main__ import main
from ovi_studio.bench import steps
from ovi_studio.bench.steps import Setup, measure_forward, shapes
from ovi_studio.capacity.budget import RESERVE
from ovi_studio.checkpoints.layout import require
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import EMBEDDED_BUNDLE, published_variants, read_bundle
from ovi_studio.media import clip_files
from ovi_studio.models import compilation
from ovi_studio.models.attention import choose_backend
from ovi_studio.models.device import available_memory, compute_device, usable_memory
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.runtime.compute import Compute
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.pinning import Pinning
from ovi_studio.runtime.pipeline import Pipeline
from ovi_studio.runtime.placement import choose_plan

pytestmark = pytest.mark.slow

SOURCES = ROOT / "ovi_studio"
SPEC = ClipSpec(prompt="a red ball bounces", variant="tiny", steps=2, seed=7)
GIB = 2**30

Cuda = Callable[..., Any]
CARDS = [(8, 1, False), (12, 1, False), (16, 1, False), (24, 1, False), (24, 1, True), (80, 1, False), (24, 4, True)]
every_card = pytest.mark.parametrize(("gigabytes", "count", "desktop"), CARDS)


def loaded(bundle: Path, resident: int | None = None, **options: Any) -> Pipeline:
    """Load the tiny model on the fake GPU; only `resident` blocks stay, as in a tier too small for the model."""
    pipeline = Pipeline.load(require("tiny", bundle), Compute.of(RuntimeOptions(**options)))
    if resident is None:
        return pipeline
    return Pipeline(pipeline.variant, pipeline.models, pipeline.compute, plan=replace(pipeline.plan, resident=resident))


# Which device


def test_a_device_always_has_an_index(cuda: Cuda) -> None:
    assert compute_device() == torch.device("cpu")
    cards = cuda(24, 4)
    assert compute_device() == torch.device("cuda", 0)
    cards.current = 2
    assert compute_device() == Compute.of().device == torch.device("cuda", 2)


def test_only_one_place_makes_a_device() -> None:
    made = re.compile(r"""(?<!compute_)device\(\s*f?["']cuda|device\(.*if torch\.cuda\.is_available""")
    places = [path for path in SOURCES.rglob("*.py") if made.search(path.read_text(encoding="utf-8"))]
    assert places == [SOURCES / "models" / "device.py"]


# Whole clips


@every_card
def test_generate_makes_a_clip_on_every_card(
    cuda: Cuda, tiny_bundle: Path, tmp_path: Path, gigabytes: int, count: int, desktop: bool
) -> None:
    cuda(gigabytes, count, desktop=desktop)
    command = ["generate", "--prompt", "a red ball", "--variant", "tiny", "--steps", "2", "--gpus", "1"]
    with computing_on_the_host():
        assert main([*command, "--ckpt-dir", str(tiny_bundle), "--out", str(tmp_path)]) == 0
    (clip,) = tmp_path.glob("*.mp4")
    record = clip_files.read_record(clip)
    assert record["machine"]["device"].startswith("NVIDIA")
    assert record["memory"]["tier"] == {8: "8", 12: "12", 16: "16", 24: "24", 80: "max"}[gigabytes]


def test_a_streamed_clip_through_cudas_own_transfers_is_the_resident_one(cuda: Cuda, tiny_bundle: Path) -> None:
    cuda(24)
    with computing_on_the_host():
        resident = loaded(tiny_bundle, memory="max")(SPEC)
        streamed = loaded(tiny_bundle, resident=0, memory="24")(SPEC)
    assert streamed.record["memory"]["resident_blocks"] == 0
    assert np.array_equal(streamed.frames, resident.frames)
    assert np.array_equal(streamed.samples, resident.samples)


def test_the_doctor_sees_every_card(cuda: Cuda, tiny_bundle: Path) -> None:
    cards = cuda(24, 4, desktop=True)
    command = ["-m", "ovi_studio", "doctor", "--ckpt-dir", str(tiny_bundle)]
    done = PIPELINES.run(*command, environment=cards.environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("NVIDIA GeForce RTX 3090, 23.7 GiB of memory") == 4
    assert "22.8 GiB free" in done.stdout  # of the card with the desktop
    assert "How these GPUs can work together" in done.stdout


def test_a_bench_is_set_up_on_a_gpu_and_limits_it(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    card = cuda(24).cards[0]
    monkeypatch.setattr(steps, "matrix_rate", lambda device, dtype: 1e12)  # of a size for GPUs
    shape = shapes()["demo"]
    compute = Compute.of(RuntimeOptions(memory="12"))
    with computing_on_the_host():
        measured = measure_forward(shape, compute, 1, setup=Setup.of(shape, compute, guided=True, limit=12 * GIB))
    assert measured.median > 0
    assert card.fraction == pytest.approx(12 * GIB / card.total)


# What is planned with


def test_usable_memory_is_what_this_process_may_allocate(cuda: Cuda) -> None:
    card = cuda(24).cards[0]
    device = compute_device()
    before = usable_memory(device)
    card.allocated, card.reserved = 3 * GIB, 5 * GIB
    assert usable_memory(device) == before
    assert available_memory(device) == before - 3 * GIB
    torch.cuda.set_per_process_memory_fraction(0.25, device)
    assert usable_memory(device) == int(card.total * 0.25)


@every_card
@pytest.mark.parametrize("variant", list(published_variants()))
def test_a_plan_leaves_its_reserve_on_every_card(
    cuda: Cuda, variant: str, gigabytes: int, count: int, desktop: bool
) -> None:
    cuda(gigabytes, count, desktop=desktop)
    usable = usable_memory(compute_device())
    plan = choose_plan(published_variants()[variant], compute_device())
    if (gigabytes, variant) == (8, "960x960_10s"):
        # Nothing stays there, and half of the reserve is left.
        assert plan.resident == 0
        assert plan.peak_bytes < usable - RESERVE / 2
    else:
        assert plan.peak_bytes <= usable - RESERVE


def test_the_24_gb_tier_leaves_room_on_an_rtx_3090_with_a_desktop(cuda: Cuda) -> None:
    card = cuda(24, desktop=True).cards[0]
    usable = usable_memory(compute_device())
    for variant in published_variants().values():
        plan = choose_plan(variant, compute_device())
        assert plan.tier.name == "24"
        asked = choose_plan(variant, compute_device(), "24")
        assert max(plan.peak_bytes, asked.peak_bytes) <= usable - RESERVE
    card.taken += 2 * GIB  # a game
    assert choose_plan(variant, compute_device()).peak_bytes <= usable_memory(compute_device()) - RESERVE
    assert choose_plan(variant, compute_device(), "24").peak_bytes <= usable_memory(compute_device()) - RESERVE


def test_the_decoders_tile_fits_the_free_memory_after_torchs_cache_is_freed(cuda: Cuda, tiny_bundle: Path) -> None:
    card = cuda(24).cards[0]
    with computing_on_the_host():
        pipeline = loaded(tiny_bundle, memory="24")
    card.allocated, card.reserved = int(1.4 * GIB), 21 * GIB  # after denoising
    assert pipeline.decoder.tile_size(60, 60) is None
    card.allocated = card.reserved = 18 * GIB
    assert 8 <= pipeline.decoder.tile_size(60, 60) < 40
    card.allocated = card.reserved = 23 * GIB
    assert pipeline.decoder.tile_size(60, 60) == 8


# What may fail


def test_a_clip_is_made_where_memory_cannot_be_pinned_with_one_warning(
    cuda: Cuda, tiny_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cards = cuda(24)
    with computing_on_the_host():
        pinned = loaded(tiny_bundle, resident=0, memory="24")
        assert cards.pinned
        expected = pinned(SPEC)
        before = loaded(tiny_bundle, memory="24")
        cards.pinning_error = 2
        plan = replace(before.plan, resident=0)
        pipeline = Pipeline(before.variant, before.models, before.compute, plan=plan)
        assert np.array_equal(pipeline(SPEC).frames, expected.frames)
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert ["can be pinned" in record.message for record in warnings] == [True]


def test_the_error_of_failed_pinning_does_not_reach_the_next_kernel(
    cuda: Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = cuda(24)
    cards.pinning_error = 2
    launched = []

    def synchronise(device: Any = None) -> None:
        launched.append(device)
        raise torch.AcceleratorError("CUDA error: out of memory")

    monkeypatch.setattr(torch.cuda, "synchronize", synchronise)
    pinning = Pinning(compute_device())
    with computing_on_the_host():
        pinning.pin(torch.zeros(4))
        pinning.pin(torch.zeros(4))
    assert len(launched) == 1  # after the first failure nothing is tried any more


@pytest.mark.parametrize(
    ("gigabytes", "name", "sentence"),
    [
        (24, "flash3", "Attention 'flash3' needs an H100 or H200 and does not run on NVIDIA GeForce RTX 3090"),
        (16, "flash3", "Attention 'flash3' needs an H100 or H200 and does not run on NVIDIA GeForce RTX 4080"),
        (80, "flash3", "Attention 'flash3' needs a package"),
        (24, "sage", "Attention 'sage' needs a package"),
    ],
)
def test_an_attention_that_the_card_does_not_support_is_refused_before_loading(
    cuda: Cuda, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, gigabytes: int, name: str, sentence: str
) -> None:
    cuda(gigabytes)
    monkeypatch.setattr("ovi_studio.runtime.pipeline.load_models", lambda *_, **__: pytest.fail("models were loaded"))
    with pytest.raises(JobError, match=sentence):
        loaded(tiny_bundle, attention=name)


def test_fp8_products_are_refused_before_loading_on_a_card_without_fp8_units(
    cuda: Cuda, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda(24)
    monkeypatch.setattr("ovi_studio.runtime.pipeline.load_models", lambda *_, **__: pytest.fail("models were loaded"))
    with pytest.raises(JobError, match=r"fp8-fast weights need a GPU with fp8 units .* RTX 3090; use int8"):
        loaded(tiny_bundle, weights="fp8-fast")


def test_a_clip_is_made_with_fp8_products_on_a_card_that_has_them(cuda: Cuda, tiny_bundle: Path) -> None:
    cuda(16)
    with computing_on_the_host():
        plain = loaded(tiny_bundle)(SPEC)
        clip = loaded(tiny_bundle, weights="fp8-fast")(SPEC)
    assert clip.record["memory"]["weights"] == "fp8-fast"
    assert not np.array_equal(clip.frames, plain.frames)
    assert np.abs(clip.frames.astype(float) - plain.frames).mean() < 10


def test_a_kernel_refuses_a_gpu_that_is_too_new_and_a_cpu(cuda: Cuda) -> None:
    with pytest.raises(JobError, match="does not run on the CPU; use 'native'"):
        choose_backend("flash2", torch.device("cpu"))
    cuda(80).cards[0].capability = (12, 0)
    with pytest.raises(JobError, match="'flash3' needs an H100 or H200"):
        choose_backend("flash3", compute_device())


def test_compiling_is_refused_with_a_reason_if_requested_and_skipped_silently_if_not(
    cuda: Cuda, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda(24)
    monkeypatch.setattr(compilation, "find_spec", lambda name: None)
    compilation.compiler_problem.cache_clear()
    with computing_on_the_host():
        loaded(tiny_bundle)
        with pytest.raises(JobError, match="Triton is not installed"):
            loaded(tiny_bundle, compilation=True)
    compilation.compiler_problem.cache_clear()


@pytest.mark.parametrize(
    ("asked", "weights", "compiled"),
    [(None, "bf16", True), (None, "int8", True), (True, "int8", True), (False, "bf16", False)],
)
def test_blocks_are_compiled_on_a_gpu_where_that_works(
    cuda: Cuda,
    tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: bool | None,
    weights: str,
    compiled: bool,
) -> None:
    cuda(24)
    monkeypatch.setattr(compilation, "compiler_problem", lambda device: None)
    monkeypatch.setattr(compilation, "LARGE", 1)
    called = []
    monkeypatch.setattr(OviTransformer, "compile_blocks", lambda model: called.append(model))
    with computing_on_the_host():
        loaded(tiny_bundle, compilation=asked, weights=weights)
    assert len(called) == compiled


def test_only_models_whose_clips_take_longer_than_compiling_are_compiled_by_themselves(
    cuda: Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda(24)
    monkeypatch.setattr(compilation, "compiler_problem", lambda device: None)
    compute = Compute.of()
    assert all(compute.compiles(variant) for variant in published_variants().values())
    embedded = read_bundle(EMBEDDED_BUNDLE)
    assert not compute.compiles(embedded)
    assert Compute.of(RuntimeOptions(compilation=True)).compiles(embedded)


def test_tf32_is_off_unless_requested(cuda: Cuda, tiny_bundle: Path) -> None:
    cuda(24)
    with computing_on_the_host():
        for wanted in (True, False):
            loaded(tiny_bundle, tf32=wanted)
            assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is wanted


# Memory that runs out


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let denoising run out of memory in the tiers above 12."""
    denoise = Pipeline.denoise

    def refuse(pipeline: Pipeline, *inputs: Any, **options: Any) -> Any:
        if pipeline.plan.tier.name not in ("8", "12"):
            raise torch.AcceleratorError("CUDA error: out of memory")
        return denoise(pipeline, *inputs, **options)

    monkeypatch.setattr(Pipeline, "denoise", refuse)


def generate(bundle: Path, out: Path, *more: str) -> int:
    command = ["generate", "--prompt", "a red ball", "--variant", "tiny", "--steps", "2", "--gpus", "1", *more]
    with computing_on_the_host():
        return main([*command, "--ckpt-dir", str(bundle), "--out", str(out)])


@pytest.mark.usefixtures("crowded")
def test_a_clip_that_ran_out_of_memory_is_made_again_with_less_and_says_so(
    cuda: Cuda, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cuda(24)
    assert generate(tiny_bundle, tmp_path) == 0
    (clip,) = tmp_path.glob("*.mp4")
    memory = clip_files.read_record(clip)["memory"]
    assert (memory["tier"], memory["lacked_memory_with"]) == ("12", ["24", "16"])
    told = capsys.readouterr().err
    assert "Memory ran out in tier 24; retrying the clip in tier 16." in told
    assert "Memory ran out in tier 16; retrying the clip in tier 12." in told


@pytest.mark.usefixtures("crowded")
def test_stepping_down_can_be_turned_off(
    cuda: Cuda, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cuda(24)
    assert generate(tiny_bundle, tmp_path, "--no-step-down") == 1
    assert list(tmp_path.glob("*.mp4")) == []
    assert "--memory 16, or leave out --no-step-down" in capsys.readouterr().err
