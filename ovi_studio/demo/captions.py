"""Captions of scenes in Ovi's prompt format, with varied wording and word order."""

import numpy as np

from ovi_studio.core.prompts import AudioTag
from ovi_studio.demo.scenes import Background, Motion, Scene, Shape, Sound

_SHAPES = {
    Shape.BALL: ("ball", "ball", "disc", "circle"),
    Shape.SQUARE: ("square", "square", "cube", "block"),
    Shape.TRIANGLE: ("triangle", "triangle", "pyramid", "wedge"),
    Shape.RING: ("ring", "ring", "hoop", "donut"),
}
_MOTIONS = {
    Motion.STILL: ("stands still", "stays where it is", "does not move", "rests"),
    Motion.RIGHT: ("moves from left to right", "slides from left to right", "glides to the right"),
    Motion.LEFT: ("moves from right to left", "slides from right to left", "glides to the left"),
    Motion.RISE: ("rises", "rises slowly", "floats up", "goes up"),
    Motion.BOUNCE: ("bounces", "bounces up and down", "jumps up and down", "hops"),
    Motion.CIRCLE: ("circles", "moves in a circle", "goes round and round", "flies in circles"),
}
_BACKGROUNDS = {
    Background.GREEN_FLOOR: ("on a green floor", "over a green floor", "above green grass"),
    Background.WOODEN_FLOOR: ("on a wooden floor", "over a wooden floor", "above brown wood"),
    Background.STONE_FLOOR: ("on a stone floor", "over a stone floor", "above grey stone"),
    Background.NIGHT: ("at night", "in the dark", "in a dark room"),
}
_SOUNDS = {
    Sound.IMPACT: ("a thud at every bounce", "it hits the ground with a thud", "loud impacts"),
    Sound.LOW_TONE: ("a low tone", "a steady low tone", "a deep hum"),
    Sound.HIGH_TONE: ("a high tone", "a steady high tone", "a bright high tone"),
    Sound.FOLLOWING_TONE: ("a tone that follows its height", "the pitch follows the height", "a tone glides with it"),
    Sound.WIND: ("wind", "soft wind noise", "wind blows"),
    Sound.SILENCE: ("silence", "no sound", "it is quiet"),
}
_SIZES = ("", "", "", "big ", "large ")
_WITHOUT_SOUND = 0.12
"""Fraction of the captions that do not mention the sound, as people's first prompts do."""


def caption(scene: Scene, random: np.random.Generator, *, complete: bool = False) -> str:
    """Return a random caption of a scene; with `complete` it always mentions the sound."""

    def pick(options: tuple[str, ...]) -> str:
        return options[random.integers(len(options))]

    size, where = pick(_SIZES), pick(_BACKGROUNDS[scene.background])
    thing = f"{size}{scene.colour} {pick(_SHAPES[scene.shape])}"
    article = "an" if thing[0] in "aeiou" else "a"
    motion = pick(_MOTIONS[scene.motion])
    what = f"{article} {thing} {motion}"
    text = f"{where}, {what}." if random.random() < 0.3 else f"{what} {where}."
    text = text[0].upper() + text[1:]
    if not complete and random.random() < _WITHOUT_SOUND:
        return text
    return f"{text} {AudioTag.AUDCAP.wrap(pick(_SOUNDS[scene.sound]))}"


def vocabulary() -> tuple[str, ...]:
    """Return every phrase that a caption can contain; the tokenizer is trained on them."""
    tables = (_SHAPES, _MOTIONS, _BACKGROUNDS, _SOUNDS)
    phrases = {phrase for table in tables for options in table.values() for phrase in options}
    return tuple(sorted(phrases | set(_SIZES) - {""}))
