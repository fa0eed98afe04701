"""What an answer must be: a prompt in the variant's form that keeps what its author wrote in a form of its own."""

import re
import unicodedata
from collections import Counter

from ovi_studio.core.prompt_check import (
    PaceLevel,
    Severity,
    check_prompt,
    count_words,
    parse_prompt,
    speech_pace,
)
from ovi_studio.core.prompt_patterns import choices
from ovi_studio.core.prompt_repair import repaired
from ovi_studio.core.prompt_spelling import without_tags
from ovi_studio.core.prompts import format_prompt
from ovi_studio.core.variants import Variant

_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"\A```\w*\n(.*?)\n?```\Z", re.DOTALL)
_LABEL = re.compile(r"\A(?:\*\*)?(?:rewritten |improved |new )?prompt:?(?:\*\*)?:?\s+(?=\S)", re.IGNORECASE)
_MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>|<!--|<!DOCTYPE", re.IGNORECASE)
_QUOTES = {'"': '"', "“": "”", "'": "'"}
_ENGLISH = frozenset(
    {"the", "a", "an", "of", "with", "and", "in", "is", "are", "on", "at", "to", "his", "her", "its", "as", "from"}
)
_ENOUGH_WORDS = 8
"""A text of fewer words may have none of the commonest."""


def cleaned(answer: str) -> str:
    """The prompt in an answer: without thoughts, fences, a label and quotation marks around it."""
    text = _THOUGHT.sub("", answer).strip()
    if fenced := _FENCE.match(text):
        text = fenced[1].strip()
    text = _LABEL.sub("", text).strip()
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text.count(text[-1]) <= 2:
        text = text[1:-1].strip()
    return " ".join(text.split())


def in_form(text: str, variant: Variant) -> str:
    """The prompt with its tags in the form of the variant, as far as they can be put right."""
    return repaired(format_prompt(text, variant.audio_tag), variant.audio_tag)


def problem_of(prompt: str, asked: str, variant: Variant) -> str:
    """A sentence about why a prompt cannot be suggested in place of `asked`; empty if it can.

    Args:
        prompt: in the variant's form.
    """
    if not without_tags(prompt).strip():
        return "There is no text in it."
    if _MARKUP.search(without_tags(prompt)):
        return "It contains HTML or tags that the model does not know."
    errors = [found for found in check_prompt(prompt, variant.audio_tag) if found.severity is Severity.ERROR]
    if errors:
        return errors[0].text
    return (
        _choices_changed(prompt, asked)
        or _speech_changed(prompt, in_form(asked, variant), variant)
        or _language_changed(prompt, asked)
    )


def _choices_changed(prompt: str, asked: str) -> str:
    kept, wanted = Counter(choices(prompt)), Counter(choices(asked))
    if missing := list((wanted - kept).elements()):
        return f"{missing[0]} is missing; keep it exactly as it is."
    if added := list((kept - wanted).elements()):
        return f"{added[0]} was not in the prompt; curly braces and double underscores have a meaning."
    return ""


def _speech_changed(prompt: str, asked: str, variant: Variant) -> str:
    said, wanted = (parse_prompt(text).speech for text in (prompt, asked))
    if wanted and [_plain(text) for text in said] != [_plain(text) for text in wanted]:
        spoken = " ".join(f"<S>{text}<E>" for text in wanted)
        return f"What is said must stay word for word, in this order and with nothing added: {spoken}"
    if said and not wanted and asked.strip():
        return "Nobody speaks in the prompt, so nobody may speak in the new one."
    if not wanted and speech_pace(said, variant.seconds).pace is PaceLevel.TOO_MUCH:
        return speech_pace(said, variant.seconds).text
    return ""


def _language_changed(prompt: str, asked: str) -> str:
    scene, before = (without_tags(parse_prompt(text).scene) for text in (prompt, asked))
    if not before.strip():
        return ""
    if _script(scene) != _script(before):
        return "It is in another language than the prompt."
    if count_words(scene) < _ENOUGH_WORDS or not _has_english(before):
        return ""
    return "" if _has_english(scene) else "It is in another language than the prompt."


def _has_english(text: str) -> bool:
    return not _ENGLISH.isdisjoint(text.lower().split())


def _script(text: str) -> str:
    """The script of most letters, as the first word of their Unicode names; empty without letters."""
    scripts = Counter(unicodedata.name(letter, "?").split()[0] for letter in text if letter.isalpha())
    return scripts.most_common(1)[0][0] if scripts else ""


def _plain(text: str) -> str:
    return " ".join(text.split())
