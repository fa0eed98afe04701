"""The analysed sounds of clips, and what is kept of them."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovi_studio.core.clip import Clip
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media import clip_files
from ovi_studio.services import soundtracks
from ovi_studio.services.soundtracks import Soundtracks, spectrogram_png


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "outputs", 1)


def write_clip(folder: Path, seed: int) -> Path:
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, 8000).astype(np.float32)
    return clip_files.write_clip(
        Clip(ClipSpec(prompt="a", variant="demo", seed=seed), np.zeros((12, 64, 64, 3), np.uint8), samples, None),
        folder,
    )


def test_a_sound_is_analysed_once_and_again_when_the_file_changes(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Soundtracks(tmp_path / "state").get(clip)

    def refuse(path: Path) -> None:
        raise AssertionError("analysed again")

    monkeypatch.setattr(soundtracks, "read_soundtrack", refuse)
    # Also by another process, and after a restart.
    again = Soundtracks(tmp_path / "state").get(clip)
    assert again.seconds == first.seconds
    for name in ("peaks", "spectrogram", "voice"):
        assert np.array_equal(getattr(again, name), getattr(first, name))
    clip.write_bytes(write_clip(tmp_path / "others", 2).read_bytes())
    with pytest.raises(AssertionError, match="analysed again"):
        Soundtracks(tmp_path / "state").get(clip)


def test_a_damaged_or_unwritable_cache_costs_time_and_nothing_else(clip: Path, tmp_path: Path) -> None:
    sounds = Soundtracks(tmp_path / "state")
    found = sounds.get(clip)
    (kept,) = (tmp_path / "state").rglob("*.npz")
    kept.write_bytes(b"PK\x03\x04 not an archive")
    assert np.array_equal(sounds.get(clip).peaks, found.peaks)
    (tmp_path / "file").touch()
    assert np.array_equal(Soundtracks(tmp_path / "file").get(clip).peaks, found.peaks)


def test_only_the_latest_analyses_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundtracks, "MAX_KEPT", 2)
    sounds = Soundtracks(tmp_path / "state")
    for seed in range(4):
        sounds.get(write_clip(tmp_path / "outputs", seed))
    assert len(list((tmp_path / "state").rglob("*"))) == 1 + 2


def test_a_clip_that_is_gone_is_reported(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="no longer exists"):
        Soundtracks(tmp_path).get(tmp_path / "gone.mp4")


def test_the_picture_of_a_spectrogram_holds_its_levels_as_opacity(clip: Path, tmp_path: Path) -> None:
    sound = Soundtracks(tmp_path / "state").get(clip)
    with Image.open(io.BytesIO(spectrogram_png(sound))) as picture:
        assert np.array_equal(np.asarray(picture)[..., 1], sound.spectrogram)
        assert (np.asarray(picture)[..., 0] == 255).all()
