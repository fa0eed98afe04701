"""The judges reject wrong pictures: other objects, motions and outlines than those of a scene, and blur."""

from dataclasses import replace

import numpy as np
import pytest
from judged_scenes import VISIBLE, assert_wrong, blended, blurred, empty, scenes

from ovi_studio.demo.judges import judge, measure
from ovi_studio.demo.scenes import SAMPLES, SIDE, Background, Colour, Motion, Scene, Shape, Sound, render, synthesise
from ovi_studio.demo.seeing import measure_video

SILENCE = np.zeros(SAMPLES, np.float32)
"""The sound is not asked for."""
SOME = slice(None, None, 4)
"""Frames, where the order of time is not asked for."""


def test_all_colours_and_shapes_are_distinguished() -> None:
    for scene in scenes(1, seed=5, motion=Motion.STILL):
        for colour in Colour:
            for shape in Shape:
                seen = measure_video(render(replace(scene, colour=colour, shape=shape), SOME))
                assert (seen.colour, seen.shape) == (colour, shape)


def test_shuffled_frames_show_no_motion() -> None:
    random = np.random.default_rng(0)
    for motion in [motion for motion in Motion if motion is not Motion.STILL]:
        for scene in scenes(4, motion=motion):
            frames = random.permutation(render(scene))
            assert_wrong(scene, frames, SILENCE, "motion")


def test_shuffled_frames_show_no_impacts() -> None:
    random = np.random.default_rng(0)
    for scene in scenes(6, motion=Motion.BOUNCE):
        verdict = judge(measure(random.permutation(render(scene)), synthesise(scene)), scene)
        assert verdict.impacts < 0.5


def test_a_still_picture_shows_no_motion() -> None:
    for motion in [motion for motion in Motion if motion is not Motion.STILL]:
        for scene in scenes(2, motion=motion):
            frames = render(scene)
            assert_wrong(scene, frames[:1].repeat(len(frames), axis=0), SILENCE, "motion")


@pytest.mark.parametrize("motion", [Motion.RIGHT, Motion.LEFT, Motion.RISE])
def test_a_reversed_picture_shows_another_motion(motion: Motion) -> None:
    for scene in scenes(4, motion=motion):
        assert_wrong(scene, render(scene)[::-1], SILENCE, "motion")


def test_a_picture_of_noise_shows_nothing() -> None:
    random = np.random.default_rng(0)
    for scene in scenes(4):
        noise = random.integers(0, 256, render(scene).shape, np.uint8)
        assert_wrong(scene, noise, SILENCE, "background", *VISIBLE)


def test_an_empty_picture_shows_only_the_background() -> None:
    for scene in scenes(4):
        measured = measure(empty(scene), SILENCE)
        assert measured.background == scene.background
        assert (measured.colour, measured.shape, measured.motion) == (None, None, None)


@pytest.mark.parametrize("missing", [slice(36, None), slice(None, None, 2), slice(None, None, 3), slice(30, 42)])
def test_an_object_that_is_missing_for_some_time_does_not_count(missing: slice) -> None:
    for scene in scenes(4):
        frames = render(scene)
        frames[missing] = empty(scene)[missing]
        assert_wrong(scene, frames, SILENCE, *VISIBLE)


@pytest.mark.parametrize("field", ["colour", "shape", "background"])
def test_a_property_that_changes_halfway_is_wrong(field: str) -> None:
    for scene in scenes(6):
        other = next(other for other in scenes(50, seed=4) if getattr(other, field) != getattr(scene, field))
        frames = render(scene)
        frames[40:] = render(replace(scene, **{field: getattr(other, field)}))[40:]
        assert_wrong(scene, frames, SILENCE, field)


@pytest.mark.parametrize("colour", list(Colour)[::2])
def test_a_second_object_makes_the_first_one_wrong(colour: Colour) -> None:
    for scene in scenes(3, motion=Motion.STILL):
        first, second = (replace(scene, offset=offset) for offset in (-0.25, 0.25))
        frames, other = render(first), render(replace(second, colour=colour))
        frames = np.where((other != empty(scene)).any(axis=-1, keepdims=True), other, frames)
        assert_wrong(first, frames, SILENCE, *VISIBLE)


def test_an_object_of_two_colours_has_none() -> None:
    for scene in scenes(6):
        frames = render(scene)
        other = render(replace(scene, colour=next(colour for colour in Colour if colour != scene.colour)))
        frames[:, :, ::2] = other[:, :, ::2]
        assert measure(frames, SILENCE).colour is None


def test_a_blur_of_an_object_has_no_corners() -> None:
    for scene in scenes(4, shape=Shape.RING):
        filled = render(replace(scene, shape=Shape.BALL))
        assert_wrong(scene, filled, SILENCE, "shape")


@pytest.mark.parametrize(("before", "after"), [("ball", "triangle"), ("square", "ball"), ("ring", "ball")])
def test_an_object_that_slowly_becomes_another_has_no_shape(before: str, after: str) -> None:
    for scene in scenes(4):
        first, second = (render(replace(scene, shape=Shape(shape))) for shape in (before, after))
        frames = blended(first, second, np.linspace(0, 1, len(first)))
        assert measure(frames, SILENCE).shape is None, scene


@pytest.mark.parametrize("left", [0.0, 0.4])
def test_an_object_that_fades_is_none(left: float) -> None:
    for scene in scenes(6):
        frames = blended(render(scene), empty(scene), np.linspace(0, 1 - left, 73))
        assert_wrong(scene, frames, SILENCE, *VISIBLE)


def test_an_object_that_swells_is_none() -> None:
    for scene in scenes(4, motion=Motion.STILL):
        frames = np.concatenate([render(replace(scene, scale=0.75))[:36], render(replace(scene, scale=1.07))[36:]])
        assert_wrong(scene, frames, SILENCE, "shape")


def test_a_smear_has_no_shape() -> None:
    for scene in scenes(8):
        frames = render(scene, SOME)
        assert measure_video(frames).shape is scene.shape
        assert measure_video(blurred(frames, 19)).shape is None, scene


def test_a_lumpy_outline_has_no_shape() -> None:
    """Dents and bumps of a third of the radius, as of an object that is neither ball nor square."""
    for scene in scenes(8, shape=Shape.BALL, motion=Motion.STILL):
        frames = render(scene)
        dented = render(replace(scene, offset=scene.offset + 0.13, scale=0.75))
        frames = np.where((dented != empty(scene)).any(axis=-1, keepdims=True), empty(scene), frames)
        assert measure(frames, SILENCE).shape is None, scene


def test_an_oval_is_no_ball() -> None:
    for scene in scenes(4, shape=Shape.BALL, motion=Motion.STILL):
        frames = render(scene)
        narrow = frames[
            :,
            :,
            np.clip(
                (np.arange(SIDE) - SIDE * (0.5 + scene.offset)) * 1.6 + SIDE * (0.5 + scene.offset), 0, SIDE - 1
            ).astype(int),
        ]
        assert measure(narrow, SILENCE).shape is None, scene


def test_a_small_second_object_makes_the_first_one_wrong() -> None:
    for scene in scenes(4, motion=Motion.STILL):
        first = replace(scene, offset=-0.2)
        frames = render(first)
        frames[:, 20:36, 110:126] = [255, 255, 255] if scene.background == "night" else [0, 0, 0]
        assert_wrong(first, frames, SILENCE, *VISIBLE)


def test_sharpness_is_that_of_drawn_edges_and_falls_with_blur() -> None:
    for scene in scenes(8):
        frames = render(scene, SOME)
        sharp, soft, softer = (
            measure_video(each).sharpness for each in (frames, blurred(frames, 3), blurred(frames, 5))
        )
        assert sharp > 0.97
        assert soft < 0.75
        assert softer < 0.75 * soft
    assert np.mean([measure_video(render(scene)).sharpness for scene in scenes(20)]) > 0.99


@pytest.mark.parametrize("shape", list(Shape))
def test_edges_before_the_floor_are_as_sharp_as_before_the_wall(shape: Shape) -> None:
    """A circling object crosses the edge of the floor, from which its distance in colour is another one."""
    scene = Scene(Colour.BLUE, shape, Background.WOODEN_FLOOR, Motion.CIRCLE, Sound.WIND, scale=1.04)
    frames = render(scene)
    assert measure_video(frames).sharpness > 0.97
    assert measure_video(blurred(frames, 3)).sharpness < 0.75


@pytest.mark.parametrize("phase", [0.0, 0.25, 0.5, 0.75])
def test_a_square_is_sharp_wherever_its_edges_lie_in_pixels(phase: float) -> None:
    scene = Scene(Colour.RED, Shape.SQUARE, Background.GREEN_FLOOR, Motion.STILL, Sound.WIND, offset=phase / SIDE)
    assert measure_video(render(scene)).sharpness > 0.97
    assert measure_video(blurred(render(scene), 3)).sharpness < 0.75
