"""The search line: words and fields, what it refuses, and what is still being typed."""

import time

import pytest

from ovi_studio.core.errors import JobError
from ovi_studio.library.search import MAX_SEARCH_LENGTH, SYNTAX, Term, parse_search


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", []),
        ("  Fuchs  ÉTÉ ", [Term("word", "fuchs"), Term("word", "ete")]),
        ('"two words" -snow', [Term("word", "two words"), Term("word", "snow", True)]),
        ("seed:42 SEED:007", [Term("seed", "42"), Term("seed", "7")]),
        ("model:Demo lora:film", [Term("model", "demo"), Term("lora", "film")]),
        (
            'tag:sea tag:"Deep Sea" -tag:draft',
            [Term("tag", "sea"), Term("tag", "deep sea"), Term("tag", "draft", True)],
        ),
        ("is:favourite has:frame -is:fav", [Term("favourite"), Term("frame"), Term("favourite", "", True)]),
        # No fields, so words.
        ("12:30 says:hello http://x", [Term("word", "12:30"), Term("word", "says:hello"), Term("word", "http://x")]),
        # Still being typed.
        ('seed: model: before: - "', []),
        ('fox tag:"dee', [Term("word", "fox"), Term("tag", "dee")]),
    ],
)
def test_terms(text: str, terms: list[Term]) -> None:
    assert list(parse_search(text)) == terms


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("on:2026-01-31", (2026, 1, 31), (2026, 2, 1)),
        ("on:2026-12", (2026, 12, 1), (2027, 1, 1)),
        ("on:2024", (2024, 1, 1), (2025, 1, 1)),
        ("on:2024-2-29", (2024, 2, 29), (2024, 3, 1)),
        ("after:2026-01-31 before:2026-03", (2026, 2, 1), (2026, 3, 1)),
        ("-before:2026-03 -after:2026-03", (2026, 3, 1), (2026, 4, 1)),
    ],
)
def test_dates_are_periods_in_local_time(text: str, start: tuple[int, ...], end: tuple[int, ...]) -> None:
    def seconds(day: tuple[int, ...]) -> int:
        return int(time.mktime((*day, 0, 0, 0, 0, 0, -1)))  # type: ignore[arg-type]

    assert set(parse_search(text)) == {Term("from", seconds(start)), Term("until", seconds(end))}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seed:fox", "seed: needs a number"),
        ("seed:" + "9" * 30, "seed: needs a number"),
        ("seed:٣", "seed: needs a number"),
        ("before:yesterday", "before: needs a day, month or year"),
        ("before:2026-02-30", "before: needs a day, month or year"),
        ("after:0000", "after: needs a day, month or year"),
        ("on:9999-99", "on: needs a day, month or year"),
        ("is:good", "only knows is:favourite"),
        ("-on:2026", "cannot be excluded"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(JobError, match=sentence):
        parse_search(text)


def test_the_line_for_people_is_a_valid_search_of_every_kind_it_names() -> None:
    kinds = [term.kind for term in parse_search(" ".join(SYNTAX))]
    assert kinds == ["seed", "model", "lora", "tag", "favourite", "frame", "until", "word", "word"]


def test_a_search_of_any_length_and_any_characters_is_read_in_no_time() -> None:
    started = time.thread_time()
    for text in ("a" * 2**20, '"' * 2**16, "-" * 2**16, "tag:" * 2**14, "\0\ud800 \U0001f98a", "seed: " * 2**14):
        assert len(parse_search(text)) <= MAX_SEARCH_LENGTH
    assert time.thread_time() - started < 1
