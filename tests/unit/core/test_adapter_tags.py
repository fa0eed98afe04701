"""Adapters that are written into a prompt."""

import pytest

from ovi_studio.core.adapter_stack import parse_stack
from ovi_studio.core.errors import JobError
from ovi_studio.core.prompt_tags import read_tags
from ovi_studio.core.spec import ClipSpec

MINIMAL = {"variant": "tiny"}


@pytest.mark.parametrize(
    ("prompt", "text", "uses"),
    [
        ("a dog <lora:film:0.8> runs", "a dog runs", [("film", "0.8", "0.8")]),
        ("<lora:film:0.8:0.7>a dog", "a dog", [("film", "0.8", "0.7")]),
        ("<lora:film:1;0:0>a dog", "a dog", [("film", "1;0", "0")]),
        ("<lora:film:video=0.8:audio=0.2>a dog", "a dog", [("film", "0.8", "0.2")]),
        ("a dog <LoRA: film : audio = 1;0 >", "a dog", [("film", "1", "1;0")]),
        ("a <lora:a> b <lora:sub/b.safetensors:-1>", "a b", [("a", "1", "1"), ("sub/b.safetensors", "-1", "-1")]),
        ("a <lora:film:0.9,0.8> <S>Hi<E>", "a <S>Hi<E>", [("film", "0.9,0.8", "0.9,0.8")]),
        ("<S>no tag<E>\n\nline", "<S>no tag<E>\n\nline", []),
        ("two  spaces and a <b>", "two  spaces and a <b>", []),
    ],
)
def test_tags_become_uses_and_leave_the_text(prompt: str, text: str, uses: list[tuple[str, str, str]]) -> None:
    found, stack = read_tags(prompt)
    assert found == text
    assert [(use.name, str(use.video), str(use.audio)) for use in stack] == uses


@pytest.mark.parametrize(
    "tag",
    [
        "<lora:film:loud>",
        "<lora:film:11>",
        "<lora:film:video=1:video=2>",
        "<lora:film:picture=1>",
        "<lora:film:1:2:3>",
        "<lora:film:0.8:audio=1>",
        "<lora:film:0,8>",
        "<lora:film:1:0,5>",
        "<lora:>",
        "<lora::1>",
        "<lora:film:0.8",
        "<lora film>",
        "<lora:film:nan>",
    ],
)
def test_a_wrong_tag_is_refused_by_name(tag: str) -> None:
    with pytest.raises(JobError) as refusal:
        ClipSpec.from_dict(MINIMAL | {"prompt": f"a dog {tag}"})
    assert tag in str(refusal.value)
    assert "<lora:name:0.8>" in str(refusal.value)
    assert len(str(refusal.value)) < 400


def test_a_spec_holds_the_text_and_the_adapters_apart() -> None:
    listed = [{"name": "other", "video": "0.5"}]
    spec = ClipSpec.from_dict(MINIMAL | {"prompt": "a dog <lora:film:0.8>", "adapters": listed})
    assert spec.prompt == "a dog"
    assert spec.adapters == parse_stack([*listed, {"name": "film", "video": "0.8", "audio": "0.8"}])
    assert ClipSpec.from_dict(spec.to_dict()) == spec


def test_a_tag_beside_the_same_adapter_in_the_list_is_refused() -> None:
    with pytest.raises(JobError, match="film is listed twice"):
        ClipSpec.from_dict(MINIMAL | {"prompt": "a dog <lora:film:0.8>", "adapters": [{"name": "film"}]})


def test_a_prompt_of_tags_only_is_empty() -> None:
    with pytest.raises(JobError, match="prompt is empty"):
        ClipSpec.from_dict(MINIMAL | {"prompt": "<lora:film:1>"})
