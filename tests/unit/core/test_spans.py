"""Spans of time: their text form, and which latents they keep."""

import pytest

from ovi_studio.core.errors import JobError
from ovi_studio.core.spans import (
    ALL,
    NOTHING,
    Span,
    all_but,
    format_spans,
    kept_of_picture,
    kept_of_sound,
    parse_spans,
)


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("all", ALL),
        (" ALL ", ALL),
        ("0-", ALL),
        ("none", NOTHING),
        ("0-1.5", (Span(0, 1.5),)),
        ("0-1.5, 3-", (Span(0, 1.5), Span(3))),
        ("0.25-0.5;2-3", (Span(0.25, 0.5), Span(2, 3))),
    ],
)
def test_spans_are_read_and_written_back(text: str, spans: tuple[Span, ...]) -> None:
    assert parse_spans(text) == spans
    assert parse_spans(format_spans(spans) or "none") == spans


@pytest.mark.parametrize(
    "text", ["some", "2", "1-0", "1-1", "-1-2", "nan-2", "0-inf", "2-3,1-2", "1-2,2-3", "3-,4-5", 5]
)
def test_what_is_no_span_is_one_sentence(text: object) -> None:
    with pytest.raises(JobError, match=r"^[^\n]+$"):
        parse_spans(text)


def test_all_but_a_span_is_what_is_before_and_after() -> None:
    assert all_but(1, 2) == (Span(0, 1), Span(2))
    assert all_but(0, 2) == (Span(2),)
    assert all_but(1, None) == (Span(0, 1),)
    assert all_but(0, None) == NOTHING


@pytest.mark.parametrize("latents", [1, 2, 5, 19, 31, 61])
def test_everything_keeps_every_latent_and_nothing_none(latents: int) -> None:
    for kept in (kept_of_picture, kept_of_sound):
        assert kept(ALL, latents) == [True] * latents
        assert kept(NOTHING, latents) == [False] * latents


def test_a_latent_frame_is_kept_only_if_all_its_frames_are() -> None:
    # Latent frame 0 is frame 0, and frame k is frames 4k - 3 to 4k, of 24 a second.
    assert kept_of_picture((Span(0, 5 / 24),), 5) == [True, True, False, False, False]
    assert kept_of_picture((Span(0, 8.9 / 24),), 5) == [True, True, False, False, False]
    assert kept_of_picture((Span(1 / 24, 9 / 24),), 5) == [False, True, True, False, False]
    assert kept_of_sound((Span(0.032, 0.1),), 5) == [False, True, True, False, False]


def test_every_span_keeps_what_lies_inside_it_and_no_more() -> None:
    for start in range(0, 90, 7):
        for end in range(start + 12, 121, 11):
            span = Span(start / 24, end / 24)
            for index, kept in enumerate(kept_of_picture((span,), 31)):
                frames = [0] if index == 0 else list(range(4 * index - 3, 4 * index + 1))
                assert kept == (start <= frames[0] and frames[-1] < end), (start, end, index)


def test_a_span_that_keeps_no_whole_latent_is_refused_with_the_step() -> None:
    with pytest.raises(JobError, match=r"1-1\.1 seconds keep nothing of the picture, .* steps of 0\.167 s"):
        kept_of_picture((Span(0, 0.5), Span(1, 1.1)), 31)
    with pytest.raises(JobError, match=r"nothing of the sound, which lasts 0\.16 s"):
        kept_of_sound((Span(2),), 5)
