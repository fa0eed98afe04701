"""Prompt patterns, wildcards and seeds: what is expanded is exactly what was written, and never too much."""

from pathlib import Path

import pytest

from ovi_studio.core import prompt_patterns
from ovi_studio.core.errors import JobError
from ovi_studio.core.prompt_patterns import expand_prompt, expand_spec, following_seeds, parse_seeds, read_wildcard
from ovi_studio.core.spec import MAX_SEED, ClipSpec


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
        (r"\{red\|blue\} \\ \n", ["{red|blue} \\ \\n"]),
        (r"{a\}|b\|c}", ["a}", "b|c"]),
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
    ],
)
def test_wildcard_is_a_group_of_the_lines_of_its_file(wildcards, pattern, prompts):
    assert expand_prompt(pattern, wildcards) == prompts


@pytest.mark.parametrize(
    ("pattern", "match"),
    [
        ("{red|blue car", "no closing one"),
        ("red} car", "no opening one"),
        ("{a|{b|c}}", "within another"),
        ("__nothing__", "There is no wildcard __nothing__; known are: __empty__, __sky__, __time_of-day__"),
        ("__empty__", "has no line"),
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
    with pytest.raises(JobError, match="at once is 10000"):
        expand_prompt(pattern, tmp_path)


def test_as_many_as_allowed_are_made():
    numbers = "|".join(map(str, range(100)))
    assert len(expand_prompt(f"{{{numbers}}} {{{numbers}}}")) == prompt_patterns.MAX_CLIPS


def test_the_wildcards_that_come_with_the_app_can_be_read():
    names = prompt_patterns.wildcard_names()
    assert {"weather", "camera", "mood"} <= set(names)
    for name in names:
        assert len(expand_prompt(f"__{name}__")) >= 8


def test_spec_is_repeated_for_prompts_and_seeds():
    spec = ClipSpec(prompt="{a|b} car", variant="tiny", seed=7, steps=3)
    assert [(s.prompt, s.seed, s.steps) for s in expand_spec(spec)] == [("a car", 7, 3), ("b car", 7, 3)]
    pairs = [(s.prompt, s.seed) for s in expand_spec(spec, [1, 5])]
    assert pairs == [("a car", 1), ("a car", 5), ("b car", 1), ("b car", 5)]


def test_too_many_specs_are_refused():
    spec = ClipSpec(prompt="{a|b}", variant="tiny")
    with pytest.raises(JobError, match="10002 clips"):
        expand_spec(spec, range(5001))


def test_alternative_that_leaves_no_prompt_is_refused():
    with pytest.raises(JobError, match="prompt is empty"):
        expand_spec(ClipSpec(prompt="{a|}", variant="tiny"))


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("7", [7]),
        ("1, 5,9", [1, 5, 9]),
        ("100-103", [100, 101, 102, 103]),
        (" 3 ; 1 - 2\n3 ", [3, 1, 2]),
        (str(MAX_SEED), [MAX_SEED]),
    ],
)
def test_seeds_are_read_as_people_write_them(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text", ["", " , ", "x", "1.5", "-1", "9-3", "1--2", "1-2-3", "²", str(MAX_SEED + 1), "0-9999999999", "9" * 5000]
)
def test_what_is_no_list_of_seeds_is_refused(text):
    with pytest.raises(JobError):
        parse_seeds(text)


def test_seeds_follow_each_other():
    assert following_seeds(5, 3) == [5, 6, 7]
    for first, count in [(1, 0), (1, 10_001), (MAX_SEED, 2)]:
        with pytest.raises(JobError):
            following_seeds(first, count)
