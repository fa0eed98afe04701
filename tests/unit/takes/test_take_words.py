"""How far what was heard is from what should be said."""

import pytest

from ovi_studio.takes.check import score_summary
from ovi_studio.takes.words import WordErrors, align, count_errors, tokens


@pytest.mark.parametrize(
    ("wanted", "heard", "errors"),
    [
        ("Good evening, Anna!", "good evening anna", (3, 0, 0, 0)),
        ("Good evening, Anna!", "good evening hannah", (3, 1, 0, 0)),
        ("Good evening, Anna!", "evening anna", (3, 0, 1, 0)),
        ("Good evening, Anna!", "well good evening dear anna", (3, 0, 0, 2)),
        ("It’s don't", "it's don’t", (2, 0, 0, 0)),
        ("", "", (0, 0, 0, 0)),
        ("Hello", "", (1, 0, 1, 0)),
        ("雨が降る。", "雨が降った", (4, 1, 0, 1)),
    ],
    ids=range(8),
)
def test_errors_are_those_of_the_best_alignment(wanted, heard, errors):
    assert count_errors(wanted, heard) == WordErrors(*errors)


def test_the_rate_is_errors_per_wanted_word_and_one_for_speech_that_nobody_wanted():
    assert count_errors("a b c d", "a x c").rate == 0.5
    assert count_errors("a", "a b c").rate == 2
    assert count_errors("", "noise").rate == 1
    assert count_errors("", "").rate == 0


@pytest.mark.parametrize(
    ("rate", "said"),
    [(0.0, "Words are right"), (0.25, "25% of the words are wrong"), (2.0, "100% of the words are wrong")],
)
def test_no_more_words_are_wrong_than_there_are(rate: float, said: str) -> None:
    assert score_summary({"word_error_rate": rate, "loudness": None}) == [said, "Silent"]


def test_words_keep_their_place_around_those_that_were_not_heard():
    assert align(["a", "b", "c", "d"], ["a", "c", "d", "e"]) == [0, None, 1, 2]
    assert tokens("Mr. O'Neil said: 'yes'") == ["mr", "o'neil", "said", "yes"]
