"""Captions are where the lines are spoken, in time with the film, and short enough to read."""

from pathlib import Path

import numpy as np
import pysubs2
import pytest
from film_shots import write_shot
from spoken import Said, needs_voice, scene

from ovi_studio.core.errors import JobError
from ovi_studio.film.captions import ROW, Caption, film_captions, locate_lines, write_captions
from ovi_studio.film.cut import CutList, CutShot, SpokenLine
from ovi_studio.film.export import export_film
from ovi_studio.media.soundtrack import read_samples
from ovi_studio.takes.words import HeardWord

MAN, WOMAN = "en-us", "en-gb+f3"
TALK = ((0.4, MAN, "I never saw the sea before."), (2.9, WOMAN, "Then you should stay until the morning."))
ANSWER = ((0.5, MAN, "Yes."), (1.6, WOMAN, "This is a rather long answer to such a short question."))


def spoken_shot(folder: Path, lines, frames: int = 125, **options) -> tuple[CutShot, list[Said]]:
    samples, said = scene(lines, frames / 24, seed=frames)
    clip = write_shot(folder, [60] * frames, samples)
    return CutShot(clip, speech=tuple(SpokenLine("", text) for _, _, text in lines), **options), said


@pytest.mark.slow
@needs_voice
@pytest.mark.parametrize("lines", [TALK, ANSWER], ids=["dialogue", "uneven"])
def test_captions_are_within_200_ms_of_real_speech(tmp_path, lines):
    shot, said = spoken_shot(tmp_path, lines)
    captions = film_captions(CutList("A film", (shot,)))
    assert [caption.text.replace("\n", " ") for caption in captions] == [line.text for line in said]
    for caption, line in zip(captions, said, strict=True):
        assert caption.start == pytest.approx(line.start, abs=0.2)
        assert caption.end == pytest.approx(line.end, abs=0.2)


@pytest.mark.slow
@needs_voice
def test_captions_keep_time_with_the_film_over_cuts_fades_and_continued_shots(tmp_path):
    first, before = spoken_shot(tmp_path, TALK)
    second, after = spoken_shot(tmp_path, TALK[:1], fade_ms=250)
    third, last = spoken_shot(tmp_path, TALK[:1], continues=True)
    cut = CutList("A film", (first, second, third))
    film = export_film(cut, tmp_path / "film.mp4")
    starts = [line.start for line in before] + [after[0].start + 119 / 24, last[0].start + (119 + 125 - 1) / 24]
    captions = film_captions(cut)
    assert [caption.start for caption in captions] == pytest.approx(starts, abs=0.2)
    # And that is where the film itself is loud.
    samples = np.abs(read_samples(film))
    for caption in captions:
        inside = samples[round(16_000 * (caption.start + 0.1)) : round(16_000 * (caption.end - 0.1))]
        assert inside.mean() > 5 * np.median(samples[: round(16_000 * 0.3)])


class Scripted:
    """Hears what it is told."""

    name = "scripted"

    def __init__(self, *words: tuple[str, float, float]) -> None:
        self.words = [HeardWord(*word) for word in words]

    def listen(self, samples: np.ndarray) -> list[HeardWord]:
        return self.words


def test_the_words_of_a_listener_decide_where_a_line_is(tmp_path):
    shot = CutShot(
        write_shot(tmp_path, [60] * 120), speech=(SpokenLine("", "Good evening, Anna."), SpokenLine("", "Good night!"))
    )
    heard = Scripted(
        ("Good", 1.0, 1.2), ("evening", 1.2, 1.6), ("hannah", 1.7, 2.0), ("good", 3.0, 3.2), ("night", 3.3, 3.7)
    )
    captions = film_captions(CutList("A film", (shot,)), heard)
    assert captions == [
        Caption(1.0, pytest.approx(2.0), "Good evening, Anna."),
        Caption(3.0, pytest.approx(3.7), "Good night!"),
    ]


def test_words_that_were_not_heard_lie_between_and_beside_those_that_were():
    (words,) = locate_lines(
        [SpokenLine("", "one two three four five")], [HeardWord("two", 1.0, 1.5), HeardWord("four", 2.5, 3.0)]
    )
    assert [(word.start, word.end) for word in words] == [
        pytest.approx(span, abs=1e-3) for span in [(0.5, 1.0), (1.0, 1.5), (1.5, 2.5), (2.5, 3.0), (3.0, 3.5)]
    ]
    assert locate_lines([SpokenLine("", "one"), SpokenLine("", "two")], [HeardWord("one", 0, 1)]) is None


def test_a_shot_in_which_nothing_is_heard_or_nobody_speaks_has_no_captions(tmp_path):
    silent = write_shot(tmp_path, [60] * 48, np.zeros(32_000, np.float32))
    shots = (CutShot(silent, speech=(SpokenLine("", "Hello."),)), CutShot(silent))
    assert film_captions(CutList("A film", shots)) == []


def test_long_lines_become_several_captions_of_two_rows(tmp_path):
    text = " ".join(f"word{number}" for number in range(50))
    heard = Scripted(*[(f"word{number}", number / 10, number / 10 + 0.1) for number in range(50)])
    shot = CutShot(write_shot(tmp_path, [60] * 121), speech=(SpokenLine("", text),))
    captions = film_captions(CutList("A film", (shot,)), heard)
    assert " ".join(caption.text for caption in captions).split() == text.split()
    assert len(captions) >= 4
    for caption in captions:
        rows = caption.text.split("\n")
        assert len(rows) <= 2
        assert max(map(len, rows)) <= ROW
    times = [time for caption in captions for time in (caption.start, caption.end)]
    assert times == sorted(times)


@pytest.mark.parametrize("suffix", [".srt", ".vtt"])
def test_captions_are_read_back_as_they_were_written(tmp_path, suffix):
    captions = [Caption(0.5, 2.25, "Is that so?\nYes, really."), Caption(3661.042, 3662.0, "雨が降る。")]
    target = tmp_path / f"film{suffix}"
    write_captions(captions, target)
    found = [Caption(event.start / 1000, event.end / 1000, event.plaintext) for event in pysubs2.load(str(target))]
    assert found == captions
    with pytest.raises(JobError, match=r"let its name end in \.srt or \.vtt"):
        write_captions(captions, tmp_path / "film.txt")


def test_signs_that_a_format_takes_for_its_own_lose_no_text(tmp_path):
    captions = [Caption(0, 1, "Is 3 < 4 & {5}?")]
    for suffix, text in ((".srt", "Is 3 < 4 & (5)?"), (".vtt", "Is 3 &lt; 4 &amp; (5)?")):
        write_captions(captions, tmp_path / f"film{suffix}")
        assert text in (tmp_path / f"film{suffix}").read_text()
