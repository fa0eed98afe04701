"""Scenes: short procedural clips with sound and a caption, which the embedded model learns and the judges measure.

An object of one colour and shape moves over one of four backgrounds, with a sound that matches the picture. Variation
that the caption does not mention (position, size, start time) is small, so that a small model can learn it.
Combinations of colour, shape and motion in `is_held_out` are never trained on.

Imports no torch.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np

from ovi_studio.core.variants import FRAME_RATE, SAMPLE_RATE

SIDE = 144
"""Height and width in pixels."""
FRAMES = 73
SAMPLES = 95 * 512
FLOOR = 0.82
"""Position of the floor's edge from the top, as a fraction of the frame."""
RADIUS = 0.19
"""Radius of the object as a fraction of the frame; with jitter it spans a third to two fifths of the frame."""
BOUNCE_PERIOD = 0.96
CIRCLE_PERIOD = 1.5
PHASE_JITTER = 0.08
"""Maximum jitter in seconds. If picture and sound were independent, a quarter of the impacts would be further apart."""
PITCH_STEP = 62.5
"""Pitch in hertz of one period per mel frame. A vocoder's output for a steady spectrogram repeats in every frame, so it
can hold only multiples of this pitch, and gliding tones move in these steps."""
LOW_PITCH, HIGH_PITCH = 4 * PITCH_STEP, 16 * PITCH_STEP
FOLLOWING_PITCH = (5 * PITCH_STEP, 19 * PITCH_STEP)
"""Pitch in hertz at the floor and at the top."""
_TOP = 0.04
"""Margin above the object at its highest point, as a fraction of the frame."""
_HELD_OUT = 0.2
"""Fraction of the combinations that are held out."""
_EASY = 0.25
"""Fraction of the easy scenes that `draw_training_scene` keeps."""

T = TypeVar("T")


class Colour(StrEnum):
    RED = "red"
    ORANGE = "orange"
    YELLOW = "yellow"
    GREEN = "green"
    CYAN = "cyan"
    BLUE = "blue"
    PURPLE = "purple"
    PINK = "pink"


class Shape(StrEnum):
    BALL = "ball"
    SQUARE = "square"
    TRIANGLE = "triangle"
    RING = "ring"


class Background(StrEnum):
    GREEN_FLOOR = "green floor"
    WOODEN_FLOOR = "wooden floor"
    STONE_FLOOR = "stone floor"
    NIGHT = "night"


class Motion(StrEnum):
    STILL = "still"
    RIGHT = "left to right"
    LEFT = "right to left"
    RISE = "rise"
    BOUNCE = "bounce"
    CIRCLE = "circle"


class Sound(StrEnum):
    IMPACT = "impact"
    LOW_TONE = "low tone"
    HIGH_TONE = "high tone"
    FOLLOWING_TONE = "following tone"
    WIND = "wind"
    SILENCE = "silence"


RGB = {
    Colour.RED: (220, 40, 40),
    Colour.ORANGE: (245, 140, 25),
    Colour.YELLOW: (245, 220, 50),
    Colour.GREEN: (45, 190, 70),
    Colour.CYAN: (50, 205, 220),
    Colour.BLUE: (45, 90, 225),
    Colour.PURPLE: (140, 60, 190),
    Colour.PINK: (250, 135, 185),
}
WALL_AND_FLOOR = {
    Background.GREEN_FLOOR: ((206, 211, 216), (84, 128, 90)),
    Background.WOODEN_FLOOR: ((238, 224, 200), (140, 100, 66)),
    Background.STONE_FLOOR: ((140, 146, 152), (92, 94, 98)),
    Background.NIGHT: ((24, 28, 52), (52, 52, 62)),
}
_TONES = (Sound.LOW_TONE, Sound.HIGH_TONE, Sound.WIND, Sound.SILENCE)
_FOLLOWING = (Sound.FOLLOWING_TONE, Sound.FOLLOWING_TONE, Sound.WIND, Sound.SILENCE)
SOUNDS_OF = {
    Motion.STILL: _TONES,
    Motion.RIGHT: _TONES,
    Motion.LEFT: _TONES,
    Motion.RISE: _FOLLOWING,
    Motion.CIRCLE: _FOLLOWING,
    Motion.BOUNCE: (Sound.IMPACT,),
}
"""Possible sounds of each motion; a sound listed twice is drawn twice as often."""
_FOOT = {Shape.BALL: 1.0, Shape.SQUARE: 0.89, Shape.TRIANGLE: 0.85, Shape.RING: 1.05}
"""Distance from the object's centre to its lowest point, in radii."""
_REACH = 1.05
"""Distance from the object's centre, across or down, beyond which no shape has a point, in radii."""


@dataclass(frozen=True)
class Scene:
    """One scene; `offset`, `scale`, `phase` and `seed` vary slightly and are not in the caption."""

    colour: Colour
    shape: Shape
    background: Background
    motion: Motion
    sound: Sound
    offset: float = 0.0
    """Horizontal shift as a fraction of the frame."""
    scale: float = 1.0
    """Factor of the object's radius."""
    phase: float = 0.0
    """Delay of a periodic motion in seconds."""
    seed: int = 0
    """Seed of the noise in wind and impacts."""


def draw_scene(random: np.random.Generator, *, held_out: bool = False) -> Scene:
    """Draw a random scene, either only held-out combinations or only the others."""
    while True:
        motion = _pick(random, Motion)
        scene = Scene(
            colour=_pick(random, Colour),
            shape=_pick(random, Shape),
            background=_pick(random, Background),
            motion=motion,
            sound=_pick(random, SOUNDS_OF[motion]),
            offset=float(random.uniform(-0.05, 0.05)),
            scale=float(random.uniform(0.93, 1.07)),
            phase=float(random.uniform(-PHASE_JITTER, PHASE_JITTER)),
            seed=int(random.integers(2**31)),
        )
        if is_held_out(scene) == held_out:
            return scene


def draw_training_scene(random: np.random.Generator) -> Scene:
    """Draw a random scene for training: squares and circling shapes with corners, learned last, come more often."""
    while True:
        scene = draw_scene(random)
        circling = scene.motion is Motion.CIRCLE and scene.shape is not Shape.BALL
        if circling or scene.shape is Shape.SQUARE or random.random() < _EASY:
            return scene


def is_held_out(scene: Scene) -> bool:
    """Whether this combination of colour, shape and motion is kept out of training."""
    text = f"{scene.colour}/{scene.shape}/{scene.motion}"
    return hashlib.sha256(text.encode()).digest()[0] < 256 * _HELD_OUT


def path(scene: Scene) -> np.ndarray:
    """Return the object's centre (x, y) in each frame, as fractions of the frame: (FRAMES, 2)."""
    time = np.arange(FRAMES) / FRAME_RATE
    progress = time / time[-1]
    radius = RADIUS * scene.scale
    rest = FLOOR - radius * _FOOT[scene.shape]
    x = np.full(FRAMES, 0.5 + scene.offset)
    y = np.full(FRAMES, rest)
    match scene.motion:
        case Motion.RIGHT:
            x = 0.24 + 0.52 * progress + scene.offset
        case Motion.LEFT:
            x = 0.76 - 0.52 * progress + scene.offset
        case Motion.RISE:
            y = rest + (radius + _TOP - rest) * progress
        case Motion.BOUNCE:
            y = rest - (rest - radius - _TOP) * bounce_height(time - scene.phase)
        case Motion.CIRCLE:
            angle = 2 * math.pi * (time - scene.phase) / CIRCLE_PERIOD
            x, y = x + 0.2 * np.sin(angle), 0.46 - 0.2 * np.cos(angle)
    return np.stack([x, y], axis=1)


def impacts(scene: Scene) -> np.ndarray:
    """Return the times in seconds at which a bouncing object hits the floor; empty for other motions."""
    if scene.motion is not Motion.BOUNCE:
        return np.empty(0)
    times = BOUNCE_PERIOD * (0.5 + np.arange(math.ceil(FRAMES / FRAME_RATE / BOUNCE_PERIOD) + 1)) + scene.phase
    return times[times < SAMPLES / SAMPLE_RATE - 0.05]


def render(scene: Scene, frames: slice = slice(None), side: int = SIDE) -> np.ndarray:
    """Render all or some frames, uint8 (FRAMES, side, side, 3)."""
    grid = _grid(side)
    background = _background(scene, side)
    colour, radius = np.array(RGB[scene.colour], np.float32), RADIUS * scene.scale
    centres = path(scene)[frames].astype(np.float32)
    rendered = np.empty((len(centres), side, side, 3), np.uint8)
    rendered[:] = np.rint(background).astype(np.uint8)
    # Most of a picture is background alone: only a window around the object is worth the distances.
    reach = _REACH * radius + 2 / side
    for picture, (x, y) in zip(rendered, centres, strict=True):
        columns, rows = _within(grid, x, reach), _within(grid, y, reach)
        away = distance(scene.shape, grid[columns] - x, grid[rows, None] - y, radius)
        picture[rows, columns] = np.rint(_covered(background[rows], colour, side * away))
    return rendered


def draw_outline(scene: Scene, away: np.ndarray) -> np.ndarray:
    """Draw a frame, float32 (SIDE, SIDE, 3), whose object has another outline than the scene's.

    Args:
        away: signed distances (SIDE, SIDE) from the outline, as fractions of the frame, negative inside.
    """
    colour, away = np.array(RGB[scene.colour], np.float32), away.astype(np.float32)
    return _covered(_background(scene, SIDE), colour, SIDE * away)


def _grid(side: int) -> np.ndarray:
    """Return the middles of pixels, as fractions of the frame."""
    return (np.arange(side, dtype=np.float32) + 0.5) / side


def _background(scene: Scene, side: int) -> np.ndarray:
    """Return the colour of each row, float32 (side, 1, 3)."""
    wall, floor = (np.array(colour, np.float32) for colour in WALL_AND_FLOOR[scene.background])
    return wall + (floor - wall) * np.clip((_grid(side) - FLOOR) * side + 0.5, 0, 1)[:, None, None]


def _covered(background: np.ndarray, colour: np.ndarray, away: np.ndarray) -> np.ndarray:
    """Return the colours of pixels that are so far, in pixels, from an object's outline."""
    return background + (colour - background) * np.clip(0.5 - away, 0, 1)[..., None]


def _within(grid: np.ndarray, middle: float, reach: float) -> slice:
    """Return the part of an ascending grid that is at most so far from the middle."""
    return slice(*np.searchsorted(grid, (middle - reach, middle + reach)))


def synthesise(scene: Scene) -> np.ndarray:
    """Synthesise the sound, float32 (SAMPLES,) in [-1, 1]."""
    random = np.random.default_rng(scene.seed)
    time = np.arange(SAMPLES) / SAMPLE_RATE
    match scene.sound:
        case Sound.IMPACT:
            sound = _impacts(scene, time, random)
        case Sound.LOW_TONE:
            sound = _tone(np.full(SAMPLES, LOW_PITCH), time)
        case Sound.HIGH_TONE:
            sound = _tone(np.full(SAMPLES, HIGH_PITCH), time)
        case Sound.FOLLOWING_TONE:
            sound = _tone(following_pitch(scene, time), time)
        case Sound.WIND:
            sound = _wind(time, random)
        case Sound.SILENCE:
            sound = np.zeros(SAMPLES)
    return (sound * _fade(time)).astype(np.float32)


def following_pitch(scene: Scene, time: np.ndarray) -> np.ndarray:
    """Return the pitch in hertz at these times, which follows the object's height."""
    height = (FLOOR - path(scene)[:, 1]) / FLOOR
    low, high = FOLLOWING_PITCH
    # Steps start with a mel frame, where every such tone crosses zero, so that there are no clicks.
    time = np.floor(time * PITCH_STEP + 1e-6) / PITCH_STEP
    gliding = low * (high / low) ** np.interp(time, np.arange(FRAMES) / FRAME_RATE, np.clip(height, 0, 1))
    return PITCH_STEP * np.rint(gliding / PITCH_STEP)


def _pick(random: np.random.Generator, choices: Iterable[T]) -> T:
    options = list(choices)
    return options[random.integers(len(options))]


def bounce_height(time: np.ndarray) -> np.ndarray:
    """Return the height, 0 at the floor to 1 at the top: a parabola between two contacts, with the top at time 0."""
    from_top = (time / BOUNCE_PERIOD + 0.5) % 1 - 0.5
    return 1 - (2 * from_top) ** 2


def distance(shape: Shape, dx: np.ndarray, dy: np.ndarray, radius: float) -> np.ndarray:
    """Return the signed distance from the outline of a shape at (0, 0), negative inside; all lengths in one unit."""
    match shape:
        case Shape.BALL:
            return np.hypot(dx, dy) - radius
        case Shape.SQUARE:
            return np.maximum(np.abs(dx), np.abs(dy)) - _FOOT[shape] * radius
        case Shape.TRIANGLE:
            half_width, height, apex = 1.05 * radius, 1.9 * radius, 1.05 * radius
            slope = (height * np.abs(dx) - half_width * (dy + apex)) / math.hypot(height, half_width)
            return np.maximum(slope, dy - _FOOT[shape] * radius)
        case Shape.RING:
            distance = np.hypot(dx, dy)
            return np.maximum(distance - _FOOT[shape] * radius, 0.5 * radius - distance)


def _tone(pitch: np.ndarray, time: np.ndarray) -> np.ndarray:
    return 0.35 * np.sin(2 * math.pi * pitch * time)


def _impacts(scene: Scene, time: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return a thump and a click at each impact, which decay within a tenth of a second."""
    sound = np.zeros(SAMPLES)
    for moment in impacts(scene):
        since = time - moment
        after = np.where(since >= 0, since, np.inf)
        sound += 0.7 * np.exp(-after / 0.04) * np.sin(2 * math.pi * 140 * np.where(since >= 0, since, 0))
        sound += 0.3 * np.exp(-after / 0.012) * random.uniform(-1, 1, SAMPLES)
    return np.clip(sound, -1, 1)


def _wind(time: np.ndarray, random: np.random.Generator) -> np.ndarray:
    spectrum = np.fft.rfft(random.standard_normal(SAMPLES))
    frequency = np.fft.rfftfreq(SAMPLES, 1 / SAMPLE_RATE)
    noise = np.fft.irfft(spectrum / (1 + (frequency / 600) ** 2), SAMPLES)
    swell = 1 + 0.3 * np.sin(2 * math.pi * (time / 2.5 + random.uniform()))
    return 0.12 * swell * noise / noise.std()


def _fade(time: np.ndarray) -> np.ndarray:
    """Return an envelope that fades in and out within 20 ms, so that there are no clicks at the ends."""
    return np.clip(np.minimum(time, time[-1] - time) / 0.02, 0, 1)
