"""One way from what is asked for to clips: patterns, seeds, sizes, tags, limits, warnings, and rows that are bad."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ovi_studio.core.errors import JobError
from ovi_studio.core.requests import (
    SEED_RANGE,
    BadRow,
    Context,
    Request,
    Row,
    SeedMode,
    base_spec,
    expand_request,
    expand_rows,
)
from ovi_studio.core.sizes import OWN_SIZE, snap_size
from ovi_studio.core.spec import MAX_SEED, ClipSpec
from ovi_studio.core.variants import Variant, published_variants

LONG = "960x960_10s"
SHORT = "720x720_5s"


def find(name: str) -> Variant:
    if name not in published_variants():
        raise JobError(f"There is no model variant {name!r}.")
    return published_variants()[name]


CONTEXT = Context(find)


def request(prompt: str = "a ball", *, count: int = 1, mode: SeedMode = SeedMode.FIXED, **values: Any) -> Request:
    return Request({"prompt": prompt, "variant": LONG, **values}, seed_mode=mode, count=count)


def specs(asked: Request, context: Context = CONTEXT) -> tuple[ClipSpec, ...]:
    return expand_request(asked, context).specs


def test_every_prompt_of_a_pattern_has_the_same_seeds() -> None:
    made = [(spec.prompt, spec.seed) for spec in specs(request("{red|blue} ball", seed="7", count=2))]
    assert made == [("red ball", 7), ("red ball", 8), ("blue ball", 7), ("blue ball", 8)]


def test_wildcards_come_from_the_folder_of_the_request(tmp_path: Path) -> None:
    (tmp_path / "sky.txt").write_text("blue\n{grey}\n")
    made = specs(replace(request("a __sky__ sky"), wildcards=tmp_path))
    assert [spec.prompt for spec in made] == ["a blue sky", "a {grey} sky"]


def test_a_clip_has_the_braces_that_were_written_as_text() -> None:
    assert [spec.prompt for spec in specs(request(r'\{"scene": "{a|b}"\} C:\new'))] == [
        r'{"scene": "a"} C:\new',
        r'{"scene": "b"} C:\new',
    ]


@pytest.mark.parametrize("mode", [SeedMode.FIXED, SeedMode.NEXT])
def test_a_seed_that_is_not_random_is_the_given_one_or_the_default(mode: SeedMode) -> None:
    assert [spec.seed for spec in specs(request(mode=mode, seed=5, count=3))] == [5, 6, 7]
    assert [spec.seed for spec in specs(request(mode=mode, count=2))] == [100, 101]


def test_random_seeds_are_drawn_whatever_seed_is_given() -> None:
    seeds = [spec.seed for spec in specs(request("{a|b}", mode=SeedMode.RANDOM, seed="no number", count=40))]
    assert len(set(seeds)) == 40
    assert seeds[:40] == seeds[40:]
    assert max(seeds) < SEED_RANGE


@pytest.mark.parametrize("given", ["x", "1.5", "-2", "²", str(MAX_SEED + 1), "9" * 5000, True])
def test_a_malformed_seed_is_refused(given: object) -> None:
    with pytest.raises(JobError, match="seed"):
        specs(request(seed=given))


@pytest.mark.parametrize("seed", [-1, "-1", " -1 "])
def test_the_seed_minus_one_is_a_random_one(seed: object) -> None:
    seeds = [spec.seed for spec in specs(request(mode=SeedMode.FIXED, seed=seed, count=40))]
    assert len(set(seeds)) == 40
    assert [spec.seed for spec in specs(request(mode=SeedMode.FIXED, seed=0))] == [0]


def test_seeds_that_follow_stay_in_their_range() -> None:
    assert len(specs(request(seed=MAX_SEED))) == 1
    with pytest.raises(JobError, match="seed must be between"):
        specs(request(seed=MAX_SEED, count=2))


def test_a_count_below_one_is_refused() -> None:
    with pytest.raises(JobError, match="count must be 1 or more, not 0"):
        request(count=0)


def test_more_clips_than_the_place_allows_are_refused_before_they_are_made() -> None:
    assert len(specs(request("{a|b}", count=5), replace(CONTEXT, max_clips=10))) == 10
    with pytest.raises(JobError, match="That makes 12 clips; the maximum is 10"):
        specs(request("{a|b}", count=6), replace(CONTEXT, max_clips=10))
    with pytest.raises(JobError, match="the maximum is 10000"):
        specs(request(count=10**12))


def test_a_ratio_becomes_the_size_of_the_variant_unless_something_else_decides() -> None:
    variant = find(SHORT)
    portrait = replace(request(variant=SHORT), ratio="9:16")
    (spec,) = specs(portrait)
    assert spec.size == snap_size(16, 9, variant.pixel_area)
    (spec,) = specs(replace(portrait, values={**portrait.values, "size": "64x96"}))
    assert spec.size == (64, 96)
    (spec,) = specs(replace(portrait, values={**portrait.values, "image": "first.png"}))
    assert spec.size is None
    with pytest.raises(JobError, match="Unknown aspect ratio '5:4'; choose one of 16:9"):
        specs(replace(portrait, ratio="5:4"))


@pytest.mark.parametrize("name", published_variants())
def test_the_own_size_is_the_default_size_of_every_variant(name: str) -> None:
    variant = find(name)
    (spec,) = specs(replace(request(variant=name), ratio=OWN_SIZE))
    assert spec.size == snap_size(*variant.default_size, variant.pixel_area)


def test_tags_of_each_prompt_become_its_adapters() -> None:
    made = specs(request("a {dog <lora:film:0.5>|cat}", adapters=[{"name": "grain"}]))
    assert [spec.prompt for spec in made] == ["a dog", "a cat"]
    assert [[use.name for use in spec.adapters] for spec in made] == [["grain", "film"], ["grain"]]


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": "{a|}"}, "prompt is empty"),
        ({"prompt": "a \udc80"}, "prompt"),
        ({"prompt": "a" * 5000}, "shorten it to 4000"),
        ({"variant": "1080p"}, "no model variant '1080p'"),
        ({"variant": ""}, "No model variant is given"),
        ({"steps": "many"}, "steps"),
        ({"nonsense": 1}, "Unknown setting nonsense"),
    ],
)
def test_an_impossible_clip_is_refused(values: dict[str, Any], match: str) -> None:
    with pytest.raises(JobError, match=match):
        specs(request(**values))


def test_a_first_frame_is_looked_at_by_the_reader_of_the_place() -> None:
    looked_at: list[tuple[Path | None, bool]] = []

    def look(spec: ClipSpec) -> list[str]:
        looked_at.append((spec.image, spec.raw_colours))
        return ["It was put on white."]

    asked = request("{a|b}", image="first.png", raw_colours="yes", count=3)
    clips = expand_request(asked, replace(CONTEXT, check_picture=look))
    assert looked_at == [(Path("first.png"), True)]
    assert clips.notes == ("It was put on white.",)
    assert expand_request(request("a"), replace(CONTEXT, check_picture=look)).notes == ()


def test_notes_about_the_pictures_of_rows_follow_those_about_the_file_and_are_said_once() -> None:
    context = replace(CONTEXT, check_picture=lambda spec: [f"{spec.image} was put on white."])
    rows = [Row(line, request("a", image=image)) for line, image in ((2, "x.png"), (3, "y.png"), (4, "x.png"))]
    notes = expand_rows(rows, context, ["A column was ignored."]).notes
    assert notes == ("A column was ignored.", "x.png was put on white.", "y.png was put on white.")


def test_the_base_of_a_request_has_its_pattern_and_no_drawn_seed() -> None:
    spec = base_spec(request("{a|b}", mode=SeedMode.RANDOM, seed="4711", steps="3"), CONTEXT)
    assert (spec.prompt, spec.seed, spec.steps) == ("{a|b}", 100, 3)


# Warnings


def test_a_prompt_is_warned_about_once_whatever_the_count() -> None:
    clips = expand_request(request("A {man|woman} says, <S>Hello Audio: wind", count=3), CONTEXT)
    assert len(clips.specs) == 6
    assert [str(warning) for warning in clips.warnings] == [
        f"“A {who} says, <S>Hello Audio: wind”: This speech is not closed; write <E> where it ends. "
        f"Repaired: A {who} says, <S>Hello<E> Audio: wind"
        for who in ("man", "woman")
    ]


def test_speech_is_measured_against_the_clip_of_the_variant() -> None:
    prompt = f"She says, <S>{'word ' * 25}<E> Audio: wind"
    warned = {name: expand_request(request(prompt, variant=name), CONTEXT).warnings for name in (LONG, SHORT)}
    assert warned[LONG] == ()
    assert "too much; shorten it to about 20 words" in str(warned[SHORT][0])


def test_a_good_prompt_and_mere_hints_are_no_warning() -> None:
    for prompt in ("A ball Audio: thump", "A ball", "A ball <AUDCAP>thump<ENDAUDCAP>", "{red|blue} ball"):
        assert expand_request(request(prompt), CONTEXT).warnings == ()


def test_braces_that_are_left_out_are_warned_about() -> None:
    clips = expand_request(request('{"scene": "a ball"}'), CONTEXT)
    assert [spec.prompt for spec in clips.specs] == ['"scene": "a ball"']
    assert "write \\{ and \\} to keep them" in str(clips.warnings[0])


# Rows


def test_good_rows_are_kept_and_bad_ones_named_with_their_line() -> None:
    rows = [
        Row(2, request("{a|b}", count=2)),
        Row(3, JobError("There is no picture.")),
        Row(4, request("{a")),
        Row(7, request("c", variant="1080p")),
        Row(9, request("d", count=2)),
    ]
    clips = expand_rows(rows, CONTEXT)
    made = [("a", 100), ("a", 101), ("b", 100), ("b", 101), ("d", 100), ("d", 101)]
    assert [(spec.prompt, spec.seed) for spec in clips.specs] == made
    assert [row.line for row in clips.bad_rows] == [3, 4, 7]
    assert clips.bad_rows[0] == BadRow(3, "There is no picture.")
    assert clips.bad_rows[2] == BadRow(7, "There is no model variant '1080p'.")


def test_a_prompt_of_several_rows_is_warned_about_once_with_its_first_line() -> None:
    rows = [Row(2, request("He says <S>Hi")), Row(3, request("He says <S>Hi", steps=3)), Row(5, request("<S>Hi"))]
    warnings = [str(warning) for warning in expand_rows(rows, CONTEXT).warnings]
    assert [warning.partition("”")[0] for warning in warnings] == ["line 2, “He says <S>Hi", "line 5, “<S>Hi"]


def test_rows_that_make_too_many_clips_together_are_refused() -> None:
    rows = [Row(line, request("{a|b}", count=2)) for line in range(2, 5)]
    assert len(expand_rows(rows[:2], replace(CONTEXT, max_clips=8)).specs) == 8
    with pytest.raises(JobError, match=r"more than 8 clips \(line 4\); split it"):
        expand_rows(rows, replace(CONTEXT, max_clips=8))
