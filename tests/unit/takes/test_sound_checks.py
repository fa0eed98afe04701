"""Faults of sound, in arrays and through real mp4 files."""

import dataclasses

import numpy as np
import pytest
from film_shots import noise, tone, write_shot
from spoken import needs_voice, scene

from ovi_studio.media.soundtrack import read_samples
from ovi_studio.takes.faults import FaultKind
from ovi_studio.takes.sound_checks import clipped_seconds, sound_faults

LINE = "Where did you leave the keys?"


def kinds(samples: np.ndarray, speech: str = "") -> list[FaultKind]:
    return [fault.kind for fault in sound_faults(samples, speech)]


@needs_voice
def test_real_speech_has_no_fault_and_through_an_mp4_neither(tmp_path):
    samples, _ = scene([(0.3, "en-us", LINE)], 3)
    stored = read_samples(write_shot(tmp_path, [60] * 72, samples))
    assert kinds(samples, LINE) == kinds(stored, LINE) == []
    assert kinds(samples * np.float32(1.96), LINE) == []


@needs_voice
@pytest.mark.parametrize("stored", [False, True], ids=["array", "mp4"])
def test_speech_that_was_turned_up_too_far_is_clipped(tmp_path, stored):
    samples, _ = scene([(0.3, "en-us", LINE)], 3)
    loud = np.clip(8 * samples, -1, 1)
    if stored:
        loud = read_samples(write_shot(tmp_path, [60] * 72, loud))
    assert kinds(loud, LINE) == [FaultKind.CLIPPED]


def test_a_peak_is_no_clipping_and_a_run_at_the_top_is():
    samples = tone(1, 0.5)
    samples[[100, 5000, 9000]] = 1
    assert clipped_seconds(samples) == 0
    samples[200:280] = 1
    samples[400:480] = -1
    assert clipped_seconds(samples) == pytest.approx(0.01)


@pytest.mark.parametrize("level", [0, 0.001], ids=["silence", "room"])
def test_silence_is_a_fault_only_where_somebody_should_speak(level):
    samples = noise(5, level)
    assert kinds(samples) == []
    assert kinds(samples, LINE) == [FaultKind.SILENT]


@needs_voice
def test_a_line_that_is_said_for_the_most_part_is_not_called_silence():
    samples, said = scene([(0.3, "en-us", LINE)], 3, room=0.001)
    assert kinds(samples, LINE) == []
    cut = samples.copy()
    cut[round(16_000 * (said[0].start + 0.15)) :] = 0
    assert kinds(cut, LINE) == [FaultKind.SILENT]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_a_fault(value):
    samples = noise(1, 0.1)
    samples[500] = value
    (fault,) = sound_faults(samples, LINE)
    assert fault.kind is FaultKind.NOT_FINITE
    assert dataclasses.asdict(fault)["text"] == "Some values of the sound are NaN or infinite."
