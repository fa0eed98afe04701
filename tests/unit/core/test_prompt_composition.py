"""Prompts taken apart into scene, cues and sound, and put together again."""

import itertools

import pytest

from ovi_studio.core.prompt_composition import (
    MAX_CUES,
    Composition,
    Speech,
    compose,
    format_cues,
    parse_cues,
)
from ovi_studio.core.prompts import AudioTag, format_prompt

AUDCAP, AUDIO = AudioTag.AUDCAP, AudioTag.AUDIO
TWO_SPEAKERS = (
    "A harbour at dawn.\nA man turns and says, <S>Hello, {you|there}.<E> He waits. The woman replies: <S>Go.<E> "
    "<S>Now!<E> They laugh. <AUDCAP>Gulls, slow waves.<ENDAUDCAP>"
)


def test_text_between_speeches_keeps_its_place() -> None:
    assert compose(TWO_SPEAKERS) == Composition(
        "A harbour at dawn.\n",
        (
            Speech("Hello, {you|there}.", "A man turns and says", ","),
            "He waits.",
            Speech("Go.", "The woman replies", ":"),
            Speech("Now!"),
            "They laugh.",
        ),
        "Gulls, slow waves.",
    )


@pytest.mark.parametrize("tag", AudioTag)
@pytest.mark.parametrize(
    "prompt",
    [
        TWO_SPEAKERS,
        "",
        "a dog",
        "  a dog  ",
        "A  dog.  It says, <S>wuff<E>",
        "It says <S>no comma<E>",
        "A concert. <S>Nobody in sight.<E>",
        "<S>Only speech.<E>",
        "<S>One.<E> <S>Two.<E>",
        "<S>One.<E>\n\n<S>Two.<E>\nThe end.",
        "A {red|blue} ball. A __mood__ voice says, <S>{Yes|No}.<E> Audio: thuds",
        "他说, <S>你好。<E> <AUDCAP>风<ENDAUDCAP>",
        f"{'A long sentence without an end ' * 8} says, <S>Hi.<E>",
        "<AUDCAP>only sound<ENDAUDCAP>",
        "Dr. Smith says, <S>Wait.<E>",
    ],
)
def test_a_prompt_that_is_taken_apart_is_put_together_to_the_same_text(prompt: str, tag: AudioTag) -> None:
    found = compose(prompt)
    assert found is not None
    # With another variant's tag the model reads the same.
    assert format_prompt(found.text(tag), tag) == format_prompt(prompt, tag)
    assert any(found.text(one) == prompt for one in AudioTag)
    assert compose(found.text(tag)) == found
    assert parse_cues(format_cues(found.cues)) == found.cues


@pytest.mark.parametrize(
    "prompt",
    [
        "He says, <S>Hello",
        "He says, <s>Hello<e>",
        "<AUDCAP>barks<ENDAUDCAP> a dog",
        "a dog<AUDCAP>barks<ENDAUDCAP>",
        "a dog <AUDCAP> barks <ENDAUDCAP>",
        "a dog Audio:barks",
        "a dog Audio:",
        "a dog <AUDCAP><ENDAUDCAP>",
        "a <AUDCAP>b<ENDAUDCAP> <AUDCAP>c<ENDAUDCAP>",
        "a Audio: b <S>c<E>",
        "He says, <S> spaced <E>",
        "He says, <S><E>",
        "He says,<S>Close<E>",
        "{He says, <S>Yes<E>|She says, <S>No<E>}",
        "A dog. {<AUDCAP>barks<ENDAUDCAP>|Audio: growls}",
    ],
)
@pytest.mark.parametrize("tag", AudioTag)
def test_a_prompt_that_would_change_is_not_taken_apart(prompt: str, tag: AudioTag) -> None:
    assert compose(prompt) is None


def test_whatever_is_put_together_from_parts_is_taken_apart_again_or_stays_text() -> None:
    scenes = ("", "A pier.", "A pier", "A pier.\n", "{a|b}", "{half", "audio: x")
    speeches = (Speech("Hi."), Speech("Hi.", "He says"), Speech("Hi. ", "He asks", ":"), Speech("", "He nods"))
    for scene, first, text, second, sound in itertools.product(
        scenes, speeches, ("", "Rain falls.", "and then"), speeches, ("", "wind")
    ):
        cues = (first, *([text] if text else []), second)
        written = Composition(scene, cues, sound).text(AUDCAP)
        again = compose(written)
        assert again is None or again.text(AUDCAP) == written
        assert again is not None or scene in ("{half", "audio: x")


def test_speech_without_words_leaves_nothing_behind() -> None:
    assert Composition("A pier.", (Speech(" ", "He says"), "", Speech("")), " ").text(AUDIO) == "A pier."
    assert Speech("Hi", "He says: ").text == "He says: <S>Hi<E>"


@pytest.mark.parametrize("given", [None, {}, "x", [1, None, {"said": 1}, {"who": "a"}]])
def test_cues_of_another_form_are_left_out(given: object) -> None:
    assert parse_cues(given) == ()


def test_cues_from_a_client_are_bounded() -> None:
    assert parse_cues([{"said": "a", "who": 3, "mark": "!"}] * 999) == (Speech("a"),) * MAX_CUES
