"""What a clip's sound looks like."""

from pathlib import Path

import av
import numpy as np
import pytest

from ovi_studio.core.clip import Clip
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import SAMPLE_RATE
from ovi_studio.media import clip_files, soundtrack
from ovi_studio.media.soundtrack import BANDS, MAX_COLUMNS, analyse, read_soundtrack


def tone(frequency: float, seconds: float, loudness: float = 0.5) -> np.ndarray:
    return (loudness * np.sin(2 * np.pi * frequency * np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE)).astype(
        np.float32
    )


def clip_with(samples: np.ndarray, folder: Path) -> Path:
    frames = np.zeros((24, 64, 64, 3), np.uint8)
    return clip_files.write_clip(Clip(ClipSpec(prompt="a", variant="demo"), frames, samples, None), folder)


def test_the_sound_of_a_real_mp4_is_seen_where_it_is_heard(tmp_path: Path) -> None:
    samples = np.concatenate([np.zeros(SAMPLE_RATE // 2, np.float32), tone(1000, 0.5)])
    found = read_soundtrack(clip_with(samples, tmp_path))
    assert found.seconds == pytest.approx(1, abs=0.1)
    half = len(found.peaks) * 0.5 / found.seconds
    quiet, loud = found.peaks[: int(half) - 8], found.peaks[int(half) + 8 : int(1.9 * half)]
    assert np.abs(quiet).max() <= 6
    assert loud[:, 1].min() > 40
    assert loud[:, 0].max() < -40
    assert found.voice[: int(half) - 8].max() < 100 < found.voice[int(half) + 8 : int(1.9 * half)].min()


def test_high_sounds_are_at_the_top_of_the_spectrogram() -> None:
    rows = [int(analyse(tone(frequency, 1)).spectrogram[:, 50].argmax()) for frequency in (200, 1000, 3000, 7000)]
    assert rows == sorted(rows, reverse=True)
    assert rows[0] > 0.8 * BANDS
    assert rows[-1] < 0.1 * BANDS


def test_silence_is_not_amplified() -> None:
    found = analyse(np.full(SAMPLE_RATE, 1e-7, np.float32))
    assert not found.spectrogram.any()
    assert not found.voice.any()
    assert not found.peaks.any()


@pytest.mark.parametrize("seconds", [0.0001, 0.01, 1, 300])
def test_any_length_gives_columns_of_equal_duration_and_not_too_many(seconds: float) -> None:
    found = analyse(np.ones(max(1, int(seconds * SAMPLE_RATE)), np.float32))
    count = len(found.voice)
    assert 1 <= count <= MAX_COLUMNS
    assert found.peaks.shape == (count, 2)
    assert found.spectrogram.shape == (BANDS, count)
    assert (found.peaks[:, 1] == 127).all()


def test_values_that_are_no_numbers_do_no_harm() -> None:
    found = analyse(np.concatenate([tone(500, 0.5), np.full(100, np.nan, np.float32), tone(500, 0.5)]))
    assert found.spectrogram.max() == 255
    with pytest.raises(JobError, match="no sound"):
        analyse(np.zeros(0, np.float32))


def test_reading_stops_at_the_longest_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundtrack, "MAX_SECONDS", 0.5)
    assert read_soundtrack(clip_with(tone(500, 2), tmp_path)).seconds == 0.5


def test_a_file_without_sound_or_that_is_broken_is_refused_in_a_sentence(tmp_path: Path) -> None:
    silent = tmp_path / "silent.mp4"
    with av.open(str(silent), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width = stream.height = 64
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        container.mux(stream.encode(None))
    with pytest.raises(JobError, match="no sound"):
        read_soundtrack(silent)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clip_with(tone(500, 1), tmp_path).read_bytes()[:900])
    for path in (broken, tmp_path / "missing.mp4"):
        with pytest.raises(JobError, match="cannot be decoded"):
            read_soundtrack(path)
