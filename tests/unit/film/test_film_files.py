"""A film as a file: what is written is read back, and what is wrong is said in one sentence."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ovi_studio.core.errors import JobError
from ovi_studio.core.requests import SeedMode
from ovi_studio.film.film_yaml import format_film, parse_film, read_film, write_film
from ovi_studio.film.reading import load_film
from ovi_studio.film.script import (
    Character,
    Cut,
    Film,
    FromPicture,
    FromShot,
    Look,
    Shot,
    SpeechRow,
    Takes,
)

FILM = Film(
    title="The lighthouse: a film",
    look=Look("960x960_5s", "balanced", "16:9", 7, SeedMode.NEXT),
    characters=(Character("Mara", "a woman of sixty, in yellow", "a low voice"), Character("Tom")),
    places={"stairs": "Narrow stairs.", "sea": "The open sea at night"},
    shots=(
        Shot("1", "Mara climbs.", "stairs", sound="Rain"),
        Shot(
            "lamp",
            "She looks up: no.",
            "stairs",
            ("Mara",),
            (SpeechRow("It burns.", "Mara", "whispers"), SpeechRow("Yes, 16:9", how="A man says", seen=False)),
            seconds=5,
            begin=FromShot(),
            takes=Takes(3, (0, 2, 3)),
        ),
        Shot("sea", speech=(SpeechRow("Hello?", "Tom", seen=False),), begin=FromShot("1"), takes=Takes(2), fade_ms=500),
    ),
)


def test_every_field_of_a_film_is_written_and_read_back(tmp_path: Path) -> None:
    picture = FromPicture(tmp_path / "pictures" / "lamp.png")
    until = (
        Shot("until", speech=(SpeechRow("Hi.", "Tom"),), takes=Takes(5, word_errors=0.25)),
        Shot("seeds", speech=(SpeechRow("Hi.", "Tom"),), takes=Takes(2, (4, 8), 0.0)),
    )
    film = replace(FILM, shots=(*FILM.shots, Shot("end", "An end.", begin=picture), *until), listener="/a/whisper")
    write_film(film, tmp_path / "film.yaml")
    assert read_film(tmp_path / "film.yaml") == film
    assert "picture: pictures/lamp.png" in (tmp_path / "film.yaml").read_text()
    assert parse_film(format_film(FILM), None) == FILM
    plain = Film("x", (Shot("1", "a"), Shot("2", "b")))
    assert format_film(plain) == {"title": "x", "shots": [{"prompt": "a"}, {"prompt": "b"}]}
    assert parse_film(format_film(plain), None) == plain


def test_short_forms_say_the_same() -> None:
    film = parse_film(
        {
            "title": " A  film ",
            "look": {"seed": "4"},
            "characters": {"Tom": "a tall man"},
            "shots": ["A dog runs.", {"prompt": "Tom sits.", "speech": ["Hi."], "takes": {"seeds": ["1", "2"]}}],
        },
        None,
    )
    assert film.title == "A film"
    assert film.look == Look(seed=4, seed_mode=SeedMode.FIXED)
    assert film.characters == (Character("Tom", "a tall man"),)
    assert film.shots[0] == Shot("1", "A dog runs.")
    assert film.shots[1] == Shot("2", "Tom sits.", speech=(SpeechRow("Hi."),), takes=Takes(2, (1, 2)))


def shots(*given: dict[str, Any], **film: Any) -> dict[str, Any]:
    return {"title": "x", "shots": [{"prompt": "a dog"} | one for one in given], **film}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("no film", "The film must consist of lines"),
        ({"shots": ["a"]}, "The title is missing; add it."),
        ({"title": "x"}, "The film has no shots; add one."),
        ({"title": "x", "shots": "a"}, "The shots must be a list"),
        ({"title": "x", "shots": ["a"] * 501}, "The film has 501 shots; make several films of at most 500."),
        (shots({}, cast={}), "The film has the unknown entry cast; valid ones are title, look"),
        (shots({"prompt": ""}), "Shot 1: it shows and says nothing; write a prompt."),
        (shots({"lens": "50mm"}), "Shot 1 has the unknown entry lens"),
        (shots({}, {"characters": ["Mara"]}), "Shot 2: unknown character 'Mara'; the film has no characters yet"),
        (shots({"speech": [{"who": "Tim", "said": "x"}]}, characters={"Tom": ""}), "unknown character 'Tim'; add it"),
        (shots({"place": "sea"}, places={"beach": "A beach"}), "unknown place 'sea'; add it to the film's places, or"),
        (shots({"begin": "previous"}), "there is no shot before it to continue"),
        (shots({}, {"id": "b", "begin": {"shot": "b"}}), "Shot 2 \\(b\\): it continues from itself"),
        (shots({}, {"begin": {"shot": "9"}}), "Shot 2: it continues the unknown shot '9'; choose one of 1, 2."),
        (shots({"begin": {"shot": "2"}}, {"begin": {"shot": "3"}}, {"begin": {"shot": "1"}}), "in a ring"),
        (shots({}, {"begin": {"shot": "3"}}, {"begin": "previous"}), "The shots 2, 3 continue each other in a ring"),
        (shots({"begin": "later"}), "it must begin with `cut`, `previous`"),
        (shots({"begin": {"picture": "a.png"}}), "a picture cannot be named here"),
        (shots({}, {"id": "1"}), "2 shots have the id '1'; give each its own."),
        (shots({"takes": "0"}), "it has 0 takes; choose 1 to 20"),
        (shots({"takes": {"count": 3, "seeds": [1, 2]}}), "it has 3 takes, but 2 seeds"),
        (shots({"takes": {"seeds": [1, 1]}}), "two of its seeds are equal"),
        (shots({"takes": {"at_most": 3}}), "its takes have `at_most`; write `count`, since they are all made"),
        (
            shots({"takes": {"count": 3, "until_word_error_rate": 0}}),
            "its takes have `count`; write `at_most`, since they end with `until_word_error_rate`",
        ),
        (shots({"takes": {"at_most": 3, "until_word_error_rate": 0}}), "but nobody speaks in it; add speech, or a"),
        (
            shots({"speech": ["Hi."], "takes": {"at_most": 3, "until_word_error_rate": "1"}}),
            "its word error rate is to be 1; choose 0 ",
        ),
        (shots({"takes": {"until_word_error_rate": "nan"}}), "its word error rate must be a number, not 'nan'"),
        (shots({}, listener="someone/whisper"), "The listener 'someone/whisper' cannot be named here; choose one of"),
        (shots({"takes": "many"}), "its takes must be a whole number, not 'many'"),
        (shots({"seconds": "0"}), "it is to last 0 s"),
        (shots({}, {"transition": "wipe"}), "its transition must be `cut` or"),
        (shots({}, {"transition": {"cross_fade": "9000"}}), "choose 0 to 5000"),
        (shots({"transition": {"cross_fade": 100}}), "there is no shot before it to fade from"),
        (shots({"prompt": "He says <S>Hi<E>"}), "its prompt has the tag '<S>'; write speech as rows"),
        (shots({"speech": [{"said": "a<E>b"}]}), "speech 1 has the tag '<E>'"),
        (shots({}, characters={"Tom": "x", "tom": "y"}), "Two characters are called"),
        (shots({}, look={"seeds": "fixed"}), "it has no seed; add one"),
        (shots({}, look={"seeds": "random", "seed": 1}), "its seeds are random; remove one of the two"),
        (shots({}, look={"seeds": "often"}), "choose one of random, fixed, next"),
        (shots({"prompt": "x" * 4001}), "its prompt has 4001 characters"),
        (shots({"prompt": "\ud800"}), "has a character that is not valid"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(given: Any, sentence: str) -> None:
    with pytest.raises(JobError, match=sentence):
        parse_film(given, None)


def test_faults_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "film.yaml"
    path.write_text("title: x\nshots: [{prompt: a, begin: previous}]")
    with pytest.raises(JobError, match=r"film\.yaml: Shot 1: there is no shot before it"):
        load_film(path)
    for name, content, sentence in (
        ("film.md", b"x", "is no film; give a file that ends in .yaml"),
        ("film.txt", b"\xff\xfe", "is not text in UTF-8"),
        ("empty.txt", b"# only a remark\n\n", "The list has no lines"),
        ("bad.txt", b"a dog\na cat <S>meow", "Line 2: its tags are not in order"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(JobError, match=f"{name}.*{sentence}"):
            load_film(tmp_path / name)
    with pytest.raises(JobError, match=r"none\.txt cannot be read"):
        load_film(tmp_path / "none.txt")


def test_shots_are_made_after_those_that_they_continue() -> None:
    film = Film(
        "x",
        (
            Shot("a", "a", begin=FromShot("c")),
            Shot("b", "b", begin=FromShot()),
            Shot("c", "c", begin=Cut()),
            Shot("d", "d", begin=FromShot()),
        ),
    )
    assert film.parents() == {"a": "c", "b": "a", "c": None, "d": "c"}
    assert [shot.id for shot in film.in_making_order()] == ["c", "a", "b", "d"]


def test_each_line_of_a_list_is_a_shot(tmp_path: Path) -> None:
    path = tmp_path / "my_list.txt"
    path.write_text(
        "A dog runs.\n\n# a remark\nA man turns. The man says, <S>Hello.<E> He waves. <AUDCAP>Wind<ENDAUDCAP>\n"
    )
    film = load_film(path)
    assert film.title == "my list"
    assert film.shots == (
        Shot("1", "A dog runs."),
        Shot("2", "A man turns. He waves.", speech=(SpeechRow("Hello.", how="The man says"),), sound="Wind"),
    )
