"""The judges reject wrong sound, and sound that does not fit the picture."""

import numpy as np
import pytest
from judged_scenes import assert_wrong, scenes

from ovi_studio.core.variants import SAMPLE_RATE
from ovi_studio.demo.judges import judge, measure
from ovi_studio.demo.scenes import SAMPLES, Motion, Sound, impacts, render, synthesise


def test_silence_is_only_right_if_requested() -> None:
    for sound in [sound for sound in Sound if sound is not Sound.SILENCE]:
        for scene in scenes(2, sound=sound):
            assert_wrong(scene, render(scene), np.zeros(SAMPLES, np.float32), "sound")


def test_all_sounds_are_distinguished() -> None:
    heard = {sound: next(scenes(1, seed=6, sound=sound)) for sound in Sound}
    samples = {sound: synthesise(scene) for sound, scene in heard.items()}
    for scene in heard.values():
        frames = render(scene)
        for sound, other in samples.items():
            measured = measure(frames, other)
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
