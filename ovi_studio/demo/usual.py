"""What a scene shows where a prompt leaves it open.

A prompt of few words is completed to a scene of which everything is known. So a transformer that follows full captions
follows short prompts as well, and nothing is averaged over what they might have meant. Imports no torch.
"""

from collections.abc import Mapping
from dataclasses import replace

from ovi_studio.demo.scenes import SOUNDS_OF, Background, Colour, Motion, Scene, Shape, Sound

_SHAPE_OF_COLOUR: Mapping[Colour, Shape] = {
    Colour.RED: Shape.BALL,
    Colour.ORANGE: Shape.BALL,
    Colour.YELLOW: Shape.RING,
    Colour.GREEN: Shape.SQUARE,
    Colour.CYAN: Shape.TRIANGLE,
    Colour.BLUE: Shape.SQUARE,
    Colour.PURPLE: Shape.TRIANGLE,
    Colour.PINK: Shape.RING,
}
_SHAPE_OF_MOTION: Mapping[Motion, Shape] = {
    Motion.STILL: Shape.TRIANGLE,
    Motion.RIGHT: Shape.SQUARE,
    Motion.LEFT: Shape.SQUARE,
    Motion.RISE: Shape.BALL,
    Motion.BOUNCE: Shape.BALL,
    Motion.CIRCLE: Shape.BALL,
}
_COLOUR_OF_SHAPE: Mapping[Shape, Colour] = {
    Shape.BALL: Colour.RED,
    Shape.SQUARE: Colour.BLUE,
    Shape.TRIANGLE: Colour.CYAN,
    Shape.RING: Colour.GREEN,
}
_BACKGROUND_OF_COLOUR: Mapping[Colour, Background] = {
    Colour.RED: Background.GREEN_FLOOR,
    Colour.ORANGE: Background.NIGHT,
    Colour.YELLOW: Background.WOODEN_FLOOR,
    Colour.GREEN: Background.WOODEN_FLOOR,
    Colour.CYAN: Background.WOODEN_FLOOR,
    Colour.BLUE: Background.WOODEN_FLOOR,
    Colour.PURPLE: Background.GREEN_FLOOR,
    Colour.PINK: Background.WOODEN_FLOOR,
}
"""A background before which the object is drawn well."""
_MOTION_OF_SHAPE: Mapping[Shape, Motion] = {
    Shape.BALL: Motion.BOUNCE,
    Shape.SQUARE: Motion.RIGHT,
    Shape.TRIANGLE: Motion.STILL,
    Shape.RING: Motion.LEFT,
}
_MOTION_OF_SOUND: Mapping[Sound, Motion] = {
    Sound.IMPACT: Motion.BOUNCE,
    Sound.LOW_TONE: Motion.RIGHT,
    Sound.HIGH_TONE: Motion.LEFT,
    Sound.FOLLOWING_TONE: Motion.RISE,
    Sound.WIND: Motion.STILL,
    Sound.SILENCE: Motion.STILL,
}
_SOUND_OF_MOTION: Mapping[Motion, Sound] = {
    Motion.STILL: Sound.WIND,
    Motion.RIGHT: Sound.LOW_TONE,
    Motion.LEFT: Sound.HIGH_TONE,
    Motion.RISE: Sound.FOLLOWING_TONE,
    Motion.BOUNCE: Sound.IMPACT,
    Motion.CIRCLE: Sound.FOLLOWING_TONE,
}
_SPOKEN_MOTION = Motion.LEFT
"""Motion of an object that speaks, if none is named; its usual sound is a tone."""


def completed(scene: Scene, named: frozenset[str], *, spoken: bool = False) -> Scene:
    """Return the scene that is meant by a prompt which names only some of its properties.

    Args:
        named: fields of `Scene`; the others become what is usual with them.
        spoken: whether the prompt has a spoken line, which is answered with a tone.
    """
    if "shape" in named:
        shape = scene.shape
    elif "colour" in named:
        shape = _SHAPE_OF_COLOUR[scene.colour]
    elif "motion" in named:
        shape = _SHAPE_OF_MOTION[scene.motion]
    else:
        shape = Shape.BALL
    colour = scene.colour if "colour" in named else _COLOUR_OF_SHAPE[shape]
    if "motion" in named:
        motion = scene.motion
    elif "sound" in named:
        motion = _MOTION_OF_SOUND[scene.sound]
    else:
        motion = _SPOKEN_MOTION if spoken else _MOTION_OF_SHAPE[shape]
    possible = "sound" in named and scene.sound in SOUNDS_OF[motion]
    sound = scene.sound if possible else _SOUND_OF_MOTION[motion]
    if spoken and not possible and sound is Sound.WIND:
        sound = Sound.HIGH_TONE
    background = scene.background if "background" in named else _BACKGROUND_OF_COLOUR[colour]
    return replace(scene, colour=colour, shape=shape, motion=motion, sound=sound, background=background)
