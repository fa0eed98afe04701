"""Where the speech of a prompt is estimated to be."""

import numpy as np
import pytest

from ovi_studio.core.variants import SAMPLE_RATE
from ovi_studio.media.soundtrack import Soundtrack, analyse
from ovi_studio.media.speech_timing import estimate_speech, loud_phrases

TWO = "A man says, <S>Good morning.<E> A woman answers, <S>Not at all, my dear friend.<E>"


def heard(*phrases: tuple[float, float], seconds: float = 5, noise: float = 0.002) -> Soundtrack:
    """Faint noise with a voice-like tone at these times."""
    rng = np.random.default_rng(1)
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    samples = noise * rng.standard_normal(len(time))
    for start, end in phrases:
        samples += np.where((time >= start) & (time < end), 0.4 * np.sin(2 * np.pi * 300 * time), 0)
    return analyse(samples.astype(np.float32))


def test_phrases_are_where_the_band_of_voices_is_loud() -> None:
    found = loud_phrases(heard((0.5, 1.5), (3, 4.5)))
    assert np.allclose(found, [(0.5, 1.5), (3, 4.5)], atol=0.06)
    # A short pause is inside a phrase.
    assert len(loud_phrases(heard((1, 2), (2.1, 3)))) == 1


def test_a_deep_hum_is_no_voice() -> None:
    sound = heard((3, 4))
    time = np.arange(5 * SAMPLE_RATE) / SAMPLE_RATE
    hum = np.where(time < 2, 0.9 * np.sin(2 * np.pi * 40 * time), 0)
    voice = np.where((time >= 3) & (time < 4), 0.3 * np.sin(2 * np.pi * 300 * time), 0)
    assert np.allclose(loud_phrases(analyse((hum + voice).astype(np.float32))), loud_phrases(sound), atol=0.1)


def test_each_line_is_in_the_phrase_in_which_it_is_said() -> None:
    first, second = estimate_speech(TWO, heard((0.5, 1.5), (3, 4.5)))
    assert (first.who, second.who) == ("A man says", "A woman answers")
    assert np.allclose([first.start, first.end], [0.5, 1.5], atol=0.06)
    assert np.allclose([second.start, second.end], [3, 4.5], atol=0.06)


def test_words_follow_each_other_and_long_ones_take_longer() -> None:
    (line,) = estimate_speech("<S>I understand everything.<E>", heard((1, 4)))
    assert [word.text for word in line.words] == ["I", "understand", "everything."]
    lengths = [word.end - word.start for word in line.words]
    assert lengths[0] < lengths[1] / 2
    assert all(earlier.end <= later.start + 1e-9 for earlier, later in zip(line.words, line.words[1:], strict=False))


@pytest.mark.parametrize("count", [2, 7, 40])
def test_lines_stay_in_their_order_however_many_there_are(count: int) -> None:
    prompt = " ".join(f"<S>{'word ' * (1 + index % 5)}<E>" for index in range(count))
    blocks = estimate_speech(prompt, heard((0.2, 0.6), (1, 1.3), (2, 4.9)))
    assert len(blocks) == count
    times = [time for block in blocks for word in block.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] <= 5


def test_without_sound_or_speech_there_is_nothing_to_show() -> None:
    silence = analyse(np.zeros(SAMPLE_RATE, np.float32))
    assert estimate_speech(TWO, silence) == []
    assert estimate_speech("A quiet street.", heard((1, 2))) == []
    assert estimate_speech("<S> <E>", heard((1, 2))) == []
