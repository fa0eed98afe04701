"""Prompt patterns and wildcards: what is expanded is exactly what was written, and never too much."""

import random
import time
from pathlib import Path

import pytest

from ovi_studio.core import prompt_patterns
from ovi_studio.core.errors import JobError
from ovi_studio.core.prompt_patterns import escape_prompt, expand_prompt, pattern_warnings, read_wildcard


@pytest.fixture
def wildcards(tmp_path: Path) -> Path:
    (tmp_path / "sky.txt").write_text("# skies\n\nblue\n  {grey}  \n", encoding="utf-8")
    (tmp_path / "time_of-day.txt").write_text("\ufeffdawn\r\nnoon\r\n", encoding="utf-8")
    (tmp_path / "empty.txt").write_text("# nothing\n\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "prompts"),
    [
        ("a car", ["a car"]),
        ("{red|blue} car", ["red car", "blue car"]),
        ("{a|b} {1|2}", ["a 1", "a 2", "b 1", "b 2"]),
        ("{only} one", ["only one"]),
        ("a{| very} tall tree", ["a tall tree", "a very tall tree"]),
        ("{a|a|b}", ["a", "b"]),
        ("{}", [""]),
        ("a | b", ["a | b"]),
        (r"\{red\|blue\}", ["{red|blue}"]),
        (r"{a\}|b\|c}", ["a}", "b|c"]),
        (r"\\{a|b\\}", ["\\a", "\\b\\"]),
        (r"\\\{a", ["\\{a"]),
        (r"C:\\ovi\new \\ ¯\_(ツ)_/¯ \S \ ", [r"C:\\ovi\new \\ ¯\_(ツ)_/¯ \S \ "]),
        ("snake_case __ init__", ["snake_case __ init__"]),
        ("<S>Hi!<E> <AUDCAP>{rain|wind}<ENDAUDCAP>", [f"<S>Hi!<E> <AUDCAP>{x}<ENDAUDCAP>" for x in ("rain", "wind")]),
        ("雨{と|の}音", ["雨と音", "雨の音"]),
    ],
)
def test_groups_give_every_combination_in_order(pattern, prompts):
    assert expand_prompt(pattern) == prompts


@pytest.mark.parametrize(
    ("pattern", "prompts"),
    [
        ("a __sky__ sky", ["a blue sky", "a {grey} sky"]),
        ("__sky____sky__", ["blueblue", "blue{grey}", "{grey}blue", "{grey}{grey}"]),
        ("{__sky__|black} sea", ["blue sea", "{grey} sea", "black sea"]),
        ("__time_of-day__", ["dawn", "noon"]),
        (r"\__sky__", ["__sky__"]),
        (r"\__nothing__ {\__sky__|x}", ["__nothing__ __sky__", "__nothing__ x"]),
        (r"\\__time_of-day__", ["\\dawn", "\\noon"]),
    ],
)
def test_wildcard_is_a_group_of_the_lines_of_its_file(wildcards, pattern, prompts):
    assert expand_prompt(pattern, wildcards) == prompts


@pytest.mark.parametrize(
    ("pattern", "match"),
    [
        ("{red|blue car", "without a closing one"),
        ("red} car", "without an opening one"),
        ("{a|{b|c}}", "inside another"),
        ("__nothing__", "There is no wildcard __nothing__; available are: __empty__, __sky__, __time_of-day__"),
        ("__empty__", "is empty"),
    ],
)
def test_pattern_that_means_nothing_is_refused_with_advice(wildcards, pattern, match):
    with pytest.raises(JobError, match=match):
        expand_prompt(pattern, wildcards)


@pytest.mark.parametrize("name", ["../secret", "..", "a/b", "sky.txt", ""])
def test_wildcard_cannot_name_another_file(wildcards, name):
    (wildcards.parent / "secret.txt").write_text("secret")
    with pytest.raises(JobError, match="There is no wildcard"):
        read_wildcard(name, wildcards)


@pytest.mark.parametrize("pattern", ["{a|b}" * 14, "{a|b}" * 4000, "{" + "__many__" * 3 + "}"])
def test_too_many_prompts_are_refused_before_they_are_made(tmp_path, pattern):
    (tmp_path / "many.txt").write_text("\n".join(map(str, range(1000))))
    with pytest.raises(JobError, match="the maximum is 10000"):
        expand_prompt(pattern, tmp_path)


def test_as_many_as_allowed_are_made():
    numbers = "|".join(map(str, range(100)))
    assert len(expand_prompt(f"{{{numbers}}} {{{numbers}}}")) == prompt_patterns.MAX_PROMPTS


def test_the_wildcards_that_come_with_the_app_can_be_read():
    names = prompt_patterns.wildcard_names()
    assert {"weather", "camera", "mood"} <= set(names)
    for name in names:
        assert len(expand_prompt(f"__{name}__")) >= 8


@pytest.mark.slow
def test_what_is_expanded_from_an_escaped_text_is_the_text_itself(wildcards):
    draw = random.Random(0)
    pieces = ["\\", "{", "}", "|", "_", "__", "__sky__", "a", "-", " ", "\n", "雨", '"']
    for _ in range(20_000):
        text = "".join(draw.choices(pieces, k=draw.randrange(14)))
        assert expand_prompt(escape_prompt(text), wildcards) == [text]
        assert expand_prompt(f"{{x|{escape_prompt(text)} }}", wildcards) == ["x", f"{text} "]
        assert pattern_warnings(escape_prompt(text)) == ()


def test_a_text_without_signs_is_escaped_as_it_is():
    text = r"C:\ovi\new, snake_case, ¯\_(ツ)_/¯, <S>Hi!<E> Audio: \ rain \\"
    assert escape_prompt(text) == text


@pytest.mark.parametrize("prompt", ['{"scene": {"ball": "red"}}', "a {b", "a} b"])
def test_braces_that_are_not_a_pattern_are_refused_with_the_right_form(prompt):
    with pytest.raises(JobError, match=r"write \\\{ and \\\} for literal braces"):
        expand_prompt(prompt)
    assert expand_prompt(escape_prompt(prompt)) == [prompt]


@pytest.mark.parametrize(
    ("pattern", "named"),
    [('{"scene": "a ball"} {a|b}', '{"scene": "a ball"},'), ("{}", "{},"), ("{a} {b} {c} {d}", "{a}, {b}, {c}, …,")],
)
def test_braces_that_offer_no_choice_are_warned_about(pattern, named):
    (sentence,) = pattern_warnings(pattern)
    assert sentence == f"There is no choice in {named} so its braces are removed; write \\{{ and \\}} to keep them."


@pytest.mark.parametrize("pattern", ["{a|b}", "{__sky__}", r"\{a\}", "plain | text", "{a|b"])
def test_a_choice_and_plain_braces_are_not_warned_about(pattern):
    assert pattern_warnings(pattern) == ()


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["\\", "\\{", "_", "_a", "__a-", "\\|"])
def test_very_long_texts_are_expanded_in_time(piece):
    started = time.thread_time()
    expand_prompt(piece * (10**6 // len(piece)))
    assert time.thread_time() - started < 5
