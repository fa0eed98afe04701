"""Cutting speech that is too long for a clip: at sentences, then at clauses, and at words if nothing else helps.

What fits is decided by the pace of speech (`core.prompt_check`): a calm one, so that nobody has to hurry. A sentence
that has to be spoken a little faster is not cut.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ovi_studio.core.prompt_check import CALM_PACE, FAST_PACE, count_words
from ovi_studio.film.script import SpeechRow

_SENTENCES = re.compile(
    r"(?:(?<=[.!?…])|(?<=[.!?…][\"'”’)]))(?<!\bMr\.)(?<!\bMrs\.)(?<!\bMs\.)(?<!\bDr\.)(?<!\bSt\.)\s+|(?<=[。！？])\s*"
)
_CLAUSES = re.compile(r"(?<=[,;:—–])\s+|\s+(?=[—–]\s)|(?<=[、，；：])\s*")


def cut_speech(rows: Iterable[SpeechRow], seconds: float) -> list[tuple[SpeechRow, ...]]:
    """The rows of as many clips of this length as it takes to say them calmly, in order."""
    clips: list[list[SpeechRow]] = [[]]
    for row in rows:
        begun = False
        for piece in cut_text(row.said, seconds):
            if clips[-1] and not speech_fits([*(one.said for one in clips[-1]), piece], seconds):
                clips.append([])
                begun = False
            if begun:
                clips[-1][-1] = replace(row, said=_glue(clips[-1][-1].said, piece))
            else:
                clips[-1].append(replace(row, said=piece))
            begun = True
    return [tuple(clip) for clip in clips if clip]


def cut_text(text: str, seconds: float) -> list[str]:
    """A text in pieces, each a sentence or less, none of which has to be spoken too fast."""
    found: list[str] = []
    for sentence in _split(_SENTENCES, text):
        found += [sentence] if _can_be_said(sentence, seconds) else _packed(_parts(sentence, seconds), seconds)
    return found


def speech_fits(said: Sequence[str], seconds: float) -> bool:
    """Whether a clip has the time to say this calmly."""
    return sum(map(count_words, said)) <= CALM_PACE * seconds


def _can_be_said(text: str, seconds: float) -> bool:
    return count_words(text) <= FAST_PACE * seconds


def _parts(sentence: str, seconds: float) -> list[str]:
    """Clauses of a sentence, and the words of those that are too long themselves."""
    found: list[str] = []
    for clause in _split(_CLAUSES, sentence):
        if speech_fits([clause], seconds):
            found.append(clause)
            continue
        for word in clause.split():
            # A script without spaces: two characters are about one word.
            size = max(2, int(2 * CALM_PACE * seconds))
            found += [word] if speech_fits([word], seconds) else [word[i : i + size] for i in range(0, len(word), size)]
    return found


def _packed(parts: Iterable[str], seconds: float) -> list[str]:
    found: list[str] = []
    for part in parts:
        if found and speech_fits([glued := _glue(found[-1], part)], seconds):
            found[-1] = glued
        else:
            found.append(part)
    return found


def _glue(left: str, right: str) -> str:
    return f"{left}{right}" if left[-1:] > "\u2fff" and right[:1] > "\u2fff" else f"{left} {right}"


def _split(pattern: re.Pattern[str], text: str) -> list[str]:
    return [part for part in (piece.strip() for piece in pattern.split(text)) if part]
