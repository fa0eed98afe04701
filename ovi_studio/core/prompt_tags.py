"""Adapter tags in a prompt: `<lora:film:0.8>`, `<lora:film:0.8:0.2>` (video, audio), `<lora:film:audio=1;0>`. No torch.

A tag is an instruction and not part of the description, so it is removed from the text. Strengths are written as in
`adapter_stack`; a tower that is not mentioned has strength 1, as everywhere else.
"""

import re

from ovi_studio.core.adapter_stack import AdapterUse, Stack
from ovi_studio.core.errors import JobError

_TAG = re.compile(r"<lora:([^<>]*)>", re.IGNORECASE)
_OPEN = re.compile(r"<lora\b[^<>]{0,60}>?", re.IGNORECASE)
_FORM = "write <lora:name:0.8>, or <lora:name:0.8:0.2> for video and audio"


def read_tags(prompt: str) -> tuple[str, Stack]:
    """The prompt without its tags, and the adapters that the tags name, in order.

    Raises `JobError` that quotes an invalid tag.
    """
    uses = tuple(_use(match[0], match[1]) for match in _TAG.finditer(prompt))
    text = _without(prompt) if uses else prompt
    if left := _OPEN.search(text):
        raise JobError(f"The tag {left[0]!r} is not closed or has no name; {_FORM}.")
    return text, uses


def split_tags(prompt: str) -> tuple[str, tuple[str, ...]]:
    """The prompt without its tags, and the tags as they are written."""
    tags = tuple(match[0] for match in _TAG.finditer(prompt))
    return (_without(prompt) if tags else prompt), tags


def _without(prompt: str) -> str:
    # A tag between two words leaves one space.
    return re.sub(r"[ \t]*\x00[ \t]*", " ", _TAG.sub("\x00", prompt)).strip()


def _use(tag: str, content: str) -> AdapterUse:
    name, *parts = (part.strip() for part in content.split(":"))
    try:
        return AdapterUse.from_dict({"name": name, **_strengths(parts)})
    except JobError as error:
        raise JobError(f"The tag {tag[:100]} is not valid: {error} ({_FORM})") from error


def _strengths(parts: list[str]) -> dict[str, str]:
    if not parts:
        return {}
    if len(parts) <= 2 and not any("=" in part for part in parts):
        return {"video": parts[0], "audio": parts[-1]}
    found: dict[str, str] = {}
    for part in parts:
        tower, equals, strength = (piece.strip() for piece in part.partition("="))
        if not equals or tower not in ("video", "audio") or tower in found:
            raise JobError(f"{part[:40]!r} is not a valid strength of video or audio.")
        found[tower] = strength
    return found
