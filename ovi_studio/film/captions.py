"""Captions of a film as SRT or VTT, from the lines of its shots and what is heard.

A line is where a listener heard its words. Without a listener it is where the voice is loud: within 0.2 s of speech in
a quiet room, and coarser under music (`media.speech_timing`).
"""

import html
import itertools
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ovi_studio.core.errors import JobError
from ovi_studio.core.extras import import_extra
from ovi_studio.core.variants import FRAME_RATE
from ovi_studio.film.cut import CutList, Placed, SpokenLine, lay_out
from ovi_studio.film.pictures import inspect_clips
from ovi_studio.media.small_files import write_atomically
from ovi_studio.media.soundtrack import analyse, read_samples
from ovi_studio.media.speech_timing import SpokenWord, place_lines
from ovi_studio.takes.listener import Listener
from ovi_studio.takes.words import HeardWord, align, tokens

FORMATS = {".srt": "srt", ".vtt": "vtt"}
ROW = 42
"""Characters of a row, and two rows of a caption: the usual limits of broadcasters."""
_ROWS = 2
_NO_BRACES = str.maketrans("{}", "()")
_WITHIN = 1 - 1e-6
"""Where a word ends if the next one begins at 1: just before it, so that both have a time there."""


@dataclass(frozen=True)
class Caption:
    """A text and when the film shows it, in seconds."""

    start: float
    end: float
    text: str
    """Up to two rows."""


def film_captions(cut: CutList, listener: Listener | None = None) -> list[Caption]:
    """The captions of a film in order; raises `JobError` if a shot cannot be read."""
    placed = lay_out(cut, [shape.frames for shape in inspect_clips(cut)])
    captions = [caption for here in placed if here.shot.speech for caption in _shot_captions(here, listener)]
    # Lines of two shots may meet in a fade.
    return [
        Caption(one.start, one.end if later is None else min(one.end, later.start), one.text)
        for one, later in itertools.zip_longest(captions, captions[1:])
    ]


def write_captions(captions: Sequence[Caption], target: Path) -> None:
    """Write captions in the format of the file's suffix; raises `JobError`."""
    if target.suffix.lower() not in FORMATS:
        raise JobError(f"{target.name} is not a file of captions; let its name end in {' or '.join(FORMATS)}.")
    pysubs2 = import_extra("pysubs2", "film", "Writing captions")
    kind = FORMATS[target.suffix.lower()]
    file = pysubs2.SSAFile()
    for caption in captions:
        event = pysubs2.SSAEvent(start=round(1000 * caption.start), end=round(1000 * caption.end))
        # To the library, braces enclose its own formatting; in WebVTT, `<` and `&` begin tags and entities.
        plain = caption.text.translate(_NO_BRACES)
        event.plaintext = html.escape(plain, quote=False) if kind == "vtt" else plain
        file.append(event)
    write_atomically(target, file.to_string(kind).encode())


def locate_lines(lines: Sequence[SpokenLine], heard: Sequence[HeardWord]) -> list[tuple[SpokenWord, ...]] | None:
    """The words of each line where they were heard, those between by interpolation; None if a line was not heard."""
    located = []
    words = [[(word, tokens(word)) for word in line.said.split()] for line in lines]
    wanted = [token for line in words for _, found in line for token in found]
    spoken = [(token, word) for word in heard for token in tokens(word.text)]
    pairs = iter(align(wanted, [token for token, _ in spoken]))
    for line in words:
        matches = [[spoken[pair][1] for _ in found if (pair := next(pairs)) is not None] for _, found in line]
        known = [index for index, match in enumerate(matches) if match]
        if not known:
            return None
        located.append(tuple(_interpolated([word for word, _ in line], matches)))
    return located


def _interpolated(words: Sequence[str], matches: Sequence[Sequence[HeardWord]]) -> Iterator[SpokenWord]:
    """Words with times; those that were not heard lie evenly between, or beside, those that were."""
    known = [(index, match[0].start, match[-1].end) for index, match in enumerate(matches) if match]
    pace = sum(end - start for _, start, end in known) / len(known)
    (first, start, _), (last, _, end) = known[0], known[-1]
    points = [(0.0, max(0.0, start - pace * first))] if first else []
    for index, start_of_word, end_of_word in known:
        points += [(index, start_of_word), (index + _WITHIN, end_of_word)]
    points += [(len(words) - 1 + _WITHIN, end + pace * (len(words) - 1 - last))] if last < len(words) - 1 else []
    places, times = zip(*points, strict=True)
    for index, word in enumerate(words):
        yield SpokenWord(word, *map(float, np.interp([index, index + _WITHIN], places, times)))


def _shot_captions(here: Placed, listener: Listener | None) -> Iterator[Caption]:
    samples = read_samples(here.shot.clip)
    lines = here.shot.speech
    located = locate_lines(lines, listener.listen(samples)) if listener else None
    if located is None:
        located = [block.words for block in place_lines([(line.who, line.said) for line in lines], analyse(samples))]
    offset = (here.start - here.skipped) / FRAME_RATE
    first, last = here.start / FRAME_RATE, here.end / FRAME_RATE
    for words in located:
        for group in _captions_of(words):
            start, end = (min(max(time + offset, first), last) for time in (group[0].start, group[-1].end))
            # Speech in the part that the film leaves out has no caption.
            if end > start:
                yield Caption(start, end, "\n".join(_rows(group)))


def _captions_of(words: Sequence[SpokenWord]) -> Iterator[list[SpokenWord]]:
    """Split a line into captions of up to two rows, of about equal length."""
    text = " ".join(word.text for word in words)
    count = 1
    while True:
        groups = [list(words[a:b]) for a, b in itertools.pairwise(_cuts(words, count)) if a < b]
        if count >= len(words) or all(len(_rows(group)) <= _ROWS for group in groups):
            yield from groups
            return
        count = max(count + 1, len(text) // (ROW * _ROWS))


def _cuts(words: Sequence[SpokenWord], count: int) -> list[int]:
    """Where to divide words into `count` parts of about equal numbers of letters."""
    ends = list(itertools.accumulate(len(word.text) + 1 for word in words))
    inner = [sum(end <= ends[-1] * part / count for end in ends) for part in range(1, count)]
    return [0, *inner, len(words)]


def _rows(words: Sequence[SpokenWord]) -> list[str]:
    text = " ".join(word.text for word in words)
    # Two rows of about equal length read better than a full one and a word.
    width = ROW if len(text) <= ROW else min(ROW, max(len(text) // 2 + 6, max(map(len, text.split()))))
    rows = textwrap.wrap(text, width)
    return rows if len(rows) <= _ROWS else textwrap.wrap(text, ROW)
