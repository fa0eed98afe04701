"""Both listeners hear real sound through real files."""

import numpy as np
import pytest
from film_shots import write_shot
from spoken import needs_voice, scene
from tiny_whisper import write_tiny_whisper

from ovi_studio.core import extras
from ovi_studio.core.errors import JobError
from ovi_studio.film.captions import film_captions
from ovi_studio.film.cut import CutList, CutShot, SpokenLine
from ovi_studio.takes.check import check_take
from ovi_studio.takes.faults import FaultKind
from ovi_studio.takes.listeners import find_listener
from ovi_studio.takes.whisper import Whisper

LINE = "Where did you leave the keys?"


@needs_voice
@pytest.mark.slow
def test_the_right_line_and_a_wrong_one_are_told_apart_in_an_mp4(tmp_path):
    listener = find_listener("pocketsphinx", tmp_path)
    samples, (said,) = scene([(0.3, "en-us", LINE)], 2.2)
    clip = write_shot(tmp_path, 60 + np.arange(52), samples)
    right = check_take(clip, [LINE], listener)
    assert (right.words.rate, right.faults) == (0, ())
    assert right.to_dict()["word_error_rate"] == 0
    assert right.listener == "pocketsphinx"
    wrong = check_take(clip, ["The train leaves at nine."], listener)
    assert wrong.words.rate > 0.8
    (caption,) = film_captions(CutList("A film", (CutShot(clip, speech=(SpokenLine("", LINE),)),)), listener)
    assert (caption.start, caption.end) == (pytest.approx(said.start, abs=0.2), pytest.approx(said.end, abs=0.2))


@pytest.mark.slow
def test_whisper_is_loaded_from_a_folder_and_gives_words_in_order_within_the_clip(tmp_path):
    folder = write_tiny_whisper(tmp_path / "tiny")
    listener = Whisper(str(folder))
    words = listener.listen(np.random.default_rng(0).standard_normal(32_000).astype(np.float32) / 10)
    assert listener.name == "tiny"
    assert words
    times = [time for word in words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] <= 2


@pytest.mark.slow
def test_a_folder_without_a_model_is_refused_with_a_sentence(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(JobError, match="cannot be loaded as a Whisper model"):
        Whisper(str(tmp_path))


def test_a_listener_that_is_not_there_says_how_to_get_it(tmp_path, monkeypatch):
    with pytest.raises(JobError, match="run `python -m ovi_studio download whisper`"):
        find_listener("whisper", tmp_path)

    def missing(module: str) -> None:
        raise ImportError(f"No module named {module!r}")

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    with pytest.raises(JobError, match=r"needs the package pocketsphinx.*extra `listen`"):
        find_listener("pocketsphinx", tmp_path)


def test_a_take_without_a_listener_is_measured_all_the_same(tmp_path):
    frames = np.full(60, 80)
    clip = write_shot(tmp_path, frames, np.zeros(40_000, np.float32))
    scores = check_take(clip, [LINE], continues=write_shot(tmp_path, np.arange(200, 230)))
    assert [fault.kind for fault in scores.faults] == [FaultKind.SILENT, FaultKind.FROZEN, FaultKind.JUMP]
    assert scores.words is None
    record = scores.to_dict()
    assert (record["loudness"], record["word_error_rate"]) == (None, None)
    assert check_take(write_shot(tmp_path, 60 + np.arange(60)), []).faults == ()
