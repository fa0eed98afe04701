"""The takes of a film are checked by their files: real speech, heard by the listener that needs no download."""

from contextlib import closing

import numpy as np
import pytest
from spoken import needs_voice, scene

from ovi_studio.core.clip import Clip
from ovi_studio.core.requests import SeedMode
from ovi_studio.film.checking import GONE, check_takes
from ovi_studio.film.export import export_film
from ovi_studio.film.script import Film, FromShot, Look, Shot, SpeechRow, Takes
from ovi_studio.media.clip_files import read_film, write_clip
from ovi_studio.media.content_credentials import local_identity, sign
from ovi_studio.media.score_box import read_scores
from ovi_studio.queue.files import clip_name
from ovi_studio.queue.locks import Lock
from ovi_studio.queue.work import EngineSession
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.studio import Studio

LINE = "Where did you leave the keys?"
FILM = Film(
    "Keys",
    (
        Shot("1", "A man.", speech=(SpeechRow(LINE, how="A man says"),), takes=Takes(3, word_errors=0.2)),
        Shot("2", "He waits.", begin=FromShot()),
    ),
    Look(preset="demo", seed=5, seed_mode=SeedMode.FIXED),
    listener="pocketsphinx",
)


@pytest.fixture
def studio(tmp_path):
    with closing(Studio.open(tmp_path / "outputs", RuntimeOptions(checkpoint_directory=tmp_path / "none"))) as studio:
        yield studio


def make(studio, samples, *, start=60, sign_with=None):
    """Make the clip of the next job, with this sound and frames that change; returns its path."""
    with EngineSession(studio.store.database, "worker") as work:
        job = work.claim()
        levels = np.asarray(start + np.arange(52), np.uint8)
        frames = np.broadcast_to(levels[:, None, None, None], (52, 32, 64, 3)).copy()
        clip = Clip(job.spec, frames, samples, record={"job": job.id})
        path = write_clip(clip, studio.paths.outputs, clip_name(job.number, job.id, job.spec.prompt))
        if sign_with is not None:
            sign(path, sign_with)
        work.finish(job, path, 1.0)
    return path


@needs_voice
@pytest.mark.slow
def test_takes_are_made_until_the_listener_hears_the_line(studio, tmp_path):
    film = studio.films.queue(FILM).film
    wrong, _ = scene([(0.3, "en-us", "The train leaves at nine.")], 2.2)
    right, _ = scene([(0.3, "en-us", LINE)], 2.2)
    first = make(studio, wrong)
    assert check_takes(studio.store, tmp_path) == 1
    assert read_scores(first)["word_error_rate"] > 0.8
    second = make(studio, right)
    assert check_takes(studio.store, tmp_path) == 1
    assert read_scores(second)["word_error_rate"] == 0
    shot = studio.films.status(film).shots[0]
    assert (len(shot.takes), shot.chosen.clip) == (2, second)
    assert shot.chosen.scores == read_scores(second)
    make(studio, np.zeros(34_667, np.float32), start=150)
    check_takes(studio.store, tmp_path)
    # What is heard in a shot in which nobody speaks is not counted; that it jumps is.
    (after,) = studio.films.status(film).shots[1].takes
    assert after.scores["word_error_rate"] is None
    assert [fault["kind"] for fault in after.scores["faults"]] == ["jump"]
    joined = export_film(studio.films.cut_list(film), tmp_path / "film.mp4")
    assert [record["scores"]["word_error_rate"] for record in read_film(joined)] == [0, None]


def test_a_signed_take_stays_as_it_was_signed_and_a_lost_one_is_noted(studio, tmp_path):
    quiet = np.random.default_rng(0).normal(0, 0.05, 34_667).astype(np.float32)
    film = studio.films.queue(Film("Two", (Shot("1", "a"), Shot("2", "b")), Look(preset="demo"))).film
    signed = make(studio, quiet, sign_with=local_identity(tmp_path / "signing"))
    before = signed.read_bytes()
    make(studio, quiet).unlink()
    with Lock.try_acquire(studio.paths.checks_lock):
        assert check_takes(studio.store, tmp_path) == 0  # another process checks them
    assert check_takes(studio.store, tmp_path) == 2
    assert signed.read_bytes() == before
    one, two = (shot.chosen for shot in studio.films.status(film).shots)
    assert (one.scores["faults"], two.scores) == ([], {"error": GONE})
