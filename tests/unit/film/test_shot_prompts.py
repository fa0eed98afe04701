"""The prompt of a shot, and speech that is cut to fit clips."""

import pytest

from ovi_studio.core.prompt_check import FAST_PACE, check_prompt, count_words
from ovi_studio.core.prompt_composition import compose
from ovi_studio.core.prompts import AudioTag
from ovi_studio.film.prompts import compose_shot
from ovi_studio.film.script import Character, Film, Shot, SpeechRow
from ovi_studio.film.speech_cuts import cut_speech, cut_text, speech_fits

MARA = Character("Mara", "a woman in a yellow coat", "a low voice")
TOM = Character("Tom", "Tom has red hair.", "he sounds like a boy")


def prompt(shot: Shot, tag: AudioTag = AudioTag.AUDIO) -> str:
    film = Film("x", (shot,), characters=(MARA, TOM), places={"stairs": "narrow stairs"})
    return compose_shot(film, shot).text(tag)


def test_place_looks_and_voice_are_in_the_prompt_of_every_shot_in_which_they_appear() -> None:
    shot = Shot("1", "she climbs", "stairs", ("Tom",), (SpeechRow("It burns.", "Mara", "whispers"),), "Rain")
    assert prompt(shot) == (
        "Narrow stairs. Mara is a woman in a yellow coat. Tom has red hair. She climbs. Mara whispers, "
        "<S>It burns.<E> Audio: Rain. Mara speaks with a low voice."
    )
    assert prompt(shot, AudioTag.AUDCAP).endswith("<AUDCAP>Rain. Mara speaks with a low voice.<ENDAUDCAP>")
    assert check_prompt(prompt(shot), AudioTag.AUDIO) == []
    assert compose(prompt(shot)) is not None


@pytest.mark.parametrize(("text", "seen"), [("MARA's lamp.", True), ("Maracas.", False), ("A lamp.", False)])
def test_who_is_named_in_the_prompt_appears(text: str, seen: bool) -> None:
    assert ("yellow coat" in prompt(Shot("1", text))) is seen


def test_who_is_not_seen_has_a_voice_and_no_looks() -> None:
    rows = (SpeechRow("Hello?", "Mara", seen=False), SpeechRow("Anyone?", "Mara", seen=False))
    assert prompt(Shot("1", "A dark room.", speech=rows)) == (
        "A dark room. Mara says off screen, <S>Hello?<E> <S>Anyone?<E> Audio: Mara speaks with a low voice."
    )


def test_a_speaker_without_a_name_is_introduced_by_the_row() -> None:
    assert prompt(Shot("1", speech=(SpeechRow("Hi.", how="A man calls"),))) == "A man calls, <S>Hi.<E>"


def words(count: int, end: str = ".") -> str:
    return " ".join(["word"] * count) + end


def test_speech_is_cut_at_sentences_and_keeps_every_word() -> None:
    said = f"{words(6)} {words(5)} {words(4)} {words(12, '!')} Dr. Who? “{words(3)}” {words(2)}"
    clips = cut_speech([SpeechRow(said, "Mara"), SpeechRow(words(9), "Tom")], 5)
    assert [[row.said for row in clip] for clip in clips] == [
        [f"{words(6)} {words(5)}"],
        [words(4)],
        [words(12, "!")],
        [f"Dr. Who? “{words(3)}” {words(2)}"],
        [words(9)],
    ]
    assert all(speech_fits([row.said for row in clip], 5) for clip in clips)


def test_a_sentence_that_can_be_said_a_little_faster_stays_whole() -> None:
    assert cut_text(words(int(5 * FAST_PACE)), 5) == [words(int(5 * FAST_PACE))]


def test_longer_sentences_are_cut_at_clauses_and_then_at_words() -> None:
    said = f"{words(10, ',')} {words(9, ',')} {words(30)}"
    pieces = cut_text(said, 5)
    assert " ".join(pieces) == said
    assert pieces[:2] == [words(10, ","), f"{words(9, ',')} {words(3, '')}"]
    assert all(speech_fits([piece], 5) for piece in pieces)


def test_scripts_without_spaces_are_cut_too() -> None:
    said = "今日は雨です。" * 3 + "海" * 100
    pieces = cut_text(said, 5)
    assert "".join(pieces) == said
    assert all(count_words(piece) <= FAST_PACE * 5 for piece in pieces)
