"""Prompts as people write them: what they name is what the scene shows, and some kinds are never trained on."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from ovi_studio.demo import wording
from ovi_studio.demo.phrasing import PROPERTIES, Prompt, exact_prompt, full_caption, training_prompt, unseen_prompt
from ovi_studio.demo.scenes import Background, Colour, Motion, Scene, Shape, Sound, draw_scene

SCENE = Scene(Colour.RED, Shape.BALL, Background.GREEN_FLOOR, Motion.BOUNCE, Sound.IMPACT)


def drawn(count: int, seed: int = 0) -> list[tuple[Scene, Prompt]]:
    random = np.random.default_rng(seed)
    scenes = [draw_scene(random) for _ in range(count)]
    return [(scene, training_prompt(scene, random)) for scene in scenes]


def test_every_number_of_properties_and_every_property_is_named() -> None:
    prompts = [prompt for _, prompt in drawn(600)]
    assert {len(prompt.named) for prompt in prompts} >= {1, 2, 3, 4, 5}
    for name in PROPERTIES:
        assert 0.2 < np.mean([name in prompt.named for prompt in prompts]) < 0.95


def test_a_named_colour_is_in_the_text_and_one_that_is_not_named_is_not() -> None:
    for scene, prompt in drawn(600):
        words = prompt.text.lower()
        if "colour" in prompt.named:
            assert any(word in words for word in wording.COLOURS[scene.colour]), prompt
        elif "background" not in prompt.named:
            others = {"red", "yellow", "blue", "purple", "cyan", "pink"}
            assert not others & set(words.split(" and a")[0].replace(",", " ").split()), prompt


def test_a_named_shape_is_in_the_text() -> None:
    for scene, prompt in drawn(400, seed=1):
        if "shape" in prompt.named:
            assert any(noun in prompt.text.lower() for noun in wording.NOUNS[scene.shape]), prompt


def test_what_is_named_is_what_the_scene_shows() -> None:
    for scene, prompt in drawn(600, seed=11):
        for name in prompt.named:
            assert getattr(prompt.scene, name) == getattr(scene, name), prompt


def test_short_prompts_have_the_forms_in_which_people_write() -> None:
    texts = [prompt.text for _, prompt in drawn(1500, seed=2)]

    def has(*parts: str) -> bool:
        return any(all(part in text for part in parts) for text in texts)

    assert has("<AUDCAP>", "<ENDAUDCAP>")
    assert has("Audio: ")
    assert has("<S>", "<E>")
    assert has("<AUDCAP><ENDAUDCAP>")
    assert any(text[0].islower() for text in texts)
    assert any(len(text.split()) == 1 for text in texts)
    assert any(". It " in text for text in texts)
    assert has("ing")
    assert has("that bounces") or has("that jumps") or has("that hops")
    assert len(set(texts)) > 1400


@pytest.mark.slow
def test_speech_means_a_tone() -> None:
    spoken = [prompt for _, prompt in drawn(2500, seed=3) if "<S>" in prompt.text]
    assert spoken
    tones = {Sound.LOW_TONE, Sound.HIGH_TONE, Sound.FOLLOWING_TONE}
    assert {prompt.scene.sound for prompt in spoken} <= tones


@pytest.mark.slow
def test_of_two_objects_the_first_is_meant() -> None:
    joints = (" and a ", " next to a ", " and another ", " or a ")
    double = [(scene, prompt) for scene, prompt in drawn(3000, seed=4) if any(joint in prompt.text for joint in joints)]
    assert double
    for scene, prompt in double:
        first = min(
            (prompt.text.lower().find(noun), str(shape))
            for shape in Shape
            for noun in wording.NOUNS[shape]
            if noun in prompt.text.lower()
        )
        assert first[1] == prompt.scene.shape == scene.shape, prompt


def test_an_exact_prompt_means_its_scene_and_still_leaves_out_what_is_usual() -> None:
    random = np.random.default_rng(10)
    prompts = []
    for _ in range(300):
        scene = draw_scene(random)
        prompts.append(exact_prompt(scene, random))
        assert prompts[-1].scene == scene
        assert not prompts[-1].held_out
    assert any(len(prompt.named) < 4 for prompt in prompts)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3])
def test_prompts_of_the_evaluation_are_of_kinds_that_are_never_trained_on(count: int) -> None:
    random = np.random.default_rng(5)
    for _ in range(60):
        prompt = unseen_prompt(draw_scene(random), random, count)
        assert prompt.held_out
        assert len(prompt.named) == count
    assert not any(prompt.held_out for _, prompt in drawn(600, seed=5))


@pytest.mark.slow
def test_a_pattern_that_is_held_out_is_not_trained_on_with_any_words() -> None:
    random = np.random.default_rng(6)
    held_out = {unseen_prompt(draw_scene(random), random, 2).keys for _ in range(100)}
    trained = {key for _, prompt in drawn(2000, seed=7) for key in prompt.keys}
    assert all(set(keys) - trained - {""} for keys in held_out)


@pytest.mark.slow
def test_the_commonest_prompts_may_be_trained_on() -> None:
    patterns = Counter(prompt.keys[0] for _, prompt in drawn(4000, seed=8) if prompt.keys)
    assert {"[colour] [shape]", "a [colour] [shape]"} <= set(dict(patterns.most_common(20)))


def test_full_captions_name_everything_but_sometimes_the_sound() -> None:
    random = np.random.default_rng(9)
    captions = [full_caption(replace(SCENE), random) for _ in range(100)]
    assert {caption.named for caption in captions} == {frozenset(PROPERTIES), frozenset(PROPERTIES) - {"sound"}}
    assert all(caption.is_caption and not caption.held_out for caption in captions)


def test_the_same_generator_gives_the_same_prompt() -> None:
    assert [prompt for _, prompt in drawn(50)] == [prompt for _, prompt in drawn(50)]
