"""The prompt editor's knowledge: parts, speaker rows, findings with their places, and the pace of speech."""

import random
import time

import pytest

from ovi_studio.core.prompt_check import (
    PaceLevel,
    PromptParts,
    Severity,
    check_prompt,
    count_words,
    join_prompt,
    parse_prompt,
    rows_to_text,
    speech_pace,
    text_to_rows,
)
from ovi_studio.core.prompt_repair import prompt_warnings
from ovi_studio.core.prompt_spelling import for_people, in_words
from ovi_studio.core.prompts import MAX_PROMPT_LENGTH, AudioTag

GOOD = {
    AudioTag.AUDIO: "A man says, <S>Hello.<E> Audio: Wind.",
    AudioTag.AUDCAP: "A man says, <S>Hello.<E> <AUDCAP>Wind.<ENDAUDCAP>",
}


@pytest.mark.parametrize(
    ("prompt", "read"),
    [
        *((GOOD[tag], "A man says, “Hello.” ♪ Wind.") for tag in AudioTag),
        ("He says, <S> Hi. <E>\nThen he goes.", "He says, “Hi.”\nThen he goes."),
        ("a red ball", "a red ball"),
        ("", ""),
    ],
)
def test_people_read_quotation_marks_and_a_note_in_place_of_tags(prompt: str, read: str) -> None:
    assert for_people(prompt) == read
    assert in_words(prompt) == " ".join(read.split())


@pytest.mark.parametrize("tag", AudioTag)
def test_a_prompt_is_taken_apart_and_put_together(tag):
    parts = parse_prompt(GOOD[tag])
    assert parts == PromptParts("A man says, <S>Hello.<E>", ("Hello.",), "Wind.")
    assert join_prompt(parts.scene, parts.audio, tag) == GOOD[tag]


@pytest.mark.parametrize("tag", AudioTag)
def test_a_good_prompt_has_no_findings(tag):
    assert check_prompt(GOOD[tag], tag) == []


def test_without_a_description_there_is_no_tag():
    assert join_prompt("A scene", " ", AudioTag.AUDCAP) == "A scene"
    assert parse_prompt("A scene") == PromptParts("A scene", (), "")
    assert parse_prompt("") == PromptParts("", (), "")


def test_speaker_rows_become_speech_and_come_back():
    rows = [("The man says", "Hello."), ("She answers softly", "Who are you?")]
    text = rows_to_text(rows)
    assert text == "The man says, <S>Hello.<E> She answers softly, <S>Who are you?<E>"
    assert text_to_rows(text) == rows
    assert text_to_rows(f"A street. Rain falls. {text} Audio: Rain.") == rows


def test_rows_that_say_nothing_are_left_out_and_tags_in_rows_do_no_harm():
    assert rows_to_text([("He", " "), ("", "Hi"), ("She,", "<E>No<S> Audio: x")]) == "<S>Hi<E> She, <S>No x<E>"


@pytest.mark.parametrize(
    ("prompt", "tag", "marked", "words"),
    [
        ("He says <S>Hi. Audio: x", AudioTag.AUDIO, "<S>", "not closed"),
        ("He says Hi.<E> Audio: x", AudioTag.AUDIO, "<E>", "closes no speech"),
        ("He <S>a <S>b<E> Audio: x", AudioTag.AUDIO, "<S>", "not closed"),
        ("He <S> <E> Audio: x", AudioTag.AUDIO, "<S> <E>", "empty"),
        ("He. <AUDCAP>x", AudioTag.AUDCAP, "<AUDCAP>", "not closed"),
        ("He. x<ENDAUDCAP>", AudioTag.AUDCAP, "<ENDAUDCAP>", "closes nothing"),
        ("He. <AUDCAP> <ENDAUDCAP>", AudioTag.AUDCAP, "<AUDCAP> <ENDAUDCAP>", "empty"),
        ("<AUDCAP>x<ENDAUDCAP> He.", AudioTag.AUDCAP, "<AUDCAP>x<ENDAUDCAP>", "at the end"),
        ("He. <AUDCAP>x<ENDAUDCAP><AUDCAP>y<ENDAUDCAP>", AudioTag.AUDCAP, "<AUDCAP>", "second"),
        ("Audio: x He says <S>Hi<E>", AudioTag.AUDIO, "<S>", "end"),
        ("He. Audio: x", AudioTag.AUDCAP, "Audio: x", "converted"),
        ("He. <AUDCAP>x<ENDAUDCAP>", AudioTag.AUDIO, "<AUDCAP>x<ENDAUDCAP>", "converted"),
        ("He walks.", AudioTag.AUDIO, "", "no audio description"),
    ],
)
def test_an_error_says_where_it_is(prompt, tag, marked, words):
    found = [finding for finding in check_prompt(prompt, tag) if words in finding.text]
    assert [prompt[finding.start : finding.end] for finding in found] == [marked]


def test_text_that_is_too_long_is_marked():
    (finding,) = check_prompt("x" * MAX_PROMPT_LENGTH + "Audio: y", AudioTag.AUDIO)
    assert finding.severity is Severity.ERROR
    assert (finding.start, finding.end) == (MAX_PROMPT_LENGTH, MAX_PROMPT_LENGTH + 8)


def test_an_empty_prompt_has_no_findings():
    assert check_prompt("  ", AudioTag.AUDIO) == []


@pytest.mark.parametrize(
    ("words", "pace"),
    [(0, PaceLevel.SILENT), (12, PaceLevel.CALM), (13, PaceLevel.FAST), (20, PaceLevel.FAST), (21, PaceLevel.TOO_MUCH)],
)
def test_the_pace_of_speech_against_the_clips_length(words, pace):
    found = speech_pace(f"He walks and talks <S>{'word ' * words}<E> Audio: many words here", 5)
    assert (found.words, found.pace) == (words, pace)
    assert found.text.endswith(".")


def test_only_what_spoils_a_clip_is_a_warning() -> None:
    for tag in AudioTag:
        for other in AudioTag:  # a tag of other variants is converted, and a hint says so
            assert prompt_warnings(GOOD[other], tag, 5) == ()
    assert prompt_warnings("He walks.", AudioTag.AUDIO, 5) == ()
    fast = f"<S>Hi <S>{'word ' * 15}<E> Audio: wind"
    assert prompt_warnings(fast, AudioTag.AUDIO, 5) == (
        "This speech is not closed; write <E> where it ends.",
        "Speech: 15 words in 5 s, 3.0 a second: they speak fast.",
        f"Repaired: <S>Hi<E> <S>{'word ' * 14}word<E> Audio: wind",
    )


def test_words_are_counted_as_they_are_spoken():
    assert count_words("I don't know, mother-in-law!") == 4
    assert count_words("Grüß Gott — 24 Uhr…") == 4
    assert count_words("東京へ行こう") == 3
    assert count_words("") == 0


def test_any_mixture_of_tags_gives_findings_and_no_error():
    draw = random.Random(0)
    pieces = ["<S>", "<E>", "<AUDCAP>", "<ENDAUDCAP>", "Audio:", "word", " ", ".", "<script>"]
    for _ in range(2000):
        prompt = "".join(draw.choices(pieces, k=draw.randrange(12)))
        for tag in AudioTag:
            for finding in check_prompt(prompt, tag):
                assert 0 <= finding.start <= finding.end <= len(prompt)
        text_to_rows(prompt)
        speech_pace(prompt, 5)


@pytest.mark.parametrize("piece", ["<S>", "<E>", "<AUDCAP>", "Audio:", "<S>x", "<S><E>", "a ", ". "])
def test_very_long_prompts_are_checked_in_time(piece):
    prompt = piece * (4 * MAX_PROMPT_LENGTH // len(piece))
    started = time.thread_time()
    check_prompt(prompt, AudioTag.AUDCAP)
    text_to_rows(prompt)
    speech_pace(prompt, 5)
    assert time.thread_time() - started < 1


def test_twenty_megabytes_are_refused_at_once():
    prompt = "<AUDCAP><S>" * (20 * 2**20 // 11)
    started = time.thread_time()
    (finding,) = check_prompt(prompt, AudioTag.AUDIO)
    assert "too long" in finding.text
    assert parse_prompt(prompt).speech == ()
    assert text_to_rows(prompt) == []
    assert time.thread_time() - started < 1
