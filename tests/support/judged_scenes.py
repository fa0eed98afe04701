"""Scenes that the judges see, what spoils them, and what the judges must say."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np

from ovi_studio.demo.judges import ClipMeasurement, ClipVerdict, judge, measure
from ovi_studio.demo.scenes import Motion, Scene, draw_scene, impacts, render

QUESTIONS = ("colour", "shape", "background", "motion", "sound")
VISIBLE = ("colour", "shape", "motion")


def scenes(count: int, seed: int = 0, **fields: object) -> Iterator[Scene]:
    """Yield random scenes with these fields, half of them held out."""
    random = np.random.default_rng(seed)
    while count:
        scene = draw_scene(random, held_out=bool(count % 2))
        if all(getattr(scene, name) == value for name, value in fields.items()):
            count -= 1
            yield scene


def softened(frames: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Degrade frames as a small video VAE does: blurred, and with noise, at about 30 dB."""
    blurred = frames.astype(np.float32)
    for axis in (1, 2):
        blurred = 0.5 * blurred + 0.25 * (np.roll(blurred, 1, axis) + np.roll(blurred, -1, axis))
    blurred[:, -2:] = frames[:, -2:]  # the top and bottom edges are not neighbours
    blurred[:, :2] = frames[:, :2]
    # One field of noise in another order of frames: to draw one for each clip takes longer than to judge it.
    blurred += random.permutation(_noise(frames.shape))
    return np.rint(blurred, out=blurred).clip(0, 255).astype(np.uint8)


@cache
def _noise(shape: tuple[int, ...]) -> np.ndarray:
    return 7 * np.random.default_rng(2).standard_normal(shape, np.float32)


def empty(scene: Scene) -> np.ndarray:
    """Render the scene without its object."""
    return render(replace(scene, scale=1e-3, motion=Motion.STILL, offset=0.0))


def assert_nearly_all_right(verdicts: list[ClipVerdict]) -> None:
    wrong = Counter(question for verdict in verdicts for question in QUESTIONS if not getattr(verdict, question))
    assert all(count <= 0.01 * len(verdicts) for count in wrong.values()), wrong


def assert_impacts_found(measured: ClipMeasurement, scene: Scene) -> None:
    expected = impacts(scene)
    assert len(measured.visible_impacts) == len(measured.audible_impacts) == len(expected)
    for found in (measured.visible_impacts, measured.audible_impacts):
        assert np.abs(found - expected).max() < 0.02
    assert np.abs(measured.gaps).max() < 0.02


def assert_wrong(scene: Scene, frames: np.ndarray, samples: np.ndarray, *questions: str) -> None:
    verdict = judge(measure(frames, samples), scene)
    right = [question for question in questions if getattr(verdict, question)]
    assert not right, f"{scene} is scored as right in {right}"


def blended(first: np.ndarray, second: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Mix two clips, frame by frame."""
    return np.rint(first + (second.astype(np.float32) - first) * part[:, None, None, None]).astype(np.uint8)


def blurred(frames: np.ndarray, pixels: int) -> np.ndarray:
    """Average over squares of pixels around every pixel."""
    soft = frames.astype(np.float32)
    for axis in (1, 2):
        soft = np.mean([np.roll(soft, shift, axis) for shift in range(-(pixels // 2), pixels // 2 + 1)], axis=0)
    return np.rint(soft).astype(np.uint8)
