"""The embedded model's refiner draws in every frame what the clip shows, and leaves alone what it does not know."""

import copy

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from torch.nn import functional

from ovi_studio.core.variants import EMBEDDED_BUNDLE
from ovi_studio.demo.evaluate import load
from ovi_studio.demo.outlines import unknown
from ovi_studio.demo.scenes import RADIUS, SIDE, Scene, Shape, distance, draw_outline, draw_scene, path, render
from ovi_studio.demo.seeing import measure_video
from ovi_studio.models.video_vae import from_bytes, refine, to_bytes

SHOWN = range(0, 36, 2)
"""Frames of a scene that are a clip here."""
OTHER = {Shape.BALL: Shape.SQUARE, Shape.SQUARE: Shape.BALL, Shape.TRIANGLE: Shape.BALL}
"""What the corners of these shapes melt into, or a ball gets corners from."""


@pytest.fixture(scope="module")
def video_vae() -> AutoencoderKLWan:
    return load(EMBEDDED_BUNDLE).models.video_vae


def scenes(*shapes: Shape) -> list[Scene]:
    """Two scenes of each of these shapes."""
    random = np.random.default_rng(11)
    found: dict[Shape, list[Scene]] = {shape: [] for shape in Shape}
    while any(len(each) < 2 for each in found.values()):
        scene = draw_scene(random)
        if len(found[scene.shape]) < 2:
            found[scene.shape].append(scene)
    return [scene for shape in shapes for scene in found[shape]]


def melted(scene: Scene, frame: int) -> np.ndarray:
    """A frame whose outline is half that of the scene and half another one."""
    grid = (np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE
    x, y = path(scene)[frame]
    own, other = (
        distance(shape, grid[None] - x, grid[:, None] - y, RADIUS * scene.scale)
        for shape in (scene.shape, OTHER[scene.shape])
    )
    return draw_outline(scene, (own + other) / 2)


def soft(frames: np.ndarray) -> np.ndarray:
    """Frames as a decoder draws them: blurred."""
    pixels = torch.from_numpy(frames.astype(np.float32)).permute(0, 3, 1, 2)
    padded = functional.pad(pixels, (1, 1, 1, 1), mode="replicate")
    return functional.avg_pool2d(padded, 3, 1).permute(0, 2, 3, 1).round().to(torch.uint8).numpy()


def redrawn(video_vae: AutoencoderKLWan, frames: np.ndarray) -> np.ndarray:
    return to_bytes(refine(video_vae, from_bytes(frames)[0]).clamp(-1, 1))


def test_every_second_frame_melts_and_is_redrawn_as_the_others(video_vae: AutoencoderKLWan) -> None:
    right = []
    for scene in scenes(*OTHER):
        drawn = [
            melted(scene, frame) if index % 2 else render(scene, slice(frame, frame + 1))[0]
            for index, frame in enumerate(SHOWN)
        ]
        clip = soft(np.stack(drawn))
        right.append([measure_video(frames).shape is scene.shape for frames in (clip, redrawn(video_vae, clip))])
    before, after = np.sum(right, axis=0)
    assert before <= 2
    assert after == len(right)


def test_other_shapes_stay_what_they_are(video_vae: AutoencoderKLWan) -> None:
    errors = []
    for number, scene in enumerate(scenes(*Shape)):
        # The same outline in every frame.
        outlines = [unknown(scene, frame, np.random.default_rng(number)) for frame in SHOWN[:6]]
        drawn = np.stack([draw_outline(scene, outline) for outline in outlines])
        clip = soft(drawn)
        errors.append([np.abs(frames - drawn).mean() for frames in (clip, redrawn(video_vae, clip))])
    before, after = np.mean(errors, axis=0)
    assert after < before


def test_corrections_in_bfloat16_are_those_in_float32_but_for_a_level(video_vae: AutoencoderKLWan) -> None:
    clip = from_bytes(soft(render(scenes(Shape.TRIANGLE)[0], slice(6))))[0].transpose(0, 1)
    levels = [
        (127.5 * copy.deepcopy(video_vae.refiner).to(dtype)(clip)).round() for dtype in (torch.bfloat16, torch.float32)
    ]
    errors = (levels[0] - levels[1]).abs()
    assert (levels[1] - 127.5 * clip).abs().mean() > 1
    assert errors.mean() < 0.25
    assert (errors > 1).float().mean() < 0.002
