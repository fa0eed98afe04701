"""Clips whose steps leave out passes: their recipe, streamed weights and adapters that change from step to step."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapter_helpers import write_adapter

from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.checkpoints.layout import require
from ovi_studio.core.adapter_stack import AdapterUse, Strength
from ovi_studio.core.clip import Clip
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media.clip_files import read_record, read_spec
from ovi_studio.media.frame_array import FrameArray
from ovi_studio.runtime.clip_runner import ClipRunner
from ovi_studio.runtime.compute import Compute
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.pipeline import Pipeline

PROMPT = "a red ball <AUDCAP>thump<ENDAUDCAP>"
SPEC = ClipSpec(prompt=PROMPT, variant="tiny", steps=20, seed=7, step_cache="fast")
"""Computes both passes in 11 steps: the first one and every second one."""
RAMP = ",".join(str(step / 10) for step in range(20))


def load(bundle: Path, adapters: Path, **options: Any) -> Pipeline:
    compute = Compute(torch.device("cpu"), torch.float32, RuntimeOptions(**options))
    return Pipeline.load(require("tiny", bundle), compute, AdapterLibrary(adapters).path)


def same(one: Clip, other: Clip) -> bool:
    return np.array_equal(one.frames, other.frames) and np.array_equal(one.samples, other.samples)


@pytest.mark.slow
def test_the_record_has_the_cache_and_the_passes_and_makes_the_clip_again(tiny_bundle: Path, tmp_path: Path) -> None:
    runner = ClipRunner(RuntimeOptions(checkpoint_directory=tiny_bundle))
    first = runner.make(SPEC, tmp_path / "clips")
    record = read_record(first)
    assert (record["spec"]["step_cache"], record["video_passes"]) == ("fast", 20 + 11)
    again = read_spec(first, tmp_path / "pictures")
    assert again == SPEC
    looking = ClipRunner(runner.options, new_sink=FrameArray)
    remade = ClipRunner(runner.options, new_sink=FrameArray).run(again)
    assert same(remade, looking.run(SPEC))
    whole = looking.run(replace(SPEC, step_cache="off"))
    assert whole.record["video_passes"] == 40
    assert not same(whole, remade)


@pytest.mark.slow
def test_streamed_blocks_serve_a_step_that_leaves_out_a_pass(tiny_bundle: Path, tiny_pipeline: Pipeline) -> None:
    assert same(load(tiny_bundle, tiny_bundle, memory="8")(SPEC), tiny_pipeline(SPEC))


@pytest.mark.slow
@pytest.mark.parametrize(("strengths", "passes"), [("1", 20 + 11), ("0;1", 20 + 12), (RAMP, 20 + 20)])
def test_a_step_with_other_strengths_than_the_one_before_computes_both_passes(
    tiny_bundle: Path, tmp_path: Path, strengths: str, passes: int
) -> None:
    """A switch in the middle adds one step, and a ramp makes all of them compute both."""
    write_adapter(tmp_path / "style.safetensors")
    use = AdapterUse(name="style", video=Strength.parse(strengths), audio=Strength.parse(strengths))
    clip = load(tiny_bundle, tmp_path)(replace(SPEC, adapters=(use,)))
    assert clip.record["video_passes"] == passes
