"""Prompts as people write them: what is wrong is reported, and the repaired form is right and stays as it is."""

import random
import time
from pathlib import Path

import pytest

from ovi_studio.core.prompt_check import Severity, check_prompt
from ovi_studio.core.prompt_repair import prompt_warnings, repaired, repaired_pattern
from ovi_studio.core.prompts import MAX_PROMPT_LENGTH, AudioTag
from ovi_studio.services.templates import Templates

SPOKEN = "He says <S>Hi<E>"
REPAIRS = [
    # Spellings of the tags
    ("He says <S>Hi</S>", SPOKEN, "</S>"),
    ("He says <s>Hi</s>", SPOKEN, "<s>"),
    ("He says <s>Hi<e>", SPOKEN, "<e>"),
    ("He says [S]Hi[E]", SPOKEN, "[S]"),
    ("He says [s]Hi[/s]", SPOKEN, "[/s]"),
    ("He says (S)Hi(E)", SPOKEN, "(S)"),
    ("He says ＜S＞Hi＜E＞", SPOKEN, "＜S＞"),
    ("He says ＜Ｓ＞Hi＜Ｅ＞", SPOKEN, "＜Ｅ＞"),
    ("He says 〈S〉Hi〈E〉", SPOKEN, "〈S〉"),
    ("He says 【S】Hi【E】", SPOKEN, "【S】"),
    ("He says &lt;S&gt;Hi&lt;E&gt;", SPOKEN, "&lt;S&gt;"),
    ("He says &amp;lt;S&amp;gt;Hi&#60;E&#62;", SPOKEN, "&#60;E&#62;"),
    ("He says \\<S\\>Hi\\<E\\>", SPOKEN, "\\<S\\>"),
    ("He says < S >Hi< E >", SPOKEN, "< S >"),
    ("He says <\u200bS>Hi<E\u200b>", SPOKEN, "<E\u200b>"),
    ("He says <|S|>Hi<|E|>", SPOKEN, "<|S|>"),
    ("He says <<S>>Hi<<E>>", SPOKEN, "<<S>>"),
    ("He says <S Hi <E", SPOKEN, "<S"),
    ("He says <SPEECH>Hi</SPEECH>", SPOKEN, "<SPEECH>"),
    ("He says <speech>Hi<END_SPEECH>", SPOKEN, "<END_SPEECH>"),
    ("He says <S>Hi<END>", SPOKEN, "<END>"),
    # Speech that is not opened, not closed, or inside another
    ("He says Hi<E>", SPOKEN, "closes no speech"),
    ("He walks. Hello there.<E>", "He walks. <S>Hello there.<E>", "closes no speech"),
    ("He says <S>Hi", SPOKEN, "not closed"),
    ("He says <S>Hi. She says <S>Oh.<E>", "He says <S>Hi.<E> She says <S>Oh.<E>", "not closed"),
    ("He says <S>Hi<S> and waves.", "He says <S>Hi<E> and waves.", "not closed"),
    ('She says <S>"La la" and dances.', "She says <S>La la<E> and dances.", "not closed"),
    ("He <S>says <S>hi<E> now<E>", "He <S>says hi now<E>", "not closed"),
    ("He <S> <E> walks.", "He walks.", "empty"),
    # Speech in quotation marks
    ('A man says "Hello there"', "A man says <S>Hello there<E>", "not spoken"),
    ("A man in a white shirt says, “Hello.”", "A man in a white shirt says, <S>Hello.<E>", "not spoken"),
    ('"Good morning!" she says.', "<S>Good morning!<E> she says.", "not spoken"),
    ('A woman smiles. "Good morning!"', "A woman smiles. <S>Good morning!<E>", "not spoken"),
    ('Man: "Hello you"', "Man: <S>Hello you<E>", "not spoken"),
    ("He shouts 'I don't know!' and runs.", "He shouts <S>I don't know!<E> and runs.", "not spoken"),
    ("She whispers „Komm“ and goes.", "She whispers <S>Komm<E> and goes.", "not spoken"),
]
DESCRIBED = [
    ("He walks. audio: rain", "“audio:”"),
    ("He walks. AUDIO : rain", "“AUDIO :”"),
    ("He walks. Audio： rain", "“Audio：”"),
    ("He walks. Audio caption: rain", "“Audio caption:”"),
    ("He walks. <audcap>rain</audcap>", "“<audcap>”"),
    ("He walks. [AUDCAP]rain[ENDAUDCAP]", "“[AUDCAP]”"),
    ("He walks. &lt;AUDCAP&gt;rain&lt;ENDAUDCAP&gt;", "“&lt;AUDCAP&gt;”"),
    ("He walks. <AUDCAP>rain</AUDCAP>", "“</AUDCAP>”"),
    ("He walks. <AUDCAP>rain<END_AUDCAP>", "“<END_AUDCAP>”"),
    ("He walks. <AUDCAP>rain", "not closed"),
    ("He walks. rain<ENDAUDCAP>", "closes nothing"),
    ("<AUDCAP>rain<ENDAUDCAP> He walks.", "belongs at the end"),
    ("He walks. <AUDCAP>rain<ENDAUDCAP> Audio: rain", "second"),
    ("He walks. Audio: <AUDCAP>rain<ENDAUDCAP>", "second"),
    ("He walks. <AUDCAP>Audio: rain<ENDAUDCAP>", "second"),
]
RIGHT = [
    "He walks.",
    "He says <S>Hi<E>",
    "He turns up the audio: it crackles.",
    "The boat(s) go to gate (E), past exit (S).",
    "He presses [E] to open.",
    'A sign says "OPEN".',
    'A neon sign reads "OPEN!"',
    'A film called "Jaws" is shown.',
    "A <b>bold</b> <script> and 3 < 4 > 2.",
    "It's the dogs' park, isn't it?",
    'He says <S>She said "no".<E>',
    '"scene": "a ball", "mood": "calm"',
    'A 5" pipe and a 6" pipe.',
]


def sentences(prompt: str, tag: AudioTag) -> list[str]:
    return [finding.text for finding in check_prompt(prompt, tag) if finding.severity is not Severity.HINT]


@pytest.mark.parametrize("tag", AudioTag)
@pytest.mark.parametrize(("prompt", "right", "said"), REPAIRS)
def test_wrong_speech_is_reported_and_repaired(prompt: str, right: str, said: str, tag: AudioTag) -> None:
    description = f" {tag.wrap('rain')}"
    assert repaired(prompt + description, tag) == right + description
    assert any(said in sentence for sentence in sentences(prompt + description, tag))
    assert repaired(prompt, tag) == right


@pytest.mark.parametrize("tag", AudioTag)
@pytest.mark.parametrize(("prompt", "said"), DESCRIBED)
def test_a_wrong_audio_description_is_reported_and_repaired(prompt: str, said: str, tag: AudioTag) -> None:
    assert repaired(prompt, tag) == f"He walks. {tag.wrap('rain')}"
    assert any(said in sentence for sentence in sentences(prompt, tag))


@pytest.mark.parametrize(
    ("prompt", "right"),
    [
        ("He walks. <AUDCAP>rain<ENDAUDCAP> Audio: wind", "He walks. Audio: rain, wind"),
        ("He walks. <AUDCAP>Rain.<ENDAUDCAP><AUDCAP>Wind.<ENDAUDCAP>", "He walks. Audio: Rain. Wind."),
        ("Audio: rain. He says <S>Hi<E>", "He says <S>Hi<E> Audio: rain."),
        ("He walks. <AUDCAP>a voice says <S>hi<E> softly<ENDAUDCAP>", "He walks. <S>hi<E> Audio: a voice says softly"),
        ("He says <S>Hi <AUDCAP>rain<ENDAUDCAP>", "He says <S>Hi<E> Audio: rain"),
        ("He walks. <AUDCAP> <ENDAUDCAP>", "He walks."),
        ("He walks. Audio:", "He walks."),
    ],
)
def test_descriptions_are_put_together_at_the_end(prompt: str, right: str) -> None:
    assert repaired(prompt, AudioTag.AUDIO) == right


@pytest.mark.parametrize("tag", AudioTag)
@pytest.mark.parametrize("scene", RIGHT)
def test_a_prompt_that_is_right_is_not_changed(scene: str, tag: AudioTag) -> None:
    # A description in the form of the other variants is converted for the model, so it is right, too.
    for prompt in (scene, *(f"{scene} {form.wrap('rain')}" for form in AudioTag)):
        assert sentences(prompt, tag) == []
        assert repaired(prompt, tag) == prompt


def test_no_shipped_template_is_changed(tmp_path: Path) -> None:
    for template in Templates(tmp_path).all().templates:
        for tag in AudioTag:
            prompt = template.fill({}, tag)
            assert repaired(prompt, tag) == prompt


def test_whatever_is_written_the_right_form_is_right_and_stays_as_it_is() -> None:
    draw = random.Random(0)
    pieces = [
        "<S>",
        "<E>",
        "<AUDCAP>",
        "<ENDAUDCAP>",
        "Audio:",
        "audio:",
        "word",
        " ",
        ".",
        "</S>",
        "[S]",
        "(E)",
        "(s)",
    ]
    pieces += ["&lt;", "<", ">", "S", '"', "He says ", "Hi there. ", "\n", "<|E|>", "<end>", "“", "”"]
    for _ in range(500):
        prompt = "".join(draw.choices(pieces, k=draw.randrange(14)))
        for tag in AudioTag:
            form = repaired(prompt, tag)
            assert repaired(form, tag) == form, prompt
            assert sentences(form, tag) == [], prompt


def test_a_warning_names_the_right_form() -> None:
    assert prompt_warnings("He says <s>Hi</s> Audio: rain", AudioTag.AUDIO, 5) == (
        "“<s>” is not a tag that the model knows; write <S>.",
        "“</s>” is not a tag that the model knows; write <E>.",
        "Repaired: He says <S>Hi<E> Audio: rain",
    )


def test_a_pattern_is_repaired_only_if_all_its_prompts_are() -> None:
    tag = AudioTag.AUDIO
    assert repaired_pattern("A {red|blue} man says [S]Hi[E]", tag) == "A {red|blue} man says <S>Hi<E>"
    # Each alternative opens the speech that is closed after them.
    assert repaired_pattern("He {<S>a|<S>b}<E>", tag) == "He {<S>a|<S>b}<E>"
    assert repaired_pattern("He says {<S>Hi", tag) == "He says {<S>Hi"


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece", ["<S>", "[S]", "(E)", "<", "&lt;", "audio ", "Audio:", '"a', 'He says "a ', "'a", " "]
)
def test_the_longest_prompts_are_checked_and_repaired_in_time(piece: str) -> None:
    prompt = piece * (MAX_PROMPT_LENGTH // len(piece))
    started = time.thread_time()
    check_prompt(prompt, AudioTag.AUDCAP)
    repaired(prompt, AudioTag.AUDCAP)
    assert time.thread_time() - started < 2
