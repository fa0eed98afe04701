"""Real speech for tests, by espeak-ng, and where in the sound each line is."""

import io
import shutil
import subprocess
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from ovi_studio.core.variants import SAMPLE_RATE

needs_voice = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="espeak-ng is not installed (Debian: espeak-ng)"
)


@dataclass(frozen=True)
class Said:
    """A line in a sound, in seconds."""

    text: str
    start: float
    end: float


@cache
def speak(text: str, voice: str = "en-us", rate: int = 150) -> np.ndarray:
    """The line as float32 (N,), from its first to its last audible sample, peak 0.5."""
    command = ["espeak-ng", "-v", voice, "-s", str(rate), "--stdout", text]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    with wave.open(io.BytesIO(data)) as file:
        stored = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32)
    times = np.arange(round(len(samples) * SAMPLE_RATE / stored)) * stored / SAMPLE_RATE
    samples = np.interp(times, np.arange(len(samples)), samples).astype(np.float32)
    samples *= 0.5 / np.abs(samples).max()
    audible = np.flatnonzero(np.abs(samples) > 0.01)
    return samples[audible[0] : audible[-1] + 1]


def scene(
    lines: Sequence[tuple[float, str, str]], seconds: float, room: float = 0.003, seed: int = 0
) -> tuple[np.ndarray, list[Said]]:
    """Lines (start, voice, text) in a room with noise of this root mean square: samples, and where the lines are."""
    samples = (room * np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)
    said = []
    for start, voice, text in lines:
        line, first = speak(text, voice), round(start * SAMPLE_RATE)
        assert first + len(line) <= len(samples), f"the line ends at {(first + len(line)) / SAMPLE_RATE:.2f} s"
        samples[first : first + len(line)] += line
        said.append(Said(text, start, start + len(line) / SAMPLE_RATE))
    return samples, said
