"""Preparation of prompts for the text encoder: the variant's audio tag, and cleaning.

Speech is in `<S>...<E>`; the audio description is at the end, either in `<AUDCAP>...<ENDAUDCAP>` or after
`Audio:`, depending on what the variant was trained with.
"""

import html
import re
from enum import StrEnum

import ftfy

MAX_PROMPT_LENGTH = 4000
"""Characters; the text encoder reads 512 tokens, so anything beyond would be dropped silently."""


class AudioTag(StrEnum):
    """How a variant marks the audio description."""

    AUDCAP = "AUDCAP"
    AUDIO = "Audio:"

    def wrap(self, description: str) -> str:
        return f"<AUDCAP>{description}<ENDAUDCAP>" if self is AudioTag.AUDCAP else f"Audio: {description}"


def format_prompt(prompt: str, tag: AudioTag) -> str:
    """Convert another variant's audio tag to this one, as the official code does."""
    if tag is AudioTag.AUDCAP:
        return re.sub(r"Audio:\s*(.*)", r"<AUDCAP>\1<ENDAUDCAP>", prompt, flags=re.DOTALL)
    return re.sub(r"<AUDCAP>(.*?)<ENDAUDCAP>", r"Audio: \1", prompt, flags=re.DOTALL)


def clean_text(text: str) -> str:
    """Fix mojibake, resolve HTML entities and collapse whitespace, like the official tokenizer."""
    unescaped = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", unescaped).strip()
