"""What was heard, compared with what should be said: words in order, their alignment, and the word error rate."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ovi_studio.core.prompt_check import UNSPACED

_TOKEN = re.compile(rf"{UNSPACED.pattern}|(?:(?!{UNSPACED.pattern})\w)+(?:['’](?!{UNSPACED.pattern})\w+)*")


@dataclass(frozen=True)
class HeardWord:
    """A word that a listener heard, and where it is, in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class WordErrors:
    """How far what was heard is from what should be said."""

    wanted: int
    """Words that should be said."""
    wrong: int
    missing: int
    added: int

    @property
    def rate(self) -> float:
        """Word error rate: errors for each wanted word; if none is wanted, 1 for anything that was heard."""
        errors = self.wrong + self.missing + self.added
        return errors / self.wanted if self.wanted else float(errors > 0)


def tokens(text: str) -> list[str]:
    """The words of a text without punctuation and capitals; in scripts without spaces, every character is one."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    return _TOKEN.findall(plain)


def count_errors(wanted: str, heard: str) -> WordErrors:
    """Compare two texts word by word."""
    said, found = tokens(wanted), tokens(heard)
    pairs = align(said, found)
    matched = [pair for pair in pairs if pair is not None]
    right = sum(said[index] == found[pair] for index, pair in enumerate(pairs) if pair is not None)
    return WordErrors(len(said), len(matched) - right, len(said) - len(matched), len(found) - len(matched))


def align(wanted: Sequence[str], heard: Sequence[str]) -> list[int | None]:
    """For each wanted word, the index of the heard word in its place, or None: the alignment with the fewest errors."""
    cost = np.zeros((len(wanted) + 1, len(heard) + 1), int)
    cost[:, 0], cost[0] = np.arange(len(wanted) + 1), np.arange(len(heard) + 1)
    for row, word in enumerate(wanted, 1):
        for column, other in enumerate(heard, 1):
            cost[row, column] = min(
                cost[row - 1, column - 1] + (word != other), cost[row - 1, column] + 1, cost[row, column - 1] + 1
            )
    pairs: list[int | None] = [None] * len(wanted)
    row, column = len(wanted), len(heard)
    while row and column:
        here = cost[row, column]
        if here == cost[row - 1, column - 1] + (wanted[row - 1] != heard[column - 1]):
            row, column = row - 1, column - 1
            pairs[row] = column
        elif here == cost[row - 1, column] + 1:
            row -= 1
        else:
            column -= 1
    return pairs
