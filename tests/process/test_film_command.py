"""`ovi-studio film`, from a screenplay to one mp4."""

import shutil
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import opentimelineio as otio
import pytest
from clip_reading import read_frames, read_samples
from spoken import scene

from ovi_studio.__main__ import main
from ovi_studio.core.clip import Clip
from ovi_studio.core.shipped import PRESETS
from ovi_studio.core.variants import FRAME_RATE, SAMPLE_RATE
from ovi_studio.engine.executor import LocalExecutor
from ovi_studio.engine.loop import Engine
from ovi_studio.film.captions import film_captions
from ovi_studio.film.cut import CutList
from ovi_studio.film.film_yaml import read_film
from ovi_studio.film.reading import load_film
from ovi_studio.film.script import FromShot
from ovi_studio.media import clip_files
from ovi_studio.models.refiner import Refiner
from ovi_studio.queue.files import clip_name
from ovi_studio.queue.store import Store
from ovi_studio.queue.work import EngineSession
from ovi_studio.runtime.clip_runner import ClipRunner
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.studio import Studio

EXAMPLE = PRESETS / "films" / "ruby-and-sky.fountain"
Film = Callable[..., str]


@pytest.fixture
def film(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Film:
    """Run the command and return what it prints; it may fail only with this message."""

    def run(*words: object, error: str | None = None) -> str:
        folders = ["--out", str(tmp_path / "outputs"), "--ckpt-dir", str(tmp_path / "checkpoints")]
        status = main(["film", *map(str, words), *folders])
        said = capsys.readouterr()
        if error is None:
            assert status == 0, said.err
        else:
            assert status == 1
            assert error in said.err
        return said.out

    return run


def make_clips(outputs: Path) -> None:
    """Make short clips of whatever waits, as an engine would."""
    with closing(Store.open(outputs)) as store, EngineSession(store.database, "worker") as work:
        while (job := work.claim()) is not None:
            frames = np.full((25, 32, 32, 3), 8 * job.number, np.uint8)
            sound = 0.1 * np.sin(np.arange(25 * SAMPLE_RATE // FRAME_RATE) / 9).astype(np.float32)
            clip = Clip(job.spec, frames, sound, record={"job": job.id})
            path = clip_files.write_clip(clip, outputs, clip_name(job.number, job.id, job.spec.prompt))
            work.finish(job, path, 1.0)


@pytest.mark.parametrize("seconds", [3.0, 5.0])
def test_the_example_is_a_film_of_six_shots_with_two_characters(seconds: float) -> None:
    found = load_film(EXAMPLE, seconds)
    assert [character.name for character in found.characters] == ["Ruby", "Sky"]
    assert all(character.looks for character in found.characters)
    assert len(found.shots) == 6
    assert [shot.begin == FromShot() for shot in found.shots] == [False] * 5 + [True]


def test_a_screenplay_is_queued_made_chosen_from_and_joined(film: Film, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    film("status", EXAMPLE, error="is no film of this studio; queue it first: ovi-studio film")
    assert film(EXAMPLE).startswith("6 clips queued. The page makes them")
    assert film(EXAMPLE) == "0 clips queued. Nothing else has changed.\n"
    status = film("status", EXAMPLE)
    assert status.startswith(
        "Ruby and Sky: 0 of 6 shots are made.\nShot 1: Ruby rolls from left to right.\n  * take 1:"
    )
    assert "Waits for the last frame of job 5." in status
    film("export", EXAMPLE, tmp_path / "film.mp4", error="6 of 6 shots have no clip: Shot 1 (queued)")
    make_clips(outputs)
    assert "6 of 6 shots are made" in film("status", EXAMPLE)
    # Shot 6 continues shot 5.
    assert film("again", EXAMPLE, 5).startswith("2 clips queued")
    make_clips(outputs)
    assert film("choose", EXAMPLE, 5, 1) == "0 clips queued. Nothing else has changed.\n"
    target = tmp_path / "film.mp4"
    assert film("export", EXAMPLE, target) == f"{target}\n"
    film("export", EXAMPLE, target, error="exists; choose another name")
    film("export", EXAMPLE, tmp_path / "film.avi", error="film.avi cannot be exported; give a name that ends in .mp4")
    others = [tmp_path / "film.srt", tmp_path / "film.otio"]
    assert film("export", EXAMPLE, target, *others, "--replace") == "".join(f"{one}\n" for one in (target, *others))
    assert "Come out! The sun is shining!" in others[0].read_text()
    assert others[1].is_file()
    frames = 6 * 25 - 1 - 12  # without the doubled frame and the fade
    assert len(read_samples(target)) == round(frames * SAMPLE_RATE / FRAME_RATE)


def test_a_screenplay_is_written_as_yaml_and_queued_from_that(film: Film, tmp_path: Path) -> None:
    target = tmp_path / "film.yaml"
    film("write", EXAMPLE, target)
    assert read_film(target) == load_film(EXAMPLE, 3)
    film("write", EXAMPLE, target, error="exists; choose another name, or add --replace")
    film("write", EXAMPLE, tmp_path / "film.txt", error="give a name that ends in .yaml")
    assert film(target).startswith("6 clips queued")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["status"], "That is not how `film status` is written"),
        ([EXAMPLE, "status"], "see `python -m ovi_studio film --help`"),
        (["choose", EXAMPLE, "1", "best"], "'best' is not the number of a take"),
        (["none.yaml"], "none.yaml cannot be read"),
    ],
    ids=["no file", "order", "no number", "no such file"],
)
def test_what_is_written_wrongly_is_said(film: Film, words: list[object], error: str) -> None:
    film(*words, error=error)


@pytest.mark.slow
def test_the_embedded_model_makes_the_example(film: Film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # To redraw pictures takes two thirds of the time, and nothing of a film depends on it.
    monkeypatch.setattr(Refiner, "forward", lambda _, frames: frames)
    source, target, outputs = tmp_path / "film.yaml", tmp_path / "film.mp4", tmp_path / "outputs"
    film("write", EXAMPLE, source)
    source.write_text(source.read_text() + "look: {preset: demo-lightning, seed: 1}\n")
    film(source)
    options = RuntimeOptions(checkpoint_directory=tmp_path / "checkpoints")
    with closing(Store.open(outputs)) as store, EngineSession(store.database, "engine", supervised=True) as work:
        # A supervised engine without a page ends when nothing waits. In this process, which has imported the pipeline.
        Engine(work, LocalExecutor(ClipRunner(options)), threading.Event(), supervised=True).serve()
    assert "6 of 6 shots are made" in film("status", source)
    film("export", source, target, tmp_path / "film.otio")
    frames = 6 * 73 - 1 - 12
    samples = read_samples(target)
    assert len(samples) == round(frames * SAMPLE_RATE / FRAME_RATE)
    assert [clip_files.read_record(target, shot)["spec"]["seed"] for shot in range(1, 7)] == [1] * 6
    # No click at a cut: nothing steeper there than within the shots.
    steps = np.abs(np.diff(samples))
    cuts = [round(73 * number * SAMPLE_RATE / FRAME_RATE) for number in (1, 2, 3)]
    near = np.zeros(len(steps), bool)
    for cut in cuts:
        near[cut - 16 : cut + 16] = True
    assert steps[near].max() <= steps[~near].max()
    with closing(Studio.open(outputs, options)) as studio:
        cut = studio.films.cut_list(studio.films.find(source))
    timeline_is_that_of(cut, tmp_path / "film.otio")
    if shutil.which("espeak-ng"):
        captions_are_where_a_voice_is(cut, tmp_path / "spoken")


def timeline_is_that_of(cut: CutList, path: Path) -> None:
    for track in otio.adapters.read_from_file(str(path)).tracks:
        clips = list(track.find_clips())
        spans = [(clip.source_range.start_time.value, clip.source_range.duration.value) for clip in clips]
        assert spans == [(0, 73), (0, 73), (0, 73), (0, 73 - 12), (0, 73), (1, 72)]
        urls = [path.parent / unquote(clip.media_reference.target_url) for clip in clips]
        assert all(url.samefile(shot.clip) for url, shot in zip(urls, cut.shots, strict=True))


def captions_are_where_a_voice_is(cut: CutList, folder: Path) -> None:
    """With real speech instead of the sound of the third shot."""
    before, shot, after = cut.shots[:2], cut.shots[2], cut.shots[3:]
    text = shot.speech[0].said
    samples, (said,) = scene([(0.4, "en-us", text)], 73 / FRAME_RATE)
    voiced = Clip(clip_files.read_spec(shot.clip, folder), read_frames(shot.clip), samples, None)
    spoken = replace(shot, clip=clip_files.write_clip(voiced, folder))
    captions = film_captions(replace(cut, shots=(*before, spoken, *after)))
    found = [caption for caption in captions if caption.text.replace("\n", " ") == text]
    assert len(found) == 1
    start = 2 * 73 / FRAME_RATE
    assert found[0].start == pytest.approx(start + said.start, abs=0.2)
    assert found[0].end == pytest.approx(start + said.end, abs=0.2)
