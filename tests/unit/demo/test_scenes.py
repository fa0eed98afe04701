"""Scenes: picture and sound match the caption and each other."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from ovi_studio.core.variants import FRAME_RATE, SAMPLE_RATE
from ovi_studio.demo.captions import caption
from ovi_studio.demo.scenes import (
    FRAMES,
    RADIUS,
    RGB,
    SAMPLES,
    SIDE,
    SOUNDS_OF,
    Background,
    Colour,
    Motion,
    Scene,
    Shape,
    Sound,
    distance,
    draw_scene,
    draw_training_scene,
    following_pitch,
    impacts,
    is_held_out,
    path,
    render,
    synthesise,
)

BOUNCE = Scene(Colour.RED, Shape.BALL, Background.GREEN_FLOOR, Motion.BOUNCE, Sound.IMPACT)


def test_the_same_scene_gives_the_same_frames_and_samples():
    scene = draw_scene(np.random.default_rng(3))
    assert np.array_equal(render(scene), render(scene))
    assert np.array_equal(synthesise(scene), synthesise(scene))


def test_frames_and_samples_have_the_lengths_of_the_embedded_model():
    assert render(BOUNCE).shape == (FRAMES, SIDE, SIDE, 3)
    assert synthesise(BOUNCE).shape == (SAMPLES,)
    assert abs(FRAMES / FRAME_RATE - SAMPLES / SAMPLE_RATE) < 0.01


@pytest.mark.parametrize("shape", list(Shape))
def test_the_object_has_its_colour_and_covers_a_third_of_the_frame(shape):
    frame = render(replace(BOUNCE, shape=shape, motion=Motion.STILL))[0]
    covered = (frame == RGB[Colour.RED]).all(axis=-1)
    height, width = (np.ptp(np.nonzero(covered.any(axis=axis))[0]) / SIDE for axis in (1, 0))
    assert 0.3 < height < 0.42
    assert 0.3 < width < 0.42


@pytest.mark.parametrize("offset", [0.0, 0.013, -0.4])
@pytest.mark.parametrize("shape", list(Shape))
def test_what_is_drawn_around_the_objects_centre_is_all_of_it(shape, offset):
    scene = replace(BOUNCE, shape=shape, motion=Motion.STILL, offset=offset)
    frame, (x, y) = render(scene, slice(0, 1))[0], path(scene)[0]
    grid = (np.arange(SIDE) + 0.5) / SIDE
    covered = 0.5 - SIDE * distance(shape, grid - x, grid[:, None] - y, RADIUS)
    differs = (frame != frame[:, -1:]).any(axis=-1)
    assert differs[covered > 0.03].all()
    assert not differs[covered < 0].any()


@pytest.mark.parametrize(("motion", "shape"), list(product(Motion, Shape)))
def test_the_object_never_leaves_the_frame(motion, shape):
    random = np.random.default_rng(0)
    for _ in range(20):
        scene = replace(draw_scene(random), motion=motion, shape=shape)
        assert path(scene).min() > 0.14
        assert path(scene).max() < 0.86


def test_an_impact_is_heard_when_the_object_is_at_its_lowest():
    scene = replace(BOUNCE, phase=0.05)
    height, sound = path(scene)[:, 1], np.abs(synthesise(scene))
    times = impacts(scene)
    assert len(times) == 3
    for time in times:
        near = slice(max(0, round(time * FRAME_RATE) - 6), round(time * FRAME_RATE) + 7)
        lowest = (near.start + height[near].argmax()) / FRAME_RATE
        assert abs(lowest - time) < 1 / FRAME_RATE
        start = round(time * SAMPLE_RATE)
        assert sound[start : start + 800].max() > 10 * sound[start - 800 : start].max()


def test_the_following_tone_is_highest_at_the_top():
    scene = Scene(Colour.BLUE, Shape.RING, Background.NIGHT, Motion.RISE, Sound.FOLLOWING_TONE)
    pitch = following_pitch(scene, np.array([0.0, 1.5, 3.0]))
    assert pitch[0] < pitch[1] < pitch[2]


def test_silence_is_silent():
    assert not synthesise(Scene(Colour.PINK, Shape.RING, Background.NIGHT, Motion.LEFT, Sound.SILENCE)).any()


def test_held_out_combinations_are_drawn_only_when_asked_for():
    random = np.random.default_rng(1)
    assert not any(is_held_out(draw_scene(random)) for _ in range(100))
    assert all(is_held_out(draw_scene(random, held_out=True)) for _ in range(100))


def test_every_colour_shape_and_motion_is_seen_in_training():
    trained = [
        (colour, shape, motion)
        for colour, shape, motion in product(Colour, Shape, Motion)
        if not is_held_out(replace(BOUNCE, colour=colour, shape=shape, motion=motion))
    ]
    for index, kind in enumerate((Colour, Shape, Motion)):
        assert {combination[index] for combination in trained} == set(kind)
    assert 0.75 < len(trained) / (len(Colour) * len(Shape) * len(Motion)) < 0.85


def test_a_caption_names_colour_and_background_and_ends_with_the_sound():
    random = np.random.default_rng(2)
    for _ in range(50):
        scene = draw_scene(random)
        text = caption(scene, random, complete=True)
        assert scene.colour in text
        assert text.endswith("<ENDAUDCAP>")


def test_wording_and_order_of_captions_vary():
    random = np.random.default_rng(4)
    assert len({caption(BOUNCE, random) for _ in range(200)}) > 60


def test_every_motion_has_a_sound():
    assert set(SOUNDS_OF) == set(Motion)
    assert {sound for sounds in SOUNDS_OF.values() for sound in sounds} == set(Sound)


def test_training_scenes_are_mostly_difficult_and_never_held_out() -> None:
    random = np.random.default_rng(0)
    drawn = [draw_training_scene(random) for _ in range(2000)]
    assert not any(is_held_out(scene) for scene in drawn)
    assert 0.4 < np.mean([scene.shape is Shape.SQUARE for scene in drawn]) < 0.6
    assert 0.2 < np.mean([scene.motion is Motion.CIRCLE for scene in drawn]) < 0.4
    assert {scene.shape for scene in drawn if scene.motion is Motion.CIRCLE} == set(Shape)
