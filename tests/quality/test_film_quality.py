"""The embedded model makes one half, or a span of time, for what is kept of real scenes (`docs/film.md` has many)."""

import pytest

from ovi_studio.core.variants import EMBEDDED_BUNDLE
from ovi_studio.demo import evaluate
from ovi_studio.demo.evaluate_film import FilmRow, evaluate_film, film_table

KINDS = ("new sound", "new picture", "span of time", "continued shot")


@pytest.fixture(scope="module")
def rows() -> list[FilmRow]:
    runner = evaluate.clip_runner(EMBEDDED_BUNDLE)
    return evaluate_film(runner, "demo", "lightning", 2, lambda row: None, KINDS)


def test_a_new_half_fits_the_half_that_is_kept(rows: list[FilmRow]) -> None:
    """Two scenes that stand still, with a tone and with wind: in the table nearly all of them are right."""
    new = [row for row in rows if row.kind in ("new sound", "new picture")]
    assert len(new) == 4
    answers = [answer for row in new for answer in row.answers.values() if answer is not None]
    assert sum(answers) >= len(answers) - 2


def test_a_span_that_is_made_again_has_no_seam(rows: list[FilmRow]) -> None:
    spans = [row.answers for row in rows if row.kind == "span of time"]
    assert [answers["seam"] for answers in spans] == [True, True]


def test_a_continued_shot_keeps_colour_and_place(rows: list[FilmRow]) -> None:
    shots = [row.answers for row in rows if row.kind == "continued shot"]
    assert [answers["kept"] for answers in shots] == [True, True]


def test_the_table_has_a_line_for_each_kind(rows: list[FilmRow]) -> None:
    lines = film_table(rows).splitlines()[2:]
    kinds = [line.split(" | ")[0].strip("| ") for line in lines]
    assert kinds == [*KINDS, "new sound, chance", "new picture, chance"]
