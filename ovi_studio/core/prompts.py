"""Prompt text on its way to the text encoder: the variant's audio tag, and cleaning.

Speech stands in `<S>...<E>`; the audio description stands at the end, either in `<AUDCAP>...<ENDAUDCAP>` or after
`Audio:`, depending on which a variant was trained with.
"""

import html
import re
from enum import StrEnum

import ftfy

MAX_PROMPT_LENGTH = 4000
"""Characters; the text encoder reads 512 tokens, so more would be cut off unseen."""


class AudioTag(StrEnum):
    """How a variant marks the audio description."""

    AUDCAP = "AUDCAP"
    AUDIO = "Audio:"

    def wrap(self, description: str) -> str:
        return f"<AUDCAP>{description}<ENDAUDCAP>" if self is AudioTag.AUDCAP else f"Audio: {description}"


def format_prompt(prompt: str, tag: AudioTag) -> str:
    """Turn the other variant's audio tag into this one's, as the official code does."""
    if tag is AudioTag.AUDCAP:
        return re.sub(r"Audio:\s*(.*)", r"<AUDCAP>\1<ENDAUDCAP>", prompt, flags=re.DOTALL)
    return re.sub(r"<AUDCAP>(.*?)<ENDAUDCAP>", r"Audio: \1", prompt, flags=re.DOTALL)


def clean_text(text: str) -> str:
    """Mend mojibake, resolve HTML entities and collapse white space, as before the official tokenizer."""
    unescaped = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", unescaped).strip()
