"""What the buttons of the stage do, without a browser."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from ovi_studio.core.clip import Clip
from ovi_studio.core.requests import Request
from ovi_studio.core.spans import ALL, format_spans
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media.clip_files import write_clip
from ovi_studio.queue.model import JobState
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.studio import Studio
from ovi_studio.web.tabs.create.stage.grid_handlers import FormReader, GridHandlers
from ovi_studio.web.tabs.create.stage.handlers import StageHandlers
from ovi_studio.web.toasts import Toasts

PAGE = SimpleNamespace(session_hash="one page")


class Form:
    """Replaces the Create form."""

    def __init__(self) -> None:
        self.first_frame = gr.Image(type="filepath")
        self.outputs = [gr.Textbox(), gr.Textbox()]

    def fill(self, spec: ClipSpec | None = None, *, prompt: str | None = None, notice: str = "") -> list[Any]:
        return [spec, notice]


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    studio = Studio.open(tmp_path / "outputs", RuntimeOptions(checkpoint_directory=tmp_path / "checkpoints"))
    yield studio
    studio.close()


@pytest.fixture
def toasts(studio: Studio) -> Iterator[Toasts]:
    with gr.Blocks():
        yield Toasts(studio.undo)


@pytest.fixture
def stage(studio: Studio, toasts: Toasts) -> StageHandlers:
    return StageHandlers(studio, Form(), toasts)


def undo(studio: Studio, toast: dict[str, Any]) -> None:
    studio.undo.undo("one page", toast["offer"])


def pressed(job: str, **more: Any) -> Any:
    return SimpleNamespace(_data={"id": job, **more})


def made(studio: Studio, seed: int = 5, **settings: Any) -> str:
    """A job whose clip was made."""
    spec = ClipSpec(prompt="a ball", variant="demo", seed=seed, **settings)
    (job,) = studio.store.add([spec], "evening", priority=1)
    frames = np.full((12, 64, 64, 3), seed, np.uint8)
    clip = write_clip(Clip(spec, frames, np.zeros(8000, np.float32), None), studio.paths.outputs, job)
    with studio.store.database.write() as connection:
        connection.execute("UPDATE jobs SET state = 'done', clip = ? WHERE id = ?", (clip.name, job))
    return job


def test_a_variation_differs_in_its_seed_alone_and_is_in_a_batch_of_that_name(
    studio: Studio, stage: StageHandlers
) -> None:
    job = made(studio, steps=7)
    stage.vary(pressed(job))
    (varied,) = studio.store.jobs(states=[JobState.QUEUED])
    assert varied.spec.seed != 5
    assert varied.spec.with_settings({"seed": 5}) == studio.store.get(job).spec
    assert (varied.batch_name, varied.priority) == ("evening", 1)


def test_one_half_is_made_again_for_the_other(studio: Studio, stage: StageHandlers) -> None:
    job = made(studio, steps=7)
    clip = studio.store.get(job).clip
    for act, kept in ((stage.new_sound, ("all", None)), (stage.new_picture, (None, "all"))):
        act(pressed(job))
        again = studio.store.jobs(states=[JobState.QUEUED])[-1].spec
        assert again.source == clip
        assert again.source_sha256 is not None
        assert (format_spans(again.keep_picture), format_spans(again.keep_sound)) == kept
        assert (again.prompt, again.steps) == ("a ball", 7)
        assert again.seed != 5
    assert clip is not None
    clip.unlink()
    assert stage.new_sound(pressed(job))["failed"]
    assert studio.store.counts()[JobState.QUEUED] == 2


@pytest.mark.parametrize(
    ("part", "kept"),
    [
        ({"from": 0.1, "to": 0.3, "only": ""}, ("0-0.1,0.3-", "0-0.1,0.3-")),
        ({"from": None, "to": 0.3, "only": "sound"}, ("all", "0.3-")),
        ({"from": 0.2, "to": None, "only": "picture"}, ("0-0.2", "all")),
    ],
)
def test_the_form_makes_the_marked_part_of_a_clip_again(
    studio: Studio, stage: StageHandlers, part: dict[str, Any], kept: tuple[str, str]
) -> None:
    job = made(studio, steps=7)
    spec, _, toast = stage.make_part(pressed(job, **part))
    assert spec.source == studio.store.get(job).clip
    assert (format_spans(spec.keep_picture), format_spans(spec.keep_sound)) == kept
    assert (spec.prompt, spec.steps, spec.image) == ("a ball", 7, None)
    assert spec.seed != 5
    assert not toast["failed"]


def test_a_beginning_that_is_made_again_has_its_first_frame_still(
    studio: Studio, stage: StageHandlers, tmp_path: Path
) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "frame.png")
    job = made(studio, image=tmp_path / "frame.png")
    (begun, *_), (kept, *_) = (stage.make_part(pressed(job, **{side: 0.3})) for side in ("to", "from"))
    assert begun.image == studio.store.get(job).spec.image
    assert kept.image is None


@pytest.mark.parametrize("part", [{"from": 0.3, "to": 0.1}, {"from": "x"}, {"to": True}, {"from": float("nan")}, {}])
def test_a_part_that_is_none_is_one_sentence(studio: Studio, stage: StageHandlers, part: dict[str, Any]) -> None:
    *_, toast = stage.make_part(pressed(made(studio), **part))
    assert toast["failed"]


def test_the_form_gets_the_clip_its_end_or_only_its_last_frame(studio: Studio, stage: StageHandlers) -> None:
    job = made(studio, steps=7)
    spec, _, _ = stage.use(pressed(job))
    assert spec == studio.store.get(job).spec
    continued, _, _ = stage.extend(pressed(job))
    assert continued.with_settings({"image": None}) != continued
    assert continued.image.is_file()
    assert (continued.seed, continued.steps) == (5, 7)
    frame, _ = stage.take_frame(pressed(job))
    assert Path(frame).read_bytes() == continued.image.read_bytes()


def test_a_clip_that_kept_its_beginning_is_continued_without_what_it_kept(studio: Studio, stage: StageHandlers) -> None:
    first = studio.store.get(made(studio)).clip
    job = made(studio, source=first, keep_picture=ALL)
    continued, *_ = stage.extend(pressed(job))
    assert continued.image.is_file()
    assert continued.source is None
    assert continued.keep_picture == ()


def test_a_deleted_clip_leaves_the_stage_and_undo_brings_it_back(studio: Studio, stage: StageHandlers) -> None:
    job = made(studio)
    _, before, seen = stage.refresh(())
    assert job in before
    toast = stage.remove(pressed(job), PAGE)
    _, after, seen = stage.refresh(seen)
    assert job not in after
    undo(studio, toast)
    _, again, _ = stage.refresh(seen)
    assert again == before


def test_cancel_cancels_the_job_whose_button_it_is_and_can_be_taken_back(studio: Studio, stage: StageHandlers) -> None:
    first, second = studio.store.add([ClipSpec(prompt="a", variant="demo", seed=seed) for seed in (1, 2)])
    toast = stage.cancel(pressed(second), PAGE)
    assert studio.store.get(first).state is JobState.QUEUED
    assert studio.store.get(second).state is JobState.CANCELLED
    undo(studio, toast)
    assert studio.store.get(second).state is JobState.QUEUED


def test_a_favourite_is_one_in_the_library(studio: Studio, stage: StageHandlers) -> None:
    job = made(studio)
    for favourite in (True, False):
        bar, _ = stage.mark(pressed(job, favourite=favourite))
        clip = studio.library.get(studio.library.find(studio.store.get(job).clip.name))
        assert clip.favourite is favourite
        assert f'aria-pressed="{str(favourite).lower()}"' in bar


@pytest.mark.parametrize("event", [pressed("unknown"), pressed(None), SimpleNamespace(_data=None)])
def test_what_cannot_be_done_is_said_in_a_toast(stage: StageHandlers, event: Any) -> None:
    answers = [stage.vary(event), stage.use(event)[-1], stage.extend(event)[-1], stage.take_frame(event)[-1]]
    answers += [stage.mark(event)[-1], stage.remove(event, PAGE), stage.cancel(event, PAGE)]
    assert all(answer["failed"] and "no longer exists" in answer["text"] for answer in answers)
    assert stage.choose(event) == ("", "")


def grid_of(studio: Studio, toasts: Toasts, prompt: str = "a ball") -> GridHandlers:
    request = Request({"prompt": prompt, "variant": "demo"}, count=3)
    return GridHandlers(studio, FormReader([], lambda: request, []), toasts)


def test_a_grid_has_one_seed_for_all_unless_seeds_are_an_axis(studio: Studio, toasts: Toasts) -> None:
    grid = grid_of(studio, toasts)
    grid.queue("steps", ["2", "3"], "nothing", [])
    grid.queue("seed", ["3 random"], "steps", ["2", "3"])
    first, second = sorted(studio.store.grid_batches())
    _, jobs = studio.store.grid(first)
    assert len({job.spec.seed for job in jobs.values()}) == 1
    _, jobs = studio.store.grid(second)
    assert [jobs[cell].spec.seed for cell in range(3)] == [jobs[cell].spec.seed for cell in range(3, 6)]
    assert len({job.spec.seed for job in jobs.values()}) == 3
    assert "0 of 6 made" in grid.show(SimpleNamespace(_data={"batch": str(second)}))


def test_a_grid_that_cannot_be_made_queues_nothing(studio: Studio, toasts: Toasts) -> None:
    refused = [
        grid_of(studio, toasts, "a {red|blue} ball").queue("steps", ["2", "3"], "nothing", []),
        grid_of(studio, toasts).queue("steps", [], "nothing", None),
        grid_of(studio, toasts).queue("steps", ["2", "3"], "steps", ["4", "5"]),
        grid_of(studio, toasts).queue("nonsense", ["2", "3"], "nothing", []),
    ]
    assert all(answer["failed"] for answer in refused)
    assert "braces" in refused[0]["text"]
    assert studio.store.jobs() == []


@pytest.mark.parametrize("batch", ["", "x", "9" * 40, None, "-1", "1.5", {"a": 1}])
def test_no_grid_is_shown_for_what_is_no_batch(studio: Studio, toasts: Toasts, batch: Any) -> None:
    assert grid_of(studio, toasts).show(SimpleNamespace(_data={"batch": batch})) == ""


def test_a_grid_whose_jobs_are_gone_says_so(studio: Studio, toasts: Toasts) -> None:
    shown = grid_of(studio, toasts).show(SimpleNamespace(_data={"batch": "4711"}))
    assert "no longer exists" in shown
    assert 'data-act="close-grid"' in shown
