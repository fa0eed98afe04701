"""Adapters on the way of a clip: from its spec through the model to the recipe in its file, and back."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapter_helpers import DIM, QUERIES, TEXT, write_adapter
from fake_cuda import computing_on_the_host
from torch.overrides import TorchFunctionMode

from ovi_studio.adapters import manager as manager_module
from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.checkpoints.layout import require
from ovi_studio.checkpoints.load import StoredTensors
from ovi_studio.core.adapter_stack import AdapterUse, Strength
from ovi_studio.core.clip import Clip
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media.clip_files import read_record, read_spec
from ovi_studio.runtime.clip_runner import ClipRunner
from ovi_studio.runtime.compute import Compute
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.pipeline import Pipeline
from ovi_studio.sampling.denoise import Step

pytestmark = pytest.mark.slow

SPEC = ClipSpec(prompt="a red ball <AUDCAP>thump<ENDAUDCAP>", variant="tiny", steps=2, seed=7)
CPU = torch.device("cpu")


@pytest.fixture
def loras(tmp_path: Path) -> Path:
    write_adapter(tmp_path / "loras" / "style.safetensors", seed=1)
    write_adapter(tmp_path / "loras" / "fast.safetensors", seed=2)
    write_adapter(tmp_path / "loras" / "text.safetensors", TEXT, seed=3, size=3)
    return tmp_path / "loras"


@pytest.fixture
def runner(tiny_bundle: Path, loras: Path) -> ClipRunner:
    return ClipRunner(RuntimeOptions(checkpoint_directory=tiny_bundle, adapter_directory=loras))


@pytest.fixture
def pipeline(tiny_bundle: Path, loras: Path) -> Pipeline:
    return load(tiny_bundle, loras)


def load(bundle: Path, loras: Path, **options: Any) -> Pipeline:
    compute = Compute(CPU, torch.float32, RuntimeOptions(**options))
    return Pipeline.load(require("tiny", bundle), compute, AdapterLibrary(loras).path)


def use(name: str, video: str = "1", audio: str | None = None, sha256: str | None = None) -> AdapterUse:
    strengths = {"video": Strength.parse(video), "audio": Strength.parse(video if audio is None else audio)}
    return AdapterUse(name=name, sha256=sha256, **strengths)


def adapted(*uses: AdapterUse, accelerators: tuple[AdapterUse, ...] = (), **changes: object) -> ClipSpec:
    stacks = {"adapters": uses, "accelerators": accelerators}
    return SPEC.with_settings(changes).with_settings(stacks)


def same(one: Clip, other: Clip) -> bool:
    return np.array_equal(one.frames, other.frames) and np.array_equal(one.samples, other.samples)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_adapters_of_both_kinds_change_the_clip_and_leave_no_trace(pipeline: Pipeline) -> None:
    plain = pipeline(SPEC)
    style = pipeline(adapted(use("style")))
    both = pipeline(adapted(use("style"), accelerators=(use("fast"),)))
    assert not same(plain, style)
    assert not same(style, both)
    assert same(pipeline(SPEC), plain)


def test_both_kinds_act_alike(pipeline: Pipeline) -> None:
    assert same(pipeline(adapted(use("fast"))), pipeline(adapted(accelerators=(use("fast"),))))


def test_each_tower_has_its_own_strength(pipeline: Pipeline) -> None:
    clips = [pipeline(adapted(use("style", video, audio))) for video, audio in (("1", "1"), ("1", "0"), ("0", "1"))]
    assert not any(same(one, other) for one in clips for other in clips if one is not other)


def test_the_next_clip_with_the_same_adapters_reads_no_file(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    original = manager_module.read_adapter
    monkeypatch.setattr(manager_module, "read_adapter", lambda path, names: read.append(path) or original(path, names))
    first = pipeline(adapted(use("style")))
    assert same(pipeline(adapted(use("style"))), first)
    pipeline(adapted(use("style"), seed=8))
    assert [path.name for path in read] == ["style.safetensors"]


def test_a_schedule_takes_effect_in_its_steps(pipeline: Pipeline) -> None:
    """Half the steps with an adapter are those steps of a clip with it, then those of one without."""
    seen: dict[str, list[torch.Tensor]] = {}
    for strength in ("0", "1", "0;1"):
        steps: list[torch.Tensor] = []
        spec = adapted(use("style", strength), steps=4, solver="euler")
        pipeline(spec, lambda step, steps=steps: steps.append(step.latents.video.clone()))
        seen[strength] = steps
    assert torch.equal(seen["0;1"][1], seen["0"][1])
    assert not torch.allclose(seen["0;1"][2], seen["0"][2])
    assert not torch.allclose(seen["0;1"][3], seen["1"][3])


def test_text_is_prepared_again_when_the_layers_that_project_it_change(pipeline: Pipeline) -> None:
    """Here the adapter changes only a layer whose result is computed once for all steps."""
    latents: dict[str, torch.Tensor] = {}
    prepared: list[int] = []
    transformer = pipeline.models.transformer
    original = transformer.prepare_text
    for strength in ("0", "0;1"):

        def keep(step: Step, strength: str = strength) -> None:
            latents[strength] = step.latents.video.clone()

        transformer.prepare_text = lambda *texts: prepared.append(1) or original(*texts)
        try:
            pipeline(adapted(use("text", strength), steps=4), keep)
        finally:
            del transformer.prepare_text
    assert len(prepared) == 2 + 4
    assert not torch.allclose(latents["0"], latents["0;1"])


def test_a_clip_names_the_hash_of_every_adapter_and_can_be_made_again(
    runner: ClipRunner, pipeline: Pipeline, loras: Path, tmp_path: Path
) -> None:
    spec = adapted(use("style", "0.8", "0"), accelerators=(use("fast", "1;0"),))
    path = runner.make(spec, tmp_path / "out")
    again = read_spec(path, tmp_path / "pictures")
    assert [entry.sha256 for entry in again.stack] == [
        sha256(loras / f"{name}.safetensors") for name in ("fast", "style")
    ]
    assert again.accelerators[0].video == Strength.parse("1;0")
    assert str(again.adapters[0].video) == "0.8"
    assert read_record(path)["adapters"]["style"].startswith("4 of 4 layers matched")
    assert same(pipeline(again), pipeline(spec))


def test_another_file_of_the_same_name_is_refused_with_both_hashes(
    runner: ClipRunner, loras: Path, tmp_path: Path
) -> None:
    file = loras / "style.safetensors"
    again = read_spec(runner.make(adapted(use("style")), tmp_path / "out"), tmp_path)
    before = sha256(file)
    write_adapter(file, seed=9)
    with pytest.raises(JobError) as refusal:
        runner.make(again, tmp_path / "out")
    assert before in str(refusal.value)
    assert sha256(file) in str(refusal.value)
    # Without the hash, whatever has the name is taken.
    runner.make(adapted(use("style")), tmp_path / "out")


def test_one_file_under_two_names_is_refused(pipeline: Pipeline) -> None:
    with pytest.raises(JobError, match=r"style and style\.safetensors are the same adapter"):
        pipeline(adapted(use("style"), use("style.safetensors")))


def test_a_missing_adapter_is_refused_before_models_are_loaded(
    runner: ClipRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pipeline, "load", lambda *_: pytest.fail("the models were loaded"))
    with pytest.raises(JobError, match="no adapter 'gone'"):
        runner.make(adapted(use("gone")), tmp_path / "out")


def test_a_clip_that_is_stopped_in_the_middle_of_a_schedule_spoils_no_other(pipeline: Pipeline) -> None:
    spec = adapted(use("style", "0;1"), use("text", "1,0.5"), steps=4)
    expected = pipeline(spec)

    def stop(step: Step) -> None:
        if step.index == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        pipeline(spec, stop)
    assert same(pipeline(spec), expected)


def test_a_pipeline_looks_into_the_folder_of_the_environment(
    tiny_bundle: Path, loras: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVI_LORA_DIR", str(loras))
    pipeline = Pipeline.load(require("tiny", tiny_bundle), Compute(CPU, torch.float32))
    assert not same(pipeline(adapted(use("style"))), pipeline(SPEC))


@pytest.mark.parametrize("solver", ["restart", "euler", "unipc", "dpm++"])
def test_explicit_timesteps_with_both_scales_one_are_one_pass_each(
    pipeline: Pipeline, solver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = adapted(
        accelerators=(use("fast"),), timesteps="1000,937.5,833.3,625", solver=solver, video_guidance=1, audio_guidance=1
    )
    asked: list[tuple[float, int]] = []
    transformer = pipeline.models.transformer
    compute = transformer.velocities

    def velocities(video: torch.Tensor, audio: torch.Tensor, timestep: torch.Tensor, passes: list, **clip: Any) -> Any:
        asked.append((timestep.item(), len(passes)))
        return compute(video, audio, timestep, passes, **clip)

    monkeypatch.setattr(transformer, "velocities", velocities)
    clip = pipeline(spec)
    assert [passes for _, passes in asked] == [1, 1, 1, 1]
    assert [timestep for timestep, _ in asked] == pytest.approx([1000, 937.5, 833.3, 625])
    assert same(pipeline(spec), clip)
    assert not same(pipeline(spec.with_settings({"seed": 8})), clip)


# Memory


def test_pristine_weights_are_read_from_the_checkpoint_again_and_not_copied(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = StoredTensors.__getitem__
    monkeypatch.setattr(StoredTensors, "__getitem__", lambda self, name: read.append(name) or original(self, name))
    plain = {name: tensor.clone() for name, tensor in pipeline.models.transformer.named_parameters()}
    pipeline(adapted(use("style")))
    assert read == []  # what was not touched yet is pristine where it is
    pipeline(SPEC)
    assert sorted(read) == sorted(f"{layer}.weight" for layer in QUERIES)
    now = dict(pipeline.models.transformer.named_parameters())
    assert all(torch.equal(now[name], tensor) for name, tensor in plain.items())


class _Moves(TorchFunctionMode):
    """Records the shapes of tensors that are moved to a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[torch.Size] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.Tensor.to and isinstance(args[1], torch.device) and args[1].type == "cuda":
            self.shapes.append(args[0].shape)
        return function(*args, **(kwargs or {}))


def test_adapters_are_fused_on_the_gpu_wherever_the_weights_are_kept(
    tiny_bundle: Path, loras: Path, cuda: Callable[..., Any]
) -> None:
    cuda(24)
    with computing_on_the_host():
        pipeline = Pipeline.load(
            require("tiny", tiny_bundle), Compute.of(RuntimeOptions(memory="24")), AdapterLibrary(loras).path
        )
        with _Moves() as moves:
            pipeline.adapters.prepare(adapted(use("style")).stack, 2)
    assert moves.shapes.count(torch.Size((DIM, DIM))) == len(QUERIES)


def test_run_time_adapters_take_the_place_of_blocks(tiny_bundle: Path, loras: Path) -> None:
    loaded = load(tiny_bundle, loras, memory="24")
    plan = replace(loaded.plan, budget=loaded.plan.fixed_bytes + 2 * loaded.plan.block_bytes)
    find = AdapterLibrary(loras).path
    pipeline = Pipeline(loaded.variant, loaded.models, loaded.compute, find_adapter=find, plan=plan)
    beside = adapted(use("style", "0;1"))
    expected = load(tiny_bundle, loras)(beside)
    assert pipeline(SPEC).record["memory"]["resident_blocks"] == 2
    clip = pipeline(beside)
    assert pipeline.adapters.runtime_bytes == len(QUERIES) * 2 * 4 * DIM * 4  # of rank 4, float32
    assert clip.record["memory"]["resident_blocks"] == 0
    assert same(clip, expected)
    assert pipeline(SPEC).record["memory"]["resident_blocks"] == 2
