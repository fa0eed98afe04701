"""The embedded model's refiner draws in every frame what the clip shows, and leaves alone what it does not know."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from torch.nn import functional

from ovi_studio.core.variants import EMBEDDED_BUNDLE
from ovi_studio.demo.evaluate import load
from ovi_studio.demo.outlines import melted, unknown
from ovi_studio.demo.scenes import Scene, Shape, draw_outline, draw_scene, render
from ovi_studio.demo.seeing import measure_video
from ovi_studio.models.video_vae import from_bytes, refine, to_bytes

SHOWN = range(0, 36, 2)
"""Frames of a scene that are a clip here."""
MELTED = 0.4
"""Fraction of them whose outline is not the scene's."""


@pytest.fixture(scope="module")
def video_vae() -> AutoencoderKLWan:
    return load(EMBEDDED_BUNDLE).models.video_vae


def scenes() -> list[Scene]:
    """Two scenes of each shape."""
    random = np.random.default_rng(11)
    found: dict[Shape, list[Scene]] = {shape: [] for shape in Shape}
    while any(len(each) < 2 for each in found.values()):
        scene = draw_scene(random)
        if len(found[scene.shape]) < 2:
            found[scene.shape].append(scene)
    return [scene for each in found.values() for scene in each]


def soft(frames: np.ndarray) -> np.ndarray:
    """Frames as a decoder draws them: blurred."""
    pixels = torch.from_numpy(frames.astype(np.float32)).permute(0, 3, 1, 2)
    padded = functional.pad(pixels, (1, 1, 1, 1), mode="replicate")
    return functional.avg_pool2d(padded, 3, 1).permute(0, 2, 3, 1).round().to(torch.uint8).numpy()


def redrawn(video_vae: AutoencoderKLWan, frames: np.ndarray) -> np.ndarray:
    return to_bytes(refine(video_vae, from_bytes(frames)[0]).clamp(-1, 1))


def test_frames_that_melt_are_redrawn_as_the_rest_of_the_clip(video_vae: AutoencoderKLWan) -> None:
    random = np.random.default_rng(5)
    before, after = [], []
    for scene in scenes():
        frames = [
            draw_outline(scene, melted(scene, number, random))
            if random.random() < MELTED
            else render(scene, slice(number, number + 1))[0]
            for number in SHOWN
        ]
        clip = soft(np.stack(frames))
        before.append(measure_video(clip).shape is scene.shape)
        after.append(measure_video(redrawn(video_vae, clip)).shape is scene.shape)
    assert sum(before) <= 4, "the clips are not damaged enough to show anything"
    assert sum(after) >= 7


def test_other_shapes_stay_what_they_are_and_get_sharper(video_vae: AutoencoderKLWan) -> None:
    for number, scene in enumerate(scenes()):
        # The same outline in every frame.
        outlines = [unknown(scene, frame, np.random.default_rng(number)) for frame in SHOWN]
        drawn = np.stack([draw_outline(scene, outline) for outline in outlines])
        clip = soft(drawn)
        error_before, error_after = (np.abs(frames - drawn).mean() for frames in (clip, redrawn(video_vae, clip)))
        assert error_after < error_before, scene
