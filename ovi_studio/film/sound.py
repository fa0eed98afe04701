"""The sound of a film: shots at one loudness, equal-power cross-fades, room tone where neither shot has sound.

At a cut each shot fades for a few milliseconds into the tone of both rooms, so that the waveform has no step; where a
clip's sound is shorter than its picture (by 18 ms in a five-second clip), the tone goes on. The powers of all that is
heard at one time add up to one. Shots are read one by one.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ovi_studio.core.variants import SAMPLE_RATE
from ovi_studio.film.cut import Placed, sample_at
from ovi_studio.film.levels import amplify, shot_gain
from ovi_studio.film.room_tone import make_tone, room_spectrum

EDGE = SAMPLE_RATE // 100
"""Samples in which a shot fades into the room tone at a cut."""

ReadSound = Callable[[Placed], np.ndarray]
"""The sound of a whole clip: float32 (N,), mono, `SAMPLE_RATE` a second."""


def mix_sound(placed: Sequence[Placed], read: ReadSound, loudness: float) -> Iterator[np.ndarray]:
    """Yield the sound of a film in order, in pieces; together `sample_at` of its end. Raises `JobError`."""
    mixer = _Mixer()
    for number, here in enumerate(placed):
        samples = read(here)
        mixer.add(here, amplify(samples, shot_gain(samples, loudness)), last=number == len(placed) - 1)
        yield mixer.take()


class _Mixer:
    """The part of the sound that shots to come may still change, from sample `_start` of the film."""

    def __init__(self) -> None:
        self._start = 0
        self._sound = np.zeros(0, np.float32)
        self._power = np.zeros(0, np.float32)
        self._ready = 0
        """Up to here nothing will change, until a shot is added: the junction with the next shot begins here."""
        self._spectrum: np.ndarray | None = None
        self._shots = 0

    def add(self, here: Placed, samples: np.ndarray, last: bool) -> None:
        """Add a shot behind and over the ones before it, and fill the junction."""
        start, end = sample_at(here.start), sample_at(here.end)
        skipped = sample_at(here.skipped)
        heard = samples[skipped : skipped + end - start]
        envelope = _envelope(here, len(heard), last)
        before_end = self._start + len(self._sound)
        self._sound, self._power = (np.pad(kept, (0, end - before_end)) for kept in (self._sound, self._power))
        offset = start - self._start
        self._sound[offset : offset + len(heard)] += heard * envelope
        self._power[offset : offset + len(heard)] += np.square(envelope)
        spectrum = room_spectrum(heard)
        if self._spectrum is not None:
            self._fill((self._spectrum + spectrum) / 2, max(start + EDGE, before_end))
        self._spectrum = spectrum
        self._shots += 1
        cut = sample_at(here.end - here.fade_out)
        self._ready = max(min(cut, start + len(heard)) - EDGE, start + EDGE, self._ready)
        if last:
            self._fill(spectrum, end)
            self._ready = end

    def take(self) -> np.ndarray:
        """What no other shot changes, once."""
        count = self._ready - self._start
        taken, self._sound, self._power = self._sound[:count], self._sound[count:], self._power[count:]
        self._start = self._ready
        return taken

    def _fill(self, spectrum: np.ndarray, end: int) -> None:
        """Let the room tone be heard where the power of the shots is below one."""
        zone = slice(self._ready - self._start, end - self._start)
        missing = np.sqrt(np.maximum(0, 1 - self._power[zone]))
        self._sound[zone] += missing * make_tone(spectrum, len(missing), self._shots)
        self._power[zone] = 1


def _envelope(here: Placed, heard: int, last: bool) -> np.ndarray:
    """The amplitude of a shot, (heard,): rises and falls within its fades, or at its edges where it has none."""
    start, end = sample_at(here.start), sample_at(here.end)
    length = end - start
    envelope = np.ones(length, np.float32)
    if rise := sample_at(here.start + here.fade_in) - start or (EDGE if here.start else 0):
        envelope[:rise] *= _rising(rise)
    if fall := end - sample_at(here.end - here.fade_out) or (0 if last else EDGE):
        envelope[length - fall :] *= _rising(fall)[::-1]
    envelope = envelope[:heard]
    if heard < length:
        edge = min(EDGE, heard)
        envelope[heard - edge :] *= _rising(edge)[::-1]
    return envelope


def _rising(length: int) -> np.ndarray:
    """Amplitudes from 0 to 1, whose squares add up to one with the same ones reversed."""
    return np.sin(math.pi / 2 * (np.arange(length) + 0.5) / max(1, length)).astype(np.float32)
