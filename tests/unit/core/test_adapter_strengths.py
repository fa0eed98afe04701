"""Strengths, their schedules over the steps, and stacks."""

import json
from typing import Any

import pytest
from reference_adapters import use

from ovi_studio.core.adapter_stack import Strength, parse_stack, stack_to_json
from ovi_studio.core.errors import JobError

# Strengths


@pytest.mark.parametrize(
    ("text", "steps", "expected"),
    [
        ("0.8", 3, (0.8,)),
        ("1;0", 4, (1, 1, 0, 0)),
        ("1;0", 7, (1, 1, 1, 1, 0, 0, 0)),
        ("0.9,0.8", 4, (0.9, 0.9, 0.8, 0.8)),
        ("1;0.5,0", 8, (1, 1, 1, 1, 0.5, 0.5, 0, 0)),
        ("1;0", 1, (1,)),
        ("3,2,1", 2, (3, 2)),
        ("1;1", 5, (1,)),
        ("-0.5", 2, (-0.5,)),
    ],
)
def test_a_schedule_divides_the_steps_evenly(text: str, steps: int, expected: tuple[float, ...]) -> None:
    assert Strength.parse(text).over(steps) == expected


@pytest.mark.parametrize("text", ["0.8", "1;0", "0.9,0.8", "1;0.5,0", "-1"])
def test_a_strength_survives_as_text(text: str) -> None:
    assert str(Strength.parse(text)) == text


@pytest.mark.parametrize(
    "value", ["", "strong", "1;;0", "nan", "inf", "11", "1," * 2000, None, True, [1], {"video": 1}]
)
def test_a_malformed_strength_is_refused(value: Any) -> None:
    with pytest.raises(JobError):
        Strength.parse(value)


def test_a_stack_survives_as_json() -> None:
    stack = (use("a.safetensors", "1;0", 0.2, sha256="0" * 64), use("b/c.safetensors"))
    assert parse_stack(json.dumps(stack_to_json(stack))) == stack
    assert parse_stack(None) == parse_stack("") == ()


@pytest.mark.parametrize(
    "value",
    [
        "no json",
        "{}",
        [1],
        [{}],
        [{"name": ""}],
        [{"name": "a\nb"}],
        [{"name": "a", "weight": 1}],
        [{"name": "a", "sha256": "12"}],
        [{"name": "a"}, {"name": "a"}],
        [{"name": str(index)} for index in range(100)],
    ],
)
def test_a_malformed_stack_is_refused(value: Any) -> None:
    with pytest.raises(JobError):
        parse_stack(value)


@pytest.mark.parametrize(
    ("text", "number", "schedule"),
    [
        ("0,8", "0.8", "0.0,8.0"),
        ("-1,25", "-1.25", "-1.0,25.0"),
        (" 1,0 ", "1.0", "1.0,0.0"),
        ("1;0,5", "1;0.5", "1;0.0,5.0"),
    ],
)
def test_a_comma_that_could_be_a_decimal_one_is_asked_about(text: str, number: str, schedule: str) -> None:
    with pytest.raises(JobError, match=f"decimal one; write {number}, or {schedule} for"):
        Strength.parse(text)
    with pytest.raises(JobError, match="decimal one"):
        parse_stack([{"name": "film", "audio": text}])


@pytest.mark.parametrize("text", ["1.0,0", "1,0,1", "0,0", "0;0,0", "0.9,0.8", "1 , 0"])
def test_a_comma_that_can_only_separate_does(text: str) -> None:
    strength = Strength.parse(text)
    assert [float(entry) for span in text.split(";") for entry in span.split(",")] == [
        entry for span in strength.spans for entry in span
    ]
    assert Strength.parse(str(strength)) == strength


def test_what_a_clip_recorded_is_read_as_it_was_meant() -> None:
    recorded = {"name": "film", "sha256": None, "video": "1,0", "audio": "1;0,5"}
    (use,) = parse_stack([recorded])
    assert use.video.over(4) == (1, 1, 0, 0)
    assert use.audio.over(4) == (1, 1, 0, 5)
    assert parse_stack(stack_to_json([use])) == (use,)
    # Once written again, it can be read as if it was typed.
    assert Strength.parse(str(use.video)) == use.video
