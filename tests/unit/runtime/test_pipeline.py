"""From a spec to a clip: the result, its reproducibility, and refusals."""

import dataclasses
import hashlib
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from warm_start import PIPELINES

from ovi_studio.checkpoints.layout import require, take_inventory
from ovi_studio.core.clip import Clip
from ovi_studio.core.errors import JobError, Stopped
from ovi_studio.core.solvers import SOLVERS
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import EMBEDDED_BUNDLE, FRAME_RATE, SAMPLE_RATE, read_bundle
from ovi_studio.demo.bundle_writer import build_models, write_bundle
from ovi_studio.demo.dimensions import BUNDLE, DIMENSIONS
from ovi_studio.runtime.compute import Compute
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.pipeline import Pipeline
from ovi_studio.sampling.denoise import Step

SPEC = ClipSpec(prompt="a red ball bounces <AUDCAP>a deep thump<ENDAUDCAP>", variant="tiny", steps=2, seed=7)


def save_picture(path: Path, height: int, width: int, seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return save_picture(tmp_path / "picture.png", 100, 160)


def with_(**changes: object) -> ClipSpec:
    return dataclasses.replace(SPEC, **changes)


def same(one: Clip, other: Clip) -> bool:
    return np.array_equal(one.frames, other.frames) and np.array_equal(one.samples, other.samples)


def assert_is_clip(clip: Clip, height: int, width: int) -> None:
    assert clip.frames.shape == (17, height, width, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.frames.std() > 1
    assert clip.samples.shape == (22 * 512,)
    assert clip.samples.dtype == np.float32
    assert 0 < np.abs(clip.samples).max() <= 1


# Prompt and picture to clip


def test_a_prompt_becomes_a_clip(tiny_pipeline: Pipeline) -> None:
    clip = tiny_pipeline(SPEC)
    assert_is_clip(clip, 64, 64)
    assert clip.spec == SPEC
    assert clip.picture is None


def test_a_picture_becomes_a_clip_of_its_own_shape(tiny_pipeline: Pipeline, picture: Path) -> None:
    clip = tiny_pipeline(with_(image=picture))
    assert_is_clip(clip, 64, 96)
    assert clip.picture is not None
    assert clip.picture.data == picture.read_bytes()


def test_a_picture_decides_the_size_even_if_another_is_requested(tiny_pipeline: Pipeline, tmp_path: Path) -> None:
    portrait = save_picture(tmp_path / "portrait.png", 160, 100)
    clip = tiny_pipeline(with_(image=portrait, size=(64, 64), steps=1))
    assert clip.frames.shape[1:3] == (96, 64)


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "made"), [((64, 64), (64, 64)), ((704, 1280), (32, 96)), ((960, 400), (96, 32))])
def test_a_size_is_scaled_to_the_area_of_the_variant(
    tiny_pipeline: Pipeline, asked: tuple[int, int], made: tuple[int, int]
) -> None:
    clip = tiny_pipeline(with_(size=asked, steps=1))
    assert clip.frames.shape[1:3] == made
    assert clip.record["size"] == list(made)


@pytest.mark.slow
def test_another_picture_of_the_same_size_makes_another_clip(
    tiny_pipeline: Pipeline, picture: Path, tmp_path: Path
) -> None:
    other = save_picture(tmp_path / "other.png", 100, 160, seed=1)
    assert not same(tiny_pipeline(with_(image=picture)), tiny_pipeline(with_(image=other)))


def test_a_prompt_that_is_too_long_is_truncated_and_not_refused(tiny_pipeline: Pipeline) -> None:
    assert_is_clip(tiny_pipeline(with_(prompt="a red ball bounces " * 100, steps=1)), 64, 64)


# Reproducible, and different where it should be


@pytest.mark.slow
@pytest.mark.parametrize("with_picture", [False, True])
def test_the_same_spec_gives_the_same_clip_exactly(tiny_pipeline: Pipeline, picture: Path, with_picture: bool) -> None:
    spec = with_(image=picture if with_picture else None)
    first = tiny_pipeline(spec)
    tiny_pipeline(with_(seed=8, prompt="something in between"))
    assert same(tiny_pipeline(spec), first)


@pytest.mark.slow
def test_a_pipeline_loaded_again_gives_the_same_clip(tiny_pipeline: Pipeline, tiny_bundle: Path) -> None:
    again = Pipeline.load(require("tiny", tiny_bundle), tiny_pipeline.compute)
    assert same(again(SPEC), tiny_pipeline(SPEC))


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"seed": 8},
        {"prompt": "a blue square"},
        {"steps": 3},
        {"solver": "euler"},
        {"solver": "restart"},
        {"shift": 3.0},
        {"timesteps": (1000.0, 400.0)},
        {"video_guidance": 6.0},
        {"audio_guidance": 5.0},
        {"slg_layer": 0},
        {"video_negative_prompt": "noise"},
        {"audio_negative_prompt": "noise"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_setting_changes_the_clip(tiny_pipeline: Pipeline, change: dict[str, object]) -> None:
    assert not same(tiny_pipeline(with_(**change)), tiny_pipeline(SPEC))


@pytest.mark.slow
def test_a_step_cache_changes_the_clip(tiny_pipeline: Pipeline) -> None:
    """Of as many steps as leave out a pass."""
    assert not same(tiny_pipeline(with_(steps=20, step_cache="fast")), tiny_pipeline(with_(steps=20)))


def test_without_guidance_the_negative_prompts_have_no_effect(tiny_pipeline: Pipeline) -> None:
    plain = with_(video_guidance=1.0, audio_guidance=1.0)
    other = dataclasses.replace(plain, video_negative_prompt="wind", audio_negative_prompt="tone", slg_layer=0)
    assert same(tiny_pipeline(plain), tiny_pipeline(other))


@pytest.mark.slow
@pytest.mark.parametrize(("video", "audio", "expected"), [(1.0, 1.0, 3), (1.0, 3.0, 6), (4.0, 1.0, 6)])
def test_without_guidance_there_is_one_pass_per_step(
    tiny_pipeline: Pipeline, video: float, audio: float, expected: int
) -> None:
    passes: list[int] = []
    block = tiny_pipeline.models.transformer.fusion_blocks[0]
    handle = block.register_forward_hook(lambda _, inputs, __: passes.extend(1 for _ in inputs[0]))
    try:
        tiny_pipeline(with_(steps=3, video_guidance=video, audio_guidance=audio))
    finally:
        handle.remove()
    assert len(passes) == expected


@pytest.mark.slow
def test_the_variants_own_block_is_skipped_unless_another_is_named(tiny_pipeline: Pipeline) -> None:
    assert same(tiny_pipeline(with_(slg_layer=None)), tiny_pipeline(with_(slg_layer=1)))
    assert same(tiny_pipeline(with_(slg_layer=0)), tiny_pipeline(with_(slg_layer=-1)))


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_one_step_is_enough_for_a_clip(tiny_pipeline: Pipeline, solver: str) -> None:
    assert_is_clip(tiny_pipeline(with_(solver=solver, steps=1)), 64, 64)


@pytest.mark.slow
def test_a_stopped_run_ends_and_does_not_affect_the_next_one(tiny_pipeline: Pipeline) -> None:
    expected = tiny_pipeline(SPEC)
    steps: list[int] = []

    def stop(step: Step) -> None:
        steps.append(step.index)
        if step.index == 3:
            raise Stopped

    with pytest.raises(Stopped):
        tiny_pipeline(with_(steps=100), stop)
    assert steps == [1, 2, 3]
    assert same(tiny_pipeline(SPEC), expected)


@pytest.mark.slow
def test_decoding_reports_progress_and_stops_after_the_current_piece(tiny_pipeline: Pipeline) -> None:
    expected = tiny_pipeline(SPEC)
    fractions: list[float] = []
    assert same(tiny_pipeline(SPEC, on_decoded=fractions.append), expected)
    assert fractions == sorted(set(fractions))
    assert len(fractions) >= 5, "one for each latent frame"
    assert fractions[-1] == 1

    def stop(fraction: float) -> None:
        fractions.append(fraction)
        raise Stopped

    fractions.clear()
    with pytest.raises(Stopped):
        tiny_pipeline(SPEC, on_decoded=stop)
    assert len(fractions) == 1
    assert same(tiny_pipeline(SPEC), expected)


# Refusals


@pytest.mark.parametrize("layer", [2, 11])
def test_a_block_that_does_not_exist_cannot_be_skipped(tiny_pipeline: Pipeline, layer: int) -> None:
    with pytest.raises(JobError, match=f"block {layer} does not exist: tiny has blocks 0 to 1"):
        tiny_pipeline(with_(slg_layer=layer))


def test_a_picture_that_is_long_and_thin_is_refused(tiny_pipeline: Pipeline, tmp_path: Path) -> None:
    thin = save_picture(tmp_path / "thin.png", 20, 400)
    with pytest.raises(JobError, match=r"thin\.png is too long and thin \(400x20\)"):
        tiny_pipeline(with_(image=thin))


def test_a_missing_picture_is_refused_before_any_step(tiny_pipeline: Pipeline, tmp_path: Path) -> None:
    def never(step: Step) -> None:
        raise AssertionError("a step was computed")

    with pytest.raises(JobError, match=r"gone\.png"):
        tiny_pipeline(with_(image=tmp_path / "gone.png"), never)


def test_unavailable_attention_is_refused_when_the_pipeline_is_created(tiny_bundle: Path) -> None:
    compute = Compute(torch.device("cpu"), torch.float32, RuntimeOptions(attention="flash2"))
    with pytest.raises(JobError, match=r"'flash2' needs .* use 'native'"):
        Pipeline.load(require("tiny", tiny_bundle), compute)


# The record


def test_the_record_says_how_the_clip_was_made(tiny_pipeline: Pipeline, tiny_bundle: Path, picture: Path) -> None:
    record = tiny_pipeline(with_(image=picture)).record
    files = [path for path in tiny_bundle.rglob("*") if path.name in record["checkpoint"]]
    assert len(files) == len(record["checkpoint"]) == 6
    for path in files:
        assert record["checkpoint"][path.name] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record["versions"]["torch"] == metadata.version("torch")
    assert record["versions"].keys() >= {"diffusers", "transformers", "av"}
    assert record["machine"]["dtype"] == "float32"
    assert record["machine"]["attention"] == "native"
    assert record["seconds"].keys() == {"adapters", "text", "first_frame", "denoise", "decode_audio", "decode_video"}
    assert min(record["seconds"].values()) >= 0
    assert record["seconds"]["denoise"] > 0


# The embedded model


def test_the_embedded_bundle_is_complete_and_small() -> None:
    variant = read_bundle(EMBEDDED_BUNDLE)
    assert take_inventory(variant, EMBEDDED_BUNDLE).problems == ()
    sizes = [path.stat().st_size for path in EMBEDDED_BUNDLE.rglob("*") if path.is_file()]
    assert sum(sizes) <= 32 * 2**20
    assert max(sizes) <= 10_000_000


def test_the_embedded_bundle_makes_three_seconds_at_144x144_with_sound() -> None:
    variant = read_bundle(EMBEDDED_BUNDLE)
    assert variant.default_size == (144, 144)
    assert (FRAME_RATE, SAMPLE_RATE) == (24, 16_000)
    assert variant.seconds == pytest.approx(3, abs=0.1)
    assert variant.samples / SAMPLE_RATE == pytest.approx(3, abs=0.1)


@pytest.mark.slow
def test_the_embedded_bundle_loads_and_makes_a_clip() -> None:
    variant = read_bundle(EMBEDDED_BUNDLE)
    inventory = require(variant.name, EMBEDDED_BUNDLE)
    clip = Pipeline.load(inventory, Compute(torch.device("cpu"), torch.float32))(with_(variant=variant.name, steps=1))
    assert clip.frames.shape == (variant.frames, *variant.default_size, 3)
    assert clip.samples.shape == (variant.samples,)
    assert np.abs(clip.samples).max() <= 1


# Writing bundles


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_another_seed_writes_another_bundle_with_the_same_files(tmp_path: Path, tiny_bundle: Path) -> None:
    dimensions = read_bundle(tiny_bundle).dimensions
    bundle = BUNDLE | {"name": "tiny", "dimensions": dimensions}
    for name, seed in (("one", 1), ("other", 2)):
        write_bundle(bundle, build_models(dimensions, seed), tmp_path / name, torch.float32)
    one, other = contents(tmp_path / "one"), contents(tmp_path / "other")
    assert one.keys() == other.keys()
    changed = {name for name in one if one[name] != other[name]}
    assert len(changed) == 5
    assert all(name.endswith(".safetensors") for name in changed)


@pytest.mark.slow
def test_a_bundle_written_twice_with_one_seed_is_identical(tmp_path: Path, python_environment: dict[str, str]) -> None:
    # In two processes, since sets have another order in each.
    command = ["-m", "ovi_studio.demo", "make", str(tmp_path / "one"), "--seed", "3"]
    done = PIPELINES.run(*command, environment=python_environment)
    assert done.returncode == 0, done.stderr
    write_bundle(BUNDLE, build_models(DIMENSIONS, seed=3), tmp_path / "other", torch.bfloat16)
    assert contents(tmp_path / "one") == contents(tmp_path / "other")
