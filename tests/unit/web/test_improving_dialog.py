"""The dialog for larger and smoother copies: what it offers, what it queues, and what it refuses with a sentence."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from job_helpers import SPEC
from stored_clips import make_clip
from upscaler_files import write_upscaler

from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services import improvements
from ovi_studio.services.studio import Studio
from ovi_studio.web.improving import ImprovingHandlers, texts
from ovi_studio.web.toasts import Toasts

ALL_QUEUED = {"left": [], "problem": ""}


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    options = RuntimeOptions(checkpoint_directory=tmp_path / "none", upscaler_directory=tmp_path / "upscalers")
    with closing(Studio.open(tmp_path / "outputs", options)) as studio:
        studio.paths.prepare()
        yield studio


@pytest.fixture
def dialog(studio: Studio) -> Iterator[ImprovingHandlers]:
    with gr.Blocks():
        yield ImprovingHandlers(studio.improvements, Toasts(studio.undo))


def asked(**values: Any) -> Any:
    return SimpleNamespace(_data=values)


def test_it_offers_the_upscalers_of_the_folder_or_says_what_is_missing(
    dialog: ImprovingHandlers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(improvements.importlib.util, "find_spec", lambda name: object())
    assert dialog.offer() == {"upscalers": [], "hint": texts.NO_UPSCALERS}
    write_upscaler(tmp_path / "upscalers" / "double.pth")
    assert dialog.offer() == {"upscalers": ["double"], "hint": ""}
    monkeypatch.setattr(improvements.importlib.util, "find_spec", lambda name: None)
    assert dialog.offer() == {"upscalers": [], "hint": texts.NO_PACKAGE}


def test_clips_of_the_library_and_of_jobs_are_queued(dialog: ImprovingHandlers, studio: Studio) -> None:
    clips = [studio.library.find(make_clip(studio.paths.outputs, f"clip {n}", frames=2).name) for n in range(2)]
    value, toast = dialog.queue(asked(clips=clips, upscaler="", fps=60))
    assert (value, toast["text"]) == (ALL_QUEUED, "2 copies are in the queue: 60 frames a second.")
    jobs = studio.store.add([SPEC])
    assert dialog.queue(asked(jobs=jobs, fps=48))[0] == ALL_QUEUED
    assert [job.improves.improvement.fps for job in studio.store.jobs() if job.improves] == [60, 60, 48]


def test_what_could_not_be_queued_stays_in_the_dialog_with_the_reasons(
    dialog: ImprovingHandlers, studio: Studio
) -> None:
    clips = [studio.library.find(make_clip(studio.paths.outputs, f"clip {n}", frames=2).name) for n in range(2)]
    gone = [f"{number:032x}" for number in range(7)]
    value, toast = dialog.queue(asked(clips=[clips[0], *gone, clips[1]], fps=48))
    assert toast["text"].startswith("2 copies are in the queue")
    assert value["left"] == gone
    head, *lines = value["problem"].split("\n")
    assert head == "7 clips were not queued:"
    assert len(lines) == 6
    assert lines[-1] == "and 2 more"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"clips": ["0" * 32], "fps": 48}, "no longer in the library"),
        ({"jobs": ["none"], "fps": 48}, "no longer exists"),
        ({"clips": [], "fps": 48}, "Choose 1 to 1000"),
        ({"clips": ["a"] * 2000, "fps": 48}, "Choose 1 to 1000"),
        ({"clips": "all", "fps": 48}, "Choose 1 to 1000"),
        ({"jobs": ["none"]}, "Nothing is to be done"),
        ({"jobs": ["none"], "fps": 30}, "choose 48 or 60"),
        ({"jobs": ["none"], "fps": [48]}, "choose 48 or 60"),
        ({"jobs": ["none"], "upscaler": {"a": 1}}, "must be the name"),
        ({"jobs": ["none"], "upscaler": "../../etc/passwd"}, "no upscaler '../../etc/passwd'"),
    ],
)
def test_what_cannot_be_done_is_said_in_the_dialog(
    dialog: ImprovingHandlers, studio: Studio, given: dict[str, Any], sentence: str
) -> None:
    value, toast = dialog.queue(asked(**given))
    assert sentence in value["problem"]
    assert "text" not in toast
    assert studio.store.jobs() == []
