"""Outlines that no scene has, as signed distances: those that melt into another shape, and those of other shapes.

In clips of a small transformer, shapes melt in some frames: a square has the round corner of a ball. A refiner learns
from such frames to draw what the rest of the clip shows, and from other shapes to leave alone what it does not know.
"""

from collections.abc import Callable

import numpy as np

from ovi_studio.demo.scenes import RADIUS, SIDE, Scene, Shape, distance, path

_SHAPES, _UNEVEN, _GAPS = 0.5, 0.2, 0.15
"""Fractions of the melted outlines that are half another shape, uneven, and such of which a part is missing; the others
have a hole."""
_SLIP, _SIZES = 0.006, (0.92, 1.08)
"""How far the shape that an outline melts into lies beside it (a standard deviation, as a fraction of the frame), and
how large it is relative to it."""
_WAVE = (0.01, 0.05)
"""How deep the waves of an uneven outline are, as fractions of the frame."""
_HOLE = (0.2, 0.5)
"""Radius of a hole, in radii of the object."""
_EVERYWHERE = 0.5
"""Fraction of the melted outlines that are melted everywhere, and not more on one side."""
_MELTED = (0.6, 1.0)
"""How far an outline is from its own shape (0) towards the other one (1), where it is most."""


def melted(scene: Scene, frame: int, random: np.random.Generator) -> np.ndarray:
    """Return the distances (SIDE, SIDE) of a frame's pixels from an outline between the object's and another."""
    radius = RADIUS * scene.scale
    x, y = _from_the_middle(scene, frame)
    own = distance(scene.shape, x, y, radius)
    chance = random.random()
    if chance < _SHAPES:
        other = _another_shape(x, y, radius, random)
    elif chance < _SHAPES + _UNEVEN:
        other = _uneven(own, x, y, random)
    elif chance < _SHAPES + _UNEVEN + _GAPS:
        return np.maximum(own, _along(x, y, radius, random, -0.4) * radius)
    else:
        other = _hole_elsewhere(scene.shape, own, x, y, radius, random)
    change = random.uniform(*_MELTED) * (other - own)
    if random.random() >= _EVERYWHERE:
        change = change / (1 + np.exp(-_along(x, y, radius, random) * random.uniform(3, 12)))
    return own + change


def _another_shape(x: np.ndarray, y: np.ndarray, radius: float, random: np.random.Generator) -> np.ndarray:
    shape = list(Shape)[random.integers(len(Shape))]
    aside, below = random.normal(0, _SLIP, 2)
    return distance(shape, x - aside, y - below, radius * random.uniform(*_SIZES))


def _uneven(own: np.ndarray, x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> np.ndarray:
    across, down = (np.sin(random.uniform(0, 7) + random.uniform(15, 45) * axis) for axis in (x, y))
    depth = random.uniform(*_WAVE)
    return own + random.normal(0, depth / 2) + depth * across * down


def _hole_elsewhere(
    shape: Shape, own: np.ndarray, x: np.ndarray, y: np.ndarray, radius: float, random: np.random.Generator
) -> np.ndarray:
    filled = distance(Shape.BALL, x, y, radius) if shape is Shape.RING else own
    aside, below = random.normal(0, radius / 2, 2)
    return np.maximum(filled, radius * random.uniform(*_HOLE) - np.hypot(x - aside, y - below))


def _along(x: np.ndarray, y: np.ndarray, radius: float, random: np.random.Generator, least: float = -0.8) -> np.ndarray:
    """Return how far pixels are, in radii, beyond a random line that is `least` to 0.8 radii beyond the middle."""
    angle = random.uniform(0, 2 * np.pi)
    return (x * np.cos(angle) + y * np.sin(angle)) / radius - random.uniform(least, 0.8)


def unknown(scene: Scene, frame: int, random: np.random.Generator) -> np.ndarray:
    """Return the distances (SIDE, SIDE) of a frame's pixels from the outline of a shape that no scene has."""
    x, y = _from_the_middle(scene, frame)
    angle = random.uniform(0, 2 * np.pi)
    along, across = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    draw = _UNKNOWN[random.integers(len(_UNKNOWN))]
    return draw(along, across, RADIUS * scene.scale, random)


def _from_the_middle(scene: Scene, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how far each column and each row of pixels is from the middle of the object, as fractions of the frame."""
    grid = (np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE
    x, y = path(scene)[frame].astype(np.float32)
    return grid[None] - x, grid[:, None] - y


def _star(x: np.ndarray, y: np.ndarray, radius: float, random: np.random.Generator) -> np.ndarray:
    points = int(random.integers(5, 8))
    # Between a point and the notch beside it, an outline is a straight line.
    turn = np.arctan2(y, x) % (2 * np.pi / points)
    turn = np.minimum(turn, 2 * np.pi / points - turn)
    away = np.hypot(x, y)
    point = np.array([1.2 * radius, 0])
    notch = 1.2 * radius * random.uniform(0.4, 0.6) * np.array([np.cos(np.pi / points), np.sin(np.pi / points)])
    line = notch - point
    normal = np.array([line[1], -line[0]]) / np.hypot(*line)
    return (away * np.cos(turn) - point[0]) * normal[0] + (away * np.sin(turn) - point[1]) * normal[1]


def _cross(x: np.ndarray, y: np.ndarray, radius: float, random: np.random.Generator) -> np.ndarray:
    width, length = random.uniform(0.3, 0.5) * radius, 1.1 * radius
    return np.minimum(
        np.maximum(np.abs(x) - width, np.abs(y) - length), np.maximum(np.abs(x) - length, np.abs(y) - width)
    )


def _bar(x: np.ndarray, y: np.ndarray, radius: float, random: np.random.Generator) -> np.ndarray:
    return np.maximum(np.abs(x) - random.uniform(0.4, 0.6) * radius, np.abs(y) - 1.2 * radius)


def _ellipse(x: np.ndarray, y: np.ndarray, radius: float, random: np.random.Generator) -> np.ndarray:
    flat = random.uniform(0.5, 0.65)
    return (np.hypot(x, y / flat) - 1.15 * radius) * flat


def _pentagon(x: np.ndarray, y: np.ndarray, radius: float, random: np.random.Generator) -> np.ndarray:
    turn = np.arctan2(y, x) % (2 * np.pi / 5) - np.pi / 5
    return np.hypot(x, y) * np.cos(turn) - 0.9 * radius


_Draw = Callable[[np.ndarray, np.ndarray, float, np.random.Generator], np.ndarray]
_UNKNOWN: tuple[_Draw, ...] = (_star, _cross, _bar, _ellipse, _pentagon)
