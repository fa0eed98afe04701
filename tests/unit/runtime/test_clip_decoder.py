"""Frames leave the decoder as they are made: encoded meanwhile, the same ones, and nothing is left after an error."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_cuda import computing_on_the_host

from ovi_studio.checkpoints.layout import require
from ovi_studio.core.errors import JobError, Stopped
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media.film import Film
from ovi_studio.media.frame_array import FrameArray
from ovi_studio.models.refiner import Refiner
from ovi_studio.models.video_vae import from_bytes, refine, to_bytes
from ovi_studio.queue.database import Database
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.runtime.compute import Compute
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.pipeline import Pipeline
from ovi_studio.runtime.preview import Previewer

SPEC = ClipSpec(prompt="a red ball bounces", variant="tiny", steps=2, seed=7)


def latents(seed: int = 1, size: int = 4) -> torch.Tensor:
    return torch.randn(8, 5, size, size, generator=torch.Generator().manual_seed(seed))


def film_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "film"]


@torch.no_grad()
def test_frames_reach_the_sink_before_the_next_ones_are_decoded(tiny_pipeline: Pipeline) -> None:
    events: list[str] = []

    class Noting(FrameArray):
        def add(self, frames: np.ndarray) -> None:
            events.append(f"{len(frames)} frames")
            super().add(frames)

    tiny_pipeline.decoder.video(latents(), lambda fraction: events.append("decoded"), Noting)
    assert events == ["1 frames", "decoded", *["4 frames", "decoded"] * 4]


@torch.no_grad()
def test_a_refiner_redraws_the_whole_clip_before_any_of_it_is_passed_on(tiny_bundle: Path) -> None:
    pipeline = with_refiner(tiny_bundle)
    vae = pipeline.models.video_vae
    events: list[float] = []
    frames = pipeline.decoder.video(latents(), events.append)
    refiner, vae.refiner = vae.refiner, None
    plain = pipeline.decoder.video(latents())
    vae.refiner = refiner
    assert np.array_equal(frames, to_bytes(refine(vae, from_bytes(plain)[0]).clamp(-1, 1)))
    assert np.abs(frames.astype(float) - plain).mean() > 5
    assert events == sorted(events)
    assert events[-2] < 1 == events[-1]
    vae.refiner.out.bias[0] = torch.nan
    with pytest.raises(JobError, match="values of the picture are NaN"):
        pipeline.decoder.video(latents(), new_sink=Film)


@pytest.mark.parametrize(("has_it", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_refiner_computes_in_bfloat16_where_a_cpu_has_instructions_for_it(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, has_it: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_it})
    loaded = with_refiner(tiny_bundle)
    vae = Pipeline(loaded.variant, loaded.models, loaded.compute).models.video_vae
    assert {parameter.dtype for parameter in vae.refiner.parameters()} == {expected}
    assert vae.dtype is torch.float32


def with_refiner(bundle: Path) -> Pipeline:
    """The tiny pipeline with a refiner that changes what it gets."""
    torch.manual_seed(0)
    pipeline = Pipeline.load(require("tiny", bundle), Compute(torch.device("cpu"), torch.float32))
    refiner = Refiner([4, 4, 4], kinds=3)
    torch.nn.init.normal_(refiner.out.weight, std=0.2)
    pipeline.models.video_vae.refiner = refiner.eval().requires_grad_(False)
    return pipeline


def test_a_film_of_a_clip_has_the_clips_frames(tiny_pipeline: Pipeline) -> None:
    whole = tiny_pipeline(SPEC)
    film = tiny_pipeline(SPEC, new_sink=Film)
    assert film.frames.shape == whole.frames.shape
    assert film.record["size"] == whole.record["size"]
    for index in (0, 8, 12, 16):
        assert np.array_equal(film.frames[index], whole.frames[index])


@pytest.mark.parametrize("stopped_at", [1, 3, 5])
@torch.no_grad()
def test_a_decoder_that_is_stopped_leaves_no_thread(tiny_pipeline: Pipeline, stopped_at: int) -> None:
    calls: list[float] = []

    def stop(fraction: float) -> None:
        calls.append(fraction)
        if len(calls) == stopped_at:
            raise Stopped

    with pytest.raises(Stopped):
        tiny_pipeline.decoder.video(latents(), stop, Film)
    assert len(calls) == stopped_at
    assert not film_threads()


@torch.no_grad()
def test_a_picture_that_is_not_finite_leaves_no_thread(tiny_bundle: Path) -> None:
    pipeline = Pipeline.load(require("tiny", tiny_bundle), Compute(torch.device("cpu"), torch.float32))
    pipeline.models.video_vae.decoder.conv_out.bias[0] = torch.nan
    with pytest.raises(JobError, match="values of the picture are NaN"):
        pipeline.decoder.video(latents(), new_sink=Film)
    assert not film_threads()


def test_previews_learn_the_same_from_a_film(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (17, 64, 64, 3), np.uint8)
    with Film(17, 64, 64) as film:
        film.add(frames)
    sketches = []
    for name, each in (("array", frames), ("film", film.result())):
        paths = StudioPaths.of(tmp_path / name)
        paths.prepare()
        previewer = Previewer(Database(paths))
        previewer.learn("tiny", latents(), each)
        sketches.append(previewer.sketch("tiny", latents(2)))
    assert sketches[0] == sketches[1]


@pytest.mark.slow
def test_cudnn_searches_while_a_gpu_decodes_and_not_after(cuda: Callable[..., Any], tiny_bundle: Path) -> None:
    cuda(24)
    seen: list[bool] = []

    def note(fraction: float) -> None:
        seen.append(torch.backends.cudnn.benchmark)
        if len(seen) > 5:
            raise Stopped

    with computing_on_the_host(), torch.no_grad():
        pipeline = Pipeline.load(require("tiny", tiny_bundle), Compute.of(RuntimeOptions(memory="24")))
        pipeline.decoder.video(latents(), note)
        assert not torch.backends.cudnn.benchmark
        with pytest.raises(Stopped):
            pipeline.decoder.video(latents(), note)
    assert seen == [True] * 6
    assert not torch.backends.cudnn.benchmark


@torch.no_grad()
def test_cudnn_is_left_alone_on_a_cpu(tiny_pipeline: Pipeline) -> None:
    seen: set[bool] = set()
    tiny_pipeline.decoder.video(latents(), lambda fraction: seen.add(torch.backends.cudnn.benchmark))
    assert seen == {False}
