"""What a prompt leaves open is completed to a scene that exists."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from ovi_studio.demo.phrasing import PROPERTIES
from ovi_studio.demo.scenes import SOUNDS_OF, Background, Colour, Motion, Scene, Shape, Sound, draw_scene
from ovi_studio.demo.usual import completed

SCENE = Scene(Colour.PINK, Shape.TRIANGLE, Background.STONE_FLOOR, Motion.CIRCLE, Sound.WIND)
SUBSETS = [frozenset(chosen) for count in range(6) for chosen in itertools.combinations(PROPERTIES, count)]


@pytest.mark.parametrize("named", SUBSETS, ids=lambda named: "+".join(sorted(named)))
def test_what_is_named_stays_and_the_rest_is_possible_and_depends_on_nothing_else(named: frozenset[str]) -> None:
    random = np.random.default_rng(0)
    for _ in range(40):
        scene, other = draw_scene(random), draw_scene(random)
        meant = completed(scene, named)
        assert all(getattr(meant, name) == getattr(scene, name) for name in named)
        assert meant.sound in SOUNDS_OF[meant.motion]
        same_words = replace(other, **{name: getattr(scene, name) for name in named})
        again = completed(same_words, named)
        assert all(getattr(again, name) == getattr(meant, name) for name in PROPERTIES)


def test_a_scene_of_which_everything_is_named_stays_as_it_is() -> None:
    assert completed(SCENE, frozenset(PROPERTIES)) == SCENE


def test_the_usual_background_is_not_the_one_with_the_least_contrast() -> None:
    for colour in Colour:
        meant = completed(replace(SCENE, colour=colour), frozenset({"colour"}))
        assert meant.background is not Background.STONE_FLOOR


def test_few_words_mean_many_different_scenes() -> None:
    meant = {completed(replace(SCENE, colour=colour), frozenset({"colour"})).shape for colour in Colour}
    assert meant == set(Shape)
    motions = {completed(replace(SCENE, shape=shape), frozenset({"shape"})).motion for shape in Shape}
    assert len(motions) == len(Shape)


def test_a_spoken_line_is_answered_with_a_tone_wherever_one_is_possible() -> None:
    tones = {Sound.LOW_TONE, Sound.HIGH_TONE, Sound.FOLLOWING_TONE}
    assert completed(SCENE, frozenset({"shape"}), spoken=True).sound in tones
    for motion in set(Motion) - {Motion.BOUNCE}:
        meant = completed(replace(SCENE, motion=motion), frozenset({"motion"}), spoken=True)
        assert meant.sound in tones
        assert meant.sound in SOUNDS_OF[motion]


def test_a_sound_that_the_named_motion_cannot_have_gives_way() -> None:
    meant = completed(replace(SCENE, motion=Motion.BOUNCE, sound=Sound.WIND), frozenset({"motion", "sound"}))
    assert (meant.motion, meant.sound) == (Motion.BOUNCE, Sound.IMPACT)
