"""The step caches that can be named: their rule, what it saves, and everything that offers them offers all of them."""

import re
from pathlib import Path

import pytest

from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.step_caches import OFF, STEP_CACHES, describe_step_caches

DOCS = Path(__file__).parents[3] / "docs"


def computing_both(cache: str, steps: int) -> list[int]:
    """The steps that compute both passes."""
    return [step for step in range(steps) if STEP_CACHES[cache].computes_both_passes(step, steps)]


@pytest.mark.parametrize("steps", [1, 2, 20, 50, 1000])
def test_without_a_cache_every_step_is_computed(steps: int) -> None:
    assert computing_both(OFF, steps) == list(range(steps))


def test_fast_computes_the_first_steps_and_then_as_many_of_them_as_their_distance_needs() -> None:
    assert computing_both("fast", 50) == [0, 1, 2, 3, 7, 11, 15, 19, 23, 27, 31, 35, 39, 43, 47]
    assert computing_both("fast", 20) == [0, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19]
    assert computing_both("fast", 13) == [0, 1, 3, 5, 7, 9, 11]
    assert computing_both("fast", 12) == list(range(12))


@pytest.mark.parametrize(("steps", "speed"), [(20, 1.25), (30, 1.4), (50, 1.5), (100, 1.6)])
def test_fast_saves_forwards(steps: int, speed: float) -> None:
    assert 2 * steps / (steps + len(computing_both("fast", steps))) >= speed


@pytest.mark.parametrize("cache", STEP_CACHES)
@pytest.mark.parametrize("steps", [1, 2, 3, 50])
def test_the_first_step_has_nothing_to_reuse(cache: str, steps: int) -> None:
    assert computing_both(cache, steps)[0] == 0


@pytest.mark.parametrize(
    ("file", "line"), [("command-line.md", r"\| `--step-cache` \|[^|]*\|"), ("api.md", r"`step_cache` \(.*?\)")]
)
def test_the_docs_name_every_cache_and_no_other(file: str, line: str) -> None:
    found = re.search(line, (DOCS / file).read_text(encoding="utf-8"))
    assert found
    assert set(re.findall(r"`(\w+)`", found[0])) - {"step_cache"} == set(STEP_CACHES)


@pytest.mark.parametrize("cache", STEP_CACHES)
def test_people_can_choose_and_read_about_every_cache(cache: str) -> None:
    assert ClipSpec(prompt="a", variant="tiny", step_cache=cache).step_cache == cache
    assert STEP_CACHES[cache].title in describe_step_caches()
