"""Faults of pictures, in arrays and through real mp4 files."""

import numpy as np
import pytest

from ovi_studio.core.clip import Clip
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media.clip_files import write_clip
from ovi_studio.media.frames import read_frames
from ovi_studio.takes.faults import FaultKind
from ovi_studio.takes.picture_checks import jump_fault, picture_faults

COUNT, HEIGHT, WIDTH = 72, 64, 96


def ball(count: int = COUNT, start: float = 20.0, step: float = 0.5, back: int = 60) -> np.ndarray:
    """A bright ball that moves slowly over a plain ground."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    places = start + step * np.arange(count)
    shape = [np.hypot(rows - 30, columns - place) < 10 for place in places]
    return np.stack([np.where(inside[..., None], (230, 180, 60), (back, back, back + 20)) for inside in shape]).astype(
        np.uint8
    )


def stored(folder, frames: np.ndarray) -> list[np.ndarray]:
    clip = Clip(ClipSpec(prompt="a ball", variant="960x960_5s"), frames, np.zeros(len(frames) * 667, np.float32))
    return list(read_frames(write_clip(clip, folder)))


def kinds(frames) -> list[FaultKind]:
    return [fault.kind for fault in picture_faults(frames)]


def test_a_slow_motion_and_a_dark_scene_have_no_fault(tmp_path):
    assert kinds(ball(step=0.1)) == []
    assert kinds(stored(tmp_path, ball())) == []
    dark = ball(back=4) // 2
    assert kinds(dark) == kinds(stored(tmp_path, dark)) == []


def test_black_frames_are_found(tmp_path):
    frames = ball()
    frames[20:40] = 5
    assert kinds(frames) == kinds(stored(tmp_path, frames)) == [FaultKind.BLACK]
    # A fade from black is short.
    frames = ball()
    frames[:6] = 0
    assert kinds(frames) == []
    assert kinds(np.zeros_like(frames)) == [FaultKind.BLACK]


def test_a_frozen_picture_is_found(tmp_path):
    frames = ball()
    frames[30:] = frames[30]
    assert kinds(frames) == kinds(stored(tmp_path, frames)) == [FaultKind.FROZEN]
    frames = ball()
    frames[30:48] = frames[30]
    assert kinds(frames) == [], "a pause of under a second is none"


def test_frames_that_are_no_numbers_are_found():
    frames = ball().astype(np.float32)
    frames[10, 5, 5] = np.nan
    frames[11] = np.inf
    (fault,) = picture_faults(frames)
    assert (fault.kind, fault.text) == (FaultKind.NOT_FINITE, "2 frames contain NaN or infinite values.")


@pytest.mark.parametrize("step", [0.5, 6.0], ids=["slow", "fast"])
def test_a_shot_that_goes_on_does_not_jump_and_another_scene_does(tmp_path, step):
    whole = ball(12, step=step)
    before, after = whole[:6], whole[5:]
    assert jump_fault(before, after) is None
    assert jump_fault(stored(tmp_path, before), stored(tmp_path, after)) is None
    other = ball(6, start=20 + 5 * step, step=step, back=200)
    for one, two in ((before, other), (stored(tmp_path, before), stored(tmp_path, other))):
        fault = jump_fault(one, two)
        assert fault is not None
        assert fault.kind is FaultKind.JUMP
