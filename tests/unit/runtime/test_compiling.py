"""Compiled blocks in a clip: when that is reported, how long it takes, and making a clip again as it was computed."""

import argparse
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ovi_studio.cli.sources import as_recorded
from ovi_studio.core.clip import Clip
from ovi_studio.core.compiler_cache import keep_compiled_code, remove_empty
from ovi_studio.core.errors import JobError, Stopped
from ovi_studio.core.spec import ClipSpec
from ovi_studio.engine import monitor as monitors
from ovi_studio.engine.monitor import JobMonitor
from ovi_studio.media.clip_files import write_clip
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.queue.database import Database
from ovi_studio.queue.estimates import History, PhaseTimes, record_compilation, record_phase_times
from ovi_studio.queue.model import ClipPhase
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.store import Store
from ovi_studio.queue.work import EngineSession
from ovi_studio.runtime import compute as computing
from ovi_studio.runtime.clip_runner import ClipRunner
from ovi_studio.runtime.compute import Compute
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.pipeline import Pipeline
from ovi_studio.web.job_views import progress_words

SPEC = ClipSpec(prompt="a red ball bounces", variant="tiny", steps=1, seed=7)


@pytest.fixture
def compiling(tiny_pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """A pipeline that takes its blocks for compiled ones."""
    monkeypatch.setattr(computing, "choose_compilation", lambda *_: True)
    monkeypatch.setattr(OviTransformer, "compile_blocks", lambda _: None)
    compute = Compute(torch.device("cpu"), torch.float32)
    return Pipeline(tiny_pipeline.variant, tiny_pipeline.models, compute)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path)
    return path


def make(pipeline: Pipeline, **changes: Any) -> int:
    """Make a clip; returns how often compiling was reported."""
    reported: list[None] = []
    pipeline.on_compiling = lambda: reported.append(None)
    pipeline(ClipSpec.from_dict(SPEC.to_dict() | changes))
    return len(reported)


@pytest.mark.slow
def test_compiling_is_reported_for_the_first_clip_of_a_kind(compiling: Pipeline, picture: Path) -> None:
    assert make(compiling) == 1
    assert make(compiling, size=(96, 64), seed=8) == 0
    assert make(compiling, image=str(picture)) == 1
    assert make(compiling, image=str(picture)) == make(compiling) == 0


def test_a_clip_that_ended_while_it_compiled_does_not_count(compiling: Pipeline) -> None:
    def stop() -> None:
        raise Stopped

    compiling.on_compiling = stop
    with pytest.raises(Stopped):
        compiling(SPEC)
    assert make(compiling) == 1


def test_eager_blocks_report_nothing(tiny_pipeline: Pipeline) -> None:
    assert make(tiny_pipeline) == 0


def test_the_record_says_whether_blocks_were_compiled(compiling: Pipeline, tiny_pipeline: Pipeline) -> None:
    for pipeline, compiled in ((compiling, True), (tiny_pipeline, False)):
        machine = pipeline(SPEC).record["machine"]
        assert (machine["compiled"], machine["attention"]) == (compiled, "native")


class CompilingModels:
    """Compiles before its only step."""

    tier = None

    def __init__(self) -> None:
        self.on_compiling = lambda: None

    def load(self, *_: object) -> "CompilingModels":
        return self

    def __call__(self, spec: ClipSpec, on_step: Any, *_: Any) -> Clip:
        self.on_compiling()
        on_step(types.SimpleNamespace(index=1, total=1, latents=types.SimpleNamespace(video=None)))
        return Clip(spec, np.zeros((2, 32, 32, 3), np.uint8), np.zeros(1400, np.float32), record={})


def test_a_runner_reports_compiling_as_a_phase() -> None:
    phases: list[ClipPhase] = []
    sink = types.SimpleNamespace(phase=phases.append, step=lambda *_: None, decoded=lambda _: None)
    ClipRunner(RuntimeOptions(), models=f"{__name__}:CompilingModels").run(SPEC, sink)
    assert phases == [ClipPhase.LOADING, ClipPhase.TEXT, ClipPhase.COMPILING]


# On the page


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(monitors, "time", types.SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(Database(StudioPaths.of(tmp_path / "outputs")))


@pytest.fixture
def work(store: Store) -> Iterator[EngineSession]:
    with EngineSession(store.database, "engine") as session:
        yield session


def monitored(store: Store, work: EngineSession) -> JobMonitor:
    store.add([ClipSpec.from_dict(SPEC.to_dict() | {"steps": 10})])
    return JobMonitor(work, work.claim(), types.SimpleNamespace(), lambda: False)  # type: ignore[arg-type]


def test_the_page_shows_compiling_with_the_time_that_is_left(store: Store, work: EngineSession) -> None:
    record_phase_times(store.database, SPEC, PhaseTimes(text=5, step=2, decode=7, write=1))
    record_compilation(store.database, 40.0)
    monitored(store, work).phase(ClipPhase.COMPILING)
    (job,) = store.jobs()
    assert job.progress is not None
    assert job.progress.seconds_left == 40 + 10 * 2 + 7 + 1
    assert progress_words(job) == ("Compiling the transformer", "about 1 min 8 s left", None)


def test_compiling_counts_neither_as_a_step_nor_as_text(
    store: Store, work: EngineSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    monitor = monitored(store, work)
    for phase, seconds in ((ClipPhase.TEXT, 3), (ClipPhase.COMPILING, 30 + 2)):
        monitor.phase(phase)
        clock.now += seconds
    monitor.step(1, 10)
    (job,) = store.jobs()
    # Only the first step is known, and that was compiled.
    assert job.progress is not None
    assert job.progress.seconds_per_step is None
    for index in range(2, 11):
        clock.now += 2
        monitor.step(index, 10)
    monitor.phase(ClipPhase.WRITING)
    pace = monitor.pace()
    assert pace is not None
    assert (pace.text, pace.step) == (3, 2)
    assert monitor.compilation() == 30


def test_before_it_was_measured_here_compiling_is_estimated_by_another_gpu(store: Store) -> None:
    assert History(store.database).compilation("engine") == 17
    record_compilation(store.database, 55.5)
    assert History(store.database).compilation("engine") == 55.5


# The cache, and making a clip again


def test_compiled_code_is_kept_in_the_state_folder_unless_the_user_chose_another(tmp_path: Path) -> None:
    folder = StudioPaths.of(tmp_path / "outputs").compiled
    assert folder.is_relative_to(tmp_path / ".studio")
    environment: dict[str, str] = {}
    keep_compiled_code(folder, environment)
    assert environment == {"TORCHINDUCTOR_CACHE_DIR": str(folder)}
    keep_compiled_code(tmp_path, environment)
    assert environment == {"TORCHINDUCTOR_CACHE_DIR": str(folder)}


def test_only_folders_that_are_new_and_stay_empty_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[Any] = []
    monkeypatch.setattr("atexit.register", lambda *call: registered.append(call))
    old, new = tmp_path / "old", tmp_path / "old" / "state" / "compiled"
    old.mkdir()
    keep_compiled_code(new, {})
    ((remove, folders),) = registered
    assert remove is remove_empty
    new.mkdir(parents=True)
    (new / "code").touch()
    remove(folders)
    assert (new / "code").exists()
    (new / "code").unlink()
    remove(folders)
    assert list(tmp_path.iterdir()) == [old]
    assert list(old.iterdir()) == []


def recorded(directory: Path, **changes: Any) -> RuntimeOptions:
    """Return the options for making a clip again with these options given."""
    record = {
        "machine": {"device": "a GPU", "dtype": "bfloat16", "attention": "sage", "compiled": True},
        "memory": {"tier": "12", "weights": "int8", "resident_blocks": 8},
    } | changes.pop("record", {})
    clip = Clip(SPEC, np.zeros((2, 32, 32, 3), np.uint8), np.zeros(1400, np.float32), record=record)
    given = dict.fromkeys(("dtype", "attention", "compilation", "weights")) | changes
    parsed = argparse.Namespace(shot=None, clip=write_clip(clip, directory), **given)
    return as_recorded(RuntimeOptions.of(parsed), parsed)


def test_a_clip_is_made_again_as_it_was_computed(tmp_path: Path) -> None:
    assert recorded(tmp_path) == RuntimeOptions(dtype="bfloat16", attention="sage", compilation=True, weights="int8")


def test_given_options_go_before_those_of_the_clip(tmp_path: Path) -> None:
    found = recorded(tmp_path, attention="native", compilation=False)
    assert (found.attention, found.compilation, found.weights) == ("native", False, "int8")


@pytest.mark.parametrize("record", [{"machine": {}, "memory": {}}, {"machine": "a machine", "memory": None}])
def test_a_clip_that_does_not_say_how_it_was_computed_is_made_as_usual(tmp_path: Path, record: dict[str, Any]) -> None:
    assert recorded(tmp_path, record=record) == RuntimeOptions()


def test_a_record_with_an_unknown_kernel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="'fast' is not a valid value for --attention; choose one of "):
        recorded(tmp_path, record={"machine": {"attention": "fast"}})
