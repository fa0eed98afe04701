"""Where in a clip the prompt's speech is: an estimate from the prompt and the loudness of the sound.

Nothing is recognised. The lines are laid in their order over the parts of the clip in which the band of voices is loud,
each word as long as its letters suggest. Music or noise under the speech makes it coarse.
"""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ovi_studio.core.prompt_check import text_to_rows
from ovi_studio.media.soundtrack import Soundtrack

_QUIET_PERCENTILE, _LOUD_PERCENTILE = 15, 95
_THRESHOLD = 0.45
"""Of the way from quiet to loud, in decibels."""
_LONGEST_PAUSE = 0.2
"""Seconds; shorter pauses are inside a phrase."""
_SHORTEST_PHRASE = 0.12
"""Seconds; shorter sounds are no speech."""
_MAX_STRETCH = math.log(3)
"""How much longer or shorter than expected a line may be if it then consists of whole phrases, as a logarithm."""
_LONG_PAUSE = 0.6
"""Seconds; a longer pause says no more about where a line ends."""
_MAX_BORDERS = 200
"""Phrases of which lines may consist; a clip has about ten."""
_SNAP = 0.4
"""Seconds; a line that would start this close to a phrase starts with it."""


@dataclass(frozen=True)
class SpokenWord:
    """A word and where it is, in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class SpeechBlock:
    """One line of speech and where it is, in seconds."""

    who: str
    """Who speaks and how, as in the prompt; may be empty."""
    words: tuple[SpokenWord, ...]
    """At least one."""

    @property
    def start(self) -> float:
        return self.words[0].start

    @property
    def end(self) -> float:
        return self.words[-1].end


def estimate_speech(prompt: str, sound: Soundtrack) -> list[SpeechBlock]:
    """The lines of a prompt at their estimated times; none if nobody speaks or nothing is heard."""
    return place_lines(text_to_rows(prompt), sound)


def place_lines(rows: Sequence[tuple[str, str]], sound: Soundtrack) -> list[SpeechBlock]:
    """Lines (who, what is said) at their estimated times; none if nobody speaks or nothing is heard."""
    lines = [(who, said.split()) for who, said in rows if said.split()]
    phrases = loud_phrases(sound)
    if not lines or not phrases:
        return []
    spoken = _SpokenTime(phrases)
    weights = [[_weight(word) for word in words] for _, words in lines]
    lengths = np.array([sum(line) for line in weights])
    lengths *= spoken.total / lengths.sum()
    edges = [0.0, *(_whole_phrases(spoken, lengths) or _snapped(spoken, lengths)), spoken.total]
    blocks = []
    for (who, words), line, start, end in zip(lines, weights, edges, edges[1:], strict=False):
        bounds = start + (end - start) * np.cumsum([0, *line]) / sum(line)
        spans = [(spoken.after(a), spoken.before(b)) for a, b in itertools.pairwise(bounds)]
        found = (SpokenWord(word, a, max(a, b)) for word, (a, b) in zip(words, spans, strict=True))
        blocks.append(SpeechBlock(who, tuple(found)))
    return blocks


def _whole_phrases(spoken: "_SpokenTime", lengths: np.ndarray) -> list[float] | None:
    """Where lines end if each consists of whole phrases: as close to the expected lengths as possible.

    None if there are fewer phrases than lines, or a line would be far too short or too long.
    """
    borders, pauses = spoken.edges, spoken.pauses
    if len(borders) > _MAX_BORDERS:
        return None
    # best[b]: cost of the lines so far if the last one ends at border b, and where they end.
    best: dict[int, tuple[float, list[int]]] = {0: (0.0, [])}
    for length in lengths:
        longer: dict[int, tuple[float, list[int]]] = {}
        for first, (cost, ends) in best.items():
            for last in range(first + 1, len(borders)):
                stretch = abs(math.log((borders[last] - borders[first]) / length))
                # Between two lines people wait longer than within one.
                total = cost + stretch - min(pauses[last], _LONG_PAUSE)
                if stretch < _MAX_STRETCH and (last not in longer or total < longer[last][0]):
                    longer[last] = total, [*ends, last]
        best = longer
    found = best.get(len(borders) - 1)
    return None if found is None else [float(borders[end]) for end in found[1][:-1]]


def _snapped(spoken: "_SpokenTime", lengths: np.ndarray) -> list[float]:
    """Where lines of the expected lengths end, moved to the border of a phrase if one is near."""
    # Half a line at most, so that lines stay in their order.
    reaches = np.minimum(lengths[:-1], lengths[1:]) / 2
    return [spoken.snap(end, min(_SNAP, reach)) for end, reach in zip(np.cumsum(lengths), reaches, strict=False)]


def loud_phrases(sound: Soundtrack) -> list[tuple[float, float]]:
    """(start, end) in seconds of the parts in which a voice may be heard; all of a clip that is equally loud."""
    if not sound.voice.any():
        return []
    quiet, loud = np.percentile(sound.voice, [_QUIET_PERCENTILE, _LOUD_PERCENTILE])
    column = sound.seconds / len(sound.voice)
    active = sound.voice >= quiet + _THRESHOLD * (loud - quiet)
    changes = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(int), [0]])))
    phrases: list[tuple[float, float]] = []
    for start, end in changes.reshape(-1, 2) * column:
        if phrases and start - phrases[-1][1] < _LONGEST_PAUSE:
            phrases[-1] = phrases[-1][0], float(end)
        else:
            phrases.append((float(start), float(end)))
    return [phrase for phrase in phrases if phrase[1] - phrase[0] >= _SHORTEST_PHRASE] or phrases


class _SpokenTime:
    """Time in which somebody speaks, as if there were no pauses, and back to the clip's time."""

    def __init__(self, phrases: Sequence[tuple[float, float]]) -> None:
        self._phrases = phrases
        self.edges = np.cumsum([0.0, *(end - start for start, end in phrases)])
        self.pauses = [0.0, *(after[0] - before[1] for before, after in itertools.pairwise(phrases)), 0.0]
        """Silence after each edge."""
        self.total = float(self.edges[-1])

    def snap(self, spoken: float, reach: float) -> float:
        """The nearest border of two phrases, if there is one within reach."""
        nearest = float(self.edges[np.abs(self.edges - spoken).argmin()])
        return nearest if abs(nearest - spoken) < reach and 0 < nearest < self.total else float(spoken)

    def after(self, spoken: float) -> float:
        """The clip's time; at the end of a phrase, the start of the next one."""
        return self._at(spoken, min(int(np.searchsorted(self.edges, spoken, "right")), len(self._phrases)) - 1)

    def before(self, spoken: float) -> float:
        """The clip's time; at the end of a phrase, that end."""
        return self._at(spoken, max(int(np.searchsorted(self.edges, spoken, "left")), 1) - 1)

    def _at(self, spoken: float, phrase: int) -> float:
        phrase = min(phrase, len(self._phrases) - 1)
        return float(self._phrases[phrase][0] + spoken - self.edges[phrase])


def _weight(word: str) -> float:
    # Every word takes a little time of its own, however short it is.
    return 1.5 + len(re.sub(r"\W", "", word))
