"""From a prompt to a suggestion that a person accepts, edits or throws away; the prompt itself is never changed."""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from ovi_studio.core.errors import JobError
from ovi_studio.core.prompt_repair import prompt_warnings
from ovi_studio.core.prompt_tags import split_tags
from ovi_studio.core.prompts import MAX_PROMPT_LENGTH
from ovi_studio.core.variants import Variant
from ovi_studio.services.prompt_helper.answer import cleaned, in_form, problem_of
from ovi_studio.services.prompt_helper.chat import SECONDS, ChatModel, Deadline, Message
from ovi_studio.services.prompt_helper.instructions import correction, instructions, question

_TRIES = 2
"""An answer that does not fit is asked for once more, with the reason."""
_PIECE = re.compile(r"\s+|\w+|<[^<>]*>|[^\w\s]")


class Edit(StrEnum):
    """What happened to a piece of text."""

    KEPT = "kept"
    REMOVED = "removed"
    ADDED = "added"


@dataclass(frozen=True)
class Suggestion:
    """A prompt that is offered in place of another."""

    before: str
    after: str
    warnings: tuple[str, ...] = ()
    """Sentences about the new prompt, as for any prompt."""

    @property
    def changes(self) -> tuple[tuple[Edit, str], ...]:
        """The difference, word by word, in order: all but what was removed is the new prompt."""
        return tuple(difference(self.before, self.after))


@dataclass(frozen=True)
class NoSuggestion:
    """A prompt for which nothing can be suggested."""

    before: str
    reason: str


def suggest(
    chat: ChatModel, prompt: str, variant: Variant, picture: bytes | None = None, seconds: float = SECONDS
) -> Suggestion:
    """Ask a chat model for a better prompt.

    Args:
        prompt: may be a pattern and may contain `<lora:...>` tags, which are kept and not sent; may be empty if there
            is a picture.
        picture: the first frame, a JPEG.
        seconds: in all, both tries together.

    Raises `JobError` if no answer fits in time.
    """
    if len(prompt) > MAX_PROMPT_LENGTH:
        raise JobError(f"The prompt has {len(prompt)} characters; shorten it to {MAX_PROMPT_LENGTH} first.")
    text, tags = split_tags(prompt)
    if not text.strip() and picture is None:
        raise JobError("There is no prompt yet; write a few words about the clip first.")
    deadline = Deadline(seconds)
    messages = [instructions(variant), question(text.strip(), picture)]
    problem = ""
    for _ in range(_TRIES):
        answer = chat.answer(messages, deadline)
        found = in_form(cleaned(answer), variant)
        problem = problem_of(found, text, variant)
        after = " ".join([found, *tags])
        if len(after) > MAX_PROMPT_LENGTH:
            problem = f"It has more than {MAX_PROMPT_LENGTH} characters."
        if not problem:
            return Suggestion(prompt, after, prompt_warnings(found, variant.audio_tag, variant.seconds))
        messages += [Message("assistant", answer), correction(problem)]
    place = f"{chat.place[:1].upper()}{chat.place[1:]}"
    raise JobError(f"{place} gave no usable prompt ({problem.rstrip('.')}); your prompt is unchanged.")


def suggest_all(
    chat: ChatModel, prompts: Iterable[str], variant: Variant, seconds: float, on_each: Callable[[], None]
) -> Iterator[Suggestion | NoSuggestion]:
    """Ask for each of many prompts; one without an answer does not keep the others from theirs."""
    for prompt in prompts:
        try:
            yield suggest(chat, prompt, variant, seconds=seconds)
        except JobError as error:
            yield NoSuggestion(prompt, str(error))
        on_each()


def difference(before: str, after: str) -> Iterator[tuple[Edit, str]]:
    """Yield the pieces of two texts in order, word by word."""
    old, new = _PIECE.findall(before), _PIECE.findall(after)
    for kind, start, end, first, last in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            yield Edit.KEPT, "".join(old[start:end])
            continue
        if start < end:
            yield Edit.REMOVED, "".join(old[start:end])
        if first < last:
            yield Edit.ADDED, "".join(new[first:last])
