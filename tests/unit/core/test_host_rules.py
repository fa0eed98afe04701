"""Sizes and prompt texts are exactly what the official code makes of them."""

import json

import pytest
from places import REFERENCE

from ovi_studio.core.prompts import AudioTag, clean_text, format_prompt
from ovi_studio.core.sizes import picture_size, snap_size
from ovi_studio.core.variants import published_variants

REFERENCE = json.loads((REFERENCE / "host.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", REFERENCE["snap_size"], ids=lambda case: f"{case['height']}x{case['width']}")
def test_size_is_scaled_to_the_area_and_snapped(case):
    assert list(snap_size(case["height"], case["width"], case["area"])) == case["out"]


@pytest.mark.parametrize("case", REFERENCE["image_size"], ids=lambda case: f"{case['height']}x{case['width']}")
def test_size_for_a_picture_is_the_official_one(case):
    assert list(picture_size(case["height"], case["width"], case["area"])) == case["out"]


@pytest.mark.parametrize("case", REFERENCE["prompt_format"], ids=lambda case: case["prompt"][:20])
def test_prompt_gets_the_tag_of_the_variant(case):
    for name, expected in case.items():
        if name != "prompt":
            assert format_prompt(case["prompt"], published_variants()[name].audio_tag) == expected


@pytest.mark.parametrize("tag", AudioTag)
def test_prompt_with_the_right_tag_stays_as_it_is(tag):
    prompt = f"A dog. {tag.wrap('barking')}"
    assert format_prompt(prompt, tag) == prompt


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  a \t b\n\nc ", "a b c"),
        ("caf\u00c3\u00a9", "café"),
        ("rock &amp;amp; roll", "rock & roll"),
        ("a&nbsp;b", "a b"),
        ("<S>Hello<E>", "<S>Hello<E>"),
        ("\u3000雨\u3000", "雨"),
    ],
)
def test_text_is_mended_unescaped_and_collapsed(text, cleaned):
    assert clean_text(text) == cleaned
