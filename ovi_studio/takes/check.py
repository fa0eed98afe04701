"""`check_take`: what can be measured about a finished clip, to choose between takes or to make another one."""

import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ovi_studio.media.frames import read_frames
from ovi_studio.media.soundtrack import read_samples
from ovi_studio.takes.faults import Fault
from ovi_studio.takes.listener import Listener
from ovi_studio.takes.listeners import check_listener
from ovi_studio.takes.loudness import import_loudness_meter, measure_loudness
from ovi_studio.takes.picture_checks import jump_fault, picture_faults
from ovi_studio.takes.sound_checks import sound_faults
from ovi_studio.takes.words import WordErrors, count_errors

_BESIDE_CUT = 6
"""Frames on each side of a cut that show how much the picture usually changes."""


@dataclass(frozen=True)
class TakeScores:
    """What was measured about a take."""

    loudness: float
    """LUFS; minus infinity for silence."""
    faults: tuple[Fault, ...]
    words: WordErrors | None = None
    """None without a listener."""
    heard: str = ""
    """What the listener heard."""
    listener: str = ""
    """Its name."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "loudness": None if self.loudness == float("-inf") else round(self.loudness, 1),
            "faults": [{"kind": str(fault.kind), "text": fault.text} for fault in self.faults],
            "word_error_rate": None if self.words is None else round(self.words.rate, 3),
            "heard": self.heard,
            "listener": self.listener,
        }


def score_summary(scores: Mapping[str, Any] | None) -> list[str]:
    """What was measured, for people, from scores as JSON values; nothing if a take was not checked."""
    if scores is None or "error" in scores:
        return []
    errors, loudness = scores["word_error_rate"], scores["loudness"]
    words = [] if errors is None else [_words(errors)]
    return [*words, "Silent" if loudness is None else f"{loudness:.0f} LUFS"]


def _words(rate: float) -> str:
    if not rate:
        return "Words are right"
    # With words that nobody asked for, there may be more errors than words.
    return f"{100 * min(rate, 1):.0f}% of the words are wrong"


def fault_lines(scores: Mapping[str, Any] | None) -> list[str]:
    """Sentences about what is wrong with a take, or about why it could not be checked."""
    if scores is None:
        return []
    if "error" in scores:
        return [f"Not checked: {scores['error']}"]
    return [str(fault["text"]) for fault in scores["faults"]]


def check_can_listen(listener: str, checkpoints: Path) -> None:
    """Raise `JobError` unless the words of a take can be checked here, with a listener by its name, or with any."""
    check_listener(listener, checkpoints)
    import_loudness_meter()


def check_take(
    clip: Path, speech: Sequence[str], listener: Listener | None = None, continues: Path | None = None
) -> TakeScores:
    """Measure a clip; raises `JobError` if it cannot be decoded, or a package is missing.

    Args:
        speech: the lines that should be heard, in order.
        continues: the clip whose last frame is this one's first.
    """
    samples = read_samples(clip)
    said = " ".join(speech)
    faults = [*sound_faults(samples, said), *picture_faults(read_frames(clip))]
    if continues is not None:
        start = list(itertools.islice(read_frames(clip), _BESIDE_CUT))
        jump = jump_fault(deque(read_frames(continues), _BESIDE_CUT), start)
        faults += [jump] if jump else []
    loudness = measure_loudness(np.nan_to_num(samples))
    if listener is None:
        return TakeScores(loudness, tuple(faults))
    heard = " ".join(word.text for word in listener.listen(samples))
    return TakeScores(loudness, tuple(faults), count_errors(said, heard), heard, listener.name)
