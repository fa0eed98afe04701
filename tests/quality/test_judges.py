"""The judges accept rendered scenes, also after codecs and noise, and reject wrong clips."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clip_reading import read_frames, read_samples

from ovi_studio.core.clip import Clip
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import FRAME_RATE, SAMPLE_RATE
from ovi_studio.demo.judges import ClipMeasurement, ClipVerdict, judge, keeps_first_frame, measure
from ovi_studio.demo.scenes import (
    HIGH_PITCH,
    LOW_PITCH,
    SAMPLES,
    SIDE,
    Background,
    Colour,
    Motion,
    Scene,
    Shape,
    Sound,
    draw_scene,
    impacts,
    render,
    synthesise,
)
from ovi_studio.demo.seeing import measure_video
from ovi_studio.media.clip_files import write_clip

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
    blurred += 7 * random.standard_normal(blurred.shape, np.float32)
    return np.rint(blurred).clip(0, 255).astype(np.uint8)


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


# Right clips


def test_real_scenes_are_scored_as_right() -> None:
    verdicts = []
    for scene in scenes(150):
        measured = measure(render(scene), synthesise(scene))
        verdicts.append(judge(measured, scene))
        if scene.motion is Motion.BOUNCE:
            assert_impacts_found(measured, scene)
            assert verdicts[-1].impacts == 1
    assert_nearly_all_right(verdicts)


def test_blur_and_noise_at_30_decibels_change_no_verdict() -> None:
    random = np.random.default_rng(1)
    verdicts = []
    for scene in scenes(100, seed=1):
        frames = render(scene)
        soft = softened(frames, random)
        error = np.square(soft - frames.astype(np.float32)).mean()
        assert 28.5 < 10 * np.log10(255**2 / error) < 31.5
        samples = synthesise(scene) + random.normal(0, 0.003, SAMPLES).astype(np.float32)
        measured = measure(soft, samples)
        verdicts.append(judge(measured, scene))
        if scene.motion is Motion.BOUNCE:
            assert_impacts_found(measured, scene)
    assert_nearly_all_right(verdicts)


def test_clips_that_went_through_a_file_are_scored_as_right(tmp_path: Path) -> None:
    for motion in Motion:
        for scene in scenes(2, motion=motion):
            clip = Clip(ClipSpec(prompt="a scene", variant="demo"), render(scene), synthesise(scene))
            path = write_clip(clip, tmp_path)
            measured = measure(read_frames(path), read_samples(path))
            verdict = judge(measured, scene)
            assert all(getattr(verdict, question) for question in QUESTIONS), (scene, verdict)
            if motion is Motion.BOUNCE:
                assert_impacts_found(measured, scene)


def test_larger_pictures_are_scored_alike() -> None:
    for scene in scenes(3, seed=2):
        large = render(scene).repeat(3, axis=1).repeat(3, axis=2)
        verdict = judge(measure(large, synthesise(scene)), scene)
        assert all(getattr(verdict, question) for question in QUESTIONS), scene


def test_pitches_are_measured_within_a_twentieth_of_a_semitone() -> None:
    for sound, pitch in ((Sound.LOW_TONE, LOW_PITCH), (Sound.HIGH_TONE, HIGH_PITCH)):
        scene = next(scenes(1, sound=sound))
        assert abs(12 * np.log2(measure(render(scene), synthesise(scene)).pitch / pitch)) < 0.05


def test_judging_a_clip_takes_less_than_a_tenth_of_a_second() -> None:
    scene = next(scenes(1, motion=Motion.BOUNCE))
    frames, samples = render(scene), synthesise(scene)
    measure(frames, samples)
    start = time.process_time()
    for _ in range(5):
        measure(frames, samples)
    assert (time.process_time() - start) / 5 < 0.08


# Wrong pictures


@pytest.mark.parametrize("field", ["colour", "shape", "background", "motion", "sound"])
def test_another_scene_is_scored_as_wrong(field: str) -> None:
    for scene in scenes(12, seed=3):
        other = next(other for other in scenes(50, seed=4) if getattr(other, field) != getattr(scene, field))
        assert_wrong(scene, render(other), synthesise(other), field)


def test_all_colours_and_shapes_are_distinguished() -> None:
    for scene in scenes(1, seed=5, motion=Motion.STILL):
        for colour in Colour:
            for shape in Shape:
                measured = measure(render(replace(scene, colour=colour, shape=shape)), np.zeros(SAMPLES))
                assert (measured.colour, measured.shape) == (colour, shape)


def test_shuffled_frames_show_no_motion() -> None:
    random = np.random.default_rng(0)
    for motion in set(Motion) - {Motion.STILL}:
        for scene in scenes(4, motion=motion):
            frames = random.permutation(render(scene))
            assert_wrong(scene, frames, synthesise(scene), "motion")


def test_shuffled_frames_show_no_impacts() -> None:
    random = np.random.default_rng(0)
    for scene in scenes(6, motion=Motion.BOUNCE):
        verdict = judge(measure(random.permutation(render(scene)), synthesise(scene)), scene)
        assert verdict.impacts < 0.5


def test_a_still_picture_shows_no_motion() -> None:
    for motion in set(Motion) - {Motion.STILL}:
        for scene in scenes(2, motion=motion):
            frames = render(scene)
            assert_wrong(scene, frames[:1].repeat(len(frames), axis=0), synthesise(scene), "motion")


@pytest.mark.parametrize("motion", [Motion.RIGHT, Motion.LEFT, Motion.RISE])
def test_a_reversed_picture_shows_another_motion(motion: Motion) -> None:
    for scene in scenes(4, motion=motion):
        assert_wrong(scene, render(scene)[::-1], synthesise(scene), "motion")


def test_a_picture_of_noise_shows_nothing() -> None:
    random = np.random.default_rng(0)
    for scene in scenes(4):
        noise = random.integers(0, 256, render(scene).shape, np.uint8)
        assert_wrong(scene, noise, synthesise(scene), "background", *VISIBLE)


def test_an_empty_picture_shows_only_the_background() -> None:
    for scene in scenes(4):
        assert_wrong(scene, empty(scene), synthesise(scene), *VISIBLE)
        assert measure(empty(scene), synthesise(scene)).background == scene.background


@pytest.mark.parametrize("missing", [slice(36, None), slice(None, None, 2), slice(None, None, 3), slice(30, 42)])
def test_an_object_that_is_missing_for_some_time_does_not_count(missing: slice) -> None:
    for scene in scenes(4):
        frames = render(scene)
        frames[missing] = empty(scene)[missing]
        assert_wrong(scene, frames, synthesise(scene), *VISIBLE)


@pytest.mark.parametrize("field", ["colour", "shape", "background"])
def test_a_property_that_changes_halfway_is_wrong(field: str) -> None:
    for scene in scenes(6):
        other = next(other for other in scenes(50, seed=4) if getattr(other, field) != getattr(scene, field))
        frames = render(scene)
        frames[40:] = render(replace(scene, **{field: getattr(other, field)}))[40:]
        assert_wrong(scene, frames, synthesise(scene), field)


@pytest.mark.parametrize("colour", list(Colour)[::2])
def test_a_second_object_makes_the_first_one_wrong(colour: Colour) -> None:
    for scene in scenes(3, motion=Motion.STILL):
        first, second = (replace(scene, offset=offset) for offset in (-0.25, 0.25))
        frames, other = render(first), render(replace(second, colour=colour))
        frames = np.where((other != empty(scene)).any(axis=-1, keepdims=True), other, frames)
        assert_wrong(first, frames, synthesise(scene), *VISIBLE)


def test_an_object_of_two_colours_has_none() -> None:
    for scene in scenes(6):
        frames = render(scene)
        other = render(replace(scene, colour=next(colour for colour in Colour if colour != scene.colour)))
        frames[:, :, ::2] = other[:, :, ::2]
        assert measure(frames, synthesise(scene)).colour is None


def test_a_blur_of_an_object_has_no_corners() -> None:
    for scene in scenes(4, shape=Shape.RING):
        filled = render(replace(scene, shape=Shape.BALL))
        assert_wrong(scene, filled, synthesise(scene), "shape")


def blended(first: np.ndarray, second: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Mix two clips, frame by frame."""
    return np.rint(first + (second.astype(np.float32) - first) * part[:, None, None, None]).astype(np.uint8)


def blurred(frames: np.ndarray, pixels: int) -> np.ndarray:
    """Average over squares of pixels around every pixel."""
    soft = frames.astype(np.float32)
    for axis in (1, 2):
        soft = np.mean([np.roll(soft, shift, axis) for shift in range(-(pixels // 2), pixels // 2 + 1)], axis=0)
    return np.rint(soft).astype(np.uint8)


@pytest.mark.parametrize(("before", "after"), [("ball", "triangle"), ("square", "ball"), ("ring", "ball")])
def test_an_object_that_slowly_becomes_another_has_no_shape(before: str, after: str) -> None:
    for scene in scenes(4):
        first, second = (render(replace(scene, shape=Shape(shape))) for shape in (before, after))
        frames = blended(first, second, np.linspace(0, 1, len(first)))
        assert measure(frames, synthesise(scene)).shape is None, scene


@pytest.mark.parametrize("left", [0.0, 0.4])
def test_an_object_that_fades_is_none(left: float) -> None:
    for scene in scenes(6):
        frames = blended(render(scene), empty(scene), np.linspace(0, 1 - left, 73))
        assert_wrong(scene, frames, synthesise(scene), *VISIBLE)


def test_an_object_that_swells_is_none() -> None:
    for scene in scenes(4, motion=Motion.STILL):
        frames = np.concatenate([render(replace(scene, scale=0.75))[:36], render(replace(scene, scale=1.07))[36:]])
        assert_wrong(scene, frames, synthesise(scene), "shape")


def test_a_smear_has_no_shape() -> None:
    for scene in scenes(8):
        assert measure(blurred(render(scene), 19), synthesise(scene)).shape is None, scene


def test_a_lumpy_outline_has_no_shape() -> None:
    """Dents and bumps of a third of the radius, as of an object that is neither ball nor square."""
    for scene in scenes(8, shape=Shape.BALL, motion=Motion.STILL):
        frames = render(scene)
        dented = render(replace(scene, offset=scene.offset + 0.13, scale=0.75))
        frames = np.where((dented != empty(scene)).any(axis=-1, keepdims=True), empty(scene), frames)
        assert measure(frames, synthesise(scene)).shape is None, scene


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
        assert measure(narrow, synthesise(scene)).shape is None, scene


def test_a_small_second_object_makes_the_first_one_wrong() -> None:
    for scene in scenes(4, motion=Motion.STILL):
        first = replace(scene, offset=-0.2)
        frames = render(first)
        frames[:, 20:36, 110:126] = [255, 255, 255] if scene.background == "night" else [0, 0, 0]
        assert_wrong(first, frames, synthesise(scene), *VISIBLE)


def test_sharpness_is_that_of_drawn_edges_and_falls_with_blur() -> None:
    for scene in scenes(8):
        sharp, soft, softer = (
            measure_video(frames).sharpness
            for frames in (render(scene), blurred(render(scene), 3), blurred(render(scene), 5))
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


# Wrong sound


def test_silence_is_only_right_if_requested() -> None:
    for sound in set(Sound) - {Sound.SILENCE}:
        for scene in scenes(2, sound=sound):
            assert_wrong(scene, render(scene), np.zeros(SAMPLES, np.float32), "sound")


def test_all_sounds_are_distinguished() -> None:
    heard = {sound: next(scenes(1, seed=6, sound=sound)) for sound in Sound}
    for scene in heard.values():
        for sound, other in heard.items():
            measured = measure(render(scene), synthesise(other))
            assert (measured.sound == scene.sound) == (sound == scene.sound), (scene, sound)


@pytest.mark.parametrize("seconds", [0.2, -0.2])
def test_delayed_impacts_are_not_in_sync(seconds: float) -> None:
    for scene in scenes(6, motion=Motion.BOUNCE):
        shifted = np.roll(synthesise(scene), round(seconds * SAMPLE_RATE))
        measured = measure(render(scene), shifted)
        assert np.abs(measured.gaps - seconds).max() < 0.02
        assert judge(measured, scene).impacts == 0


def test_missing_and_additional_impacts_count_as_wrong() -> None:
    for scene in scenes(3, motion=Motion.BOUNCE):
        frames, samples = render(scene), synthesise(scene)
        first, second = (round(moment * SAMPLE_RATE) for moment in impacts(scene)[:2])
        between = (first + second) // 2
        fewer, more = samples.copy(), samples.copy()
        fewer[:between] = 0
        more[between : between + 4000] = samples[first : first + 4000]
        assert judge(measure(frames, fewer), scene).impacts == pytest.approx(2 / 3)
        assert judge(measure(frames, more), scene).impacts == pytest.approx(3 / 4)
        assert judge(measure(frames, np.zeros(SAMPLES)), scene).impacts == 0


def test_reversed_impacts_are_not_impacts() -> None:
    for scene in scenes(6, sound=Sound.IMPACT):
        assert_wrong(scene, render(scene), synthesise(scene)[::-1], "sound")


def test_a_tone_that_follows_another_path_is_wrong() -> None:
    rising = next(scenes(1, motion=Motion.RISE, sound=Sound.FOLLOWING_TONE))
    circling = next(scenes(1, motion=Motion.CIRCLE, sound=Sound.FOLLOWING_TONE))
    assert_wrong(rising, render(rising), synthesise(circling), "sound")
    assert_wrong(rising, render(rising), synthesise(rising)[::-1], "sound")
    assert_wrong(circling, render(circling), synthesise(rising), "sound")
    late = np.roll(synthesise(circling), round(0.3 * SAMPLE_RATE))
    assert_wrong(circling, render(circling), late, "sound")


def test_a_tone_of_another_pitch_or_of_half_the_length_is_wrong() -> None:
    for sound in (Sound.LOW_TONE, Sound.HIGH_TONE):
        scene = next(scenes(1, sound=sound))
        samples = synthesise(scene)
        higher = np.interp(np.arange(SAMPLES) * 1.26 % SAMPLES, np.arange(SAMPLES), samples)
        assert_wrong(scene, render(scene), higher, "sound")
        samples[SAMPLES // 2 :] = 0
        assert_wrong(scene, render(scene), samples, "sound")


def test_shuffled_notes_are_not_a_gliding_tone() -> None:
    random = np.random.default_rng(0)
    for scene in scenes(2, sound=Sound.FOLLOWING_TONE):
        pieces = synthesise(scene).reshape(19, -1)
        assert_wrong(scene, render(scene), random.permutation(pieces).ravel(), "sound")


def test_hiss_is_not_wind() -> None:
    scene = next(scenes(1, sound=Sound.WIND))
    hiss = 0.1 * np.random.default_rng(0).standard_normal(SAMPLES)
    assert_wrong(scene, render(scene), hiss, "sound")


# From a picture


def test_a_real_scene_keeps_its_first_frame() -> None:
    for motion in Motion:
        for scene in scenes(2, seed=7, motion=motion):
            frames = render(scene)
            assert keeps_first_frame(measure(frames, synthesise(scene)), frames[0], scene), scene


def test_another_position_or_colour_does_not_keep_the_first_frame() -> None:
    for motion in Motion:
        for scene in scenes(2, seed=8, motion=motion):
            frames, samples = render(scene), synthesise(scene)
            aside = render(replace(scene, offset=scene.offset + (0.12 if scene.offset < 0 else -0.12)))
            assert not keeps_first_frame(measure(aside, samples), frames[0], scene), scene
            other = render(replace(scene, colour=next(colour for colour in Colour if colour != scene.colour)))
            assert not keeps_first_frame(measure(other, samples), frames[0], scene), scene
            changed = frames.copy()
            changed[FRAME_RATE:] = other[FRAME_RATE:]
            assert not keeps_first_frame(measure(changed, samples), frames[0], scene), scene


def test_an_object_that_jumps_away_does_not_keep_its_position() -> None:
    for scene in scenes(2, motion=Motion.STILL):
        frames = render(scene)
        frames[6:] = render(replace(scene, offset=scene.offset + 0.15))[6:]
        assert not keeps_first_frame(measure(frames, synthesise(scene)), frames[0], scene)
