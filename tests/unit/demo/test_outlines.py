"""Outlines that no scene has, which the refiner is trained on."""

import numpy as np
import pytest

from ovi_studio.demo.outlines import melted, unknown
from ovi_studio.demo.refining import _to_pixels
from ovi_studio.demo.scenes import FRAMES, RADIUS, Scene, Shape, draw_outline, draw_scene, path, render
from ovi_studio.demo.seeing import measure_video
from ovi_studio.models.video_vae import from_bytes

Outline = np.ndarray


def scenes(count: int) -> list[tuple[Scene, int]]:
    """Random scenes, each with the number of a frame."""
    random = np.random.default_rng(7)
    return [(draw_scene(random), int(random.integers(FRAMES))) for _ in range(count)]


def shape_in(scene: Scene, away: Outline) -> Shape | None:
    return measure_video(np.rint(draw_outline(scene, away)).astype(np.uint8)[np.newaxis]).shape


@pytest.mark.parametrize("draw", [melted, unknown])
def test_the_outline_is_around_the_middle_of_the_object_and_about_as_large(draw) -> None:
    random = np.random.default_rng(0)
    for scene, frame in scenes(20):
        rows, columns = np.nonzero(draw(scene, frame, random) < 0)
        inside = np.stack([columns, rows], axis=1) / 144
        assert np.linalg.norm(inside - path(scene)[frame], axis=1).max() < 1.6 * RADIUS * scene.scale
        assert 0.02 < len(inside) / 144**2 < 0.2


def test_melted_outlines_are_others_and_often_named_otherwise() -> None:
    random = np.random.default_rng(0)
    changed, named = [], []
    for scene, frame in scenes(40):
        away = melted(scene, frame, random)
        drawn = draw_outline(scene, away)
        changed.append(np.abs(drawn - render(scene, slice(frame, frame + 1))[0]).max() > 60)
        named.append(shape_in(scene, away) is scene.shape)
    assert np.mean(changed) > 0.7, "some shapes melt into themselves"
    assert 0.2 < np.mean(named) < 0.8


def test_few_other_shapes_are_taken_for_those_of_scenes() -> None:
    random = np.random.default_rng(0)
    named = [shape_in(scene, unknown(scene, frame, random)) for scene, frame in scenes(40)]
    assert np.mean([shape is None for shape in named]) > 0.6


def test_a_frame_with_its_own_outline_is_that_of_the_scene() -> None:
    ((scene, frame),) = scenes(1)
    grid = (np.arange(144) + 0.5) / 144
    x, y = path(scene)[frame]
    away = np.hypot(grid - x, grid[:, None] - y) - RADIUS * scene.scale
    ball = Scene(**{**scene.__dict__, "shape": Shape.BALL})
    drawn = _to_pixels(draw_outline(scene, away.astype(np.float32)))
    expected = from_bytes(render(ball, slice(frame, frame + 1)))[0, :, 0]
    assert (drawn - expected).abs().max() < 0.02
