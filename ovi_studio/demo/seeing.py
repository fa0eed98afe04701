"""What can be seen in a clip of a scene: background, and the object's colour, shape and place in every frame.

Plain measurements, no learned model. They are made for pictures that went through codecs or came out of a small
generative model: edges may be soft and colours off by some levels (about 30 dB). They are strict about time: what holds
for less than `AGREEMENT` of the frames does not hold, and without one single object in `PRESENCE` of the frames there
is no colour and no shape. Nothing here imports torch.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ovi_studio.demo.scenes import FLOOR, RGB, SIDE, WALL_AND_FLOOR, Background, Colour, Shape, distance

AGREEMENT = 0.8
"""Part of the looked-at frames that must show the same colour, shape or background."""
PRESENCE = 0.9
"""Part of all frames that must show one single object."""
_EVERY = 3
"""Of so many frames one is looked at for colour, shape and background; the place is measured in all."""
_DIFFERENT = 45.0
"""Levels (Euclidean, RGB) from the background; objects are at least 91 away, noise at 30 dB about 14."""
_AREAS = (0.03, 0.21)
"""Of the object, as a part of the frame; scenes have 0.06 to 0.13."""
_WINDOW = 0.3
"""From the object's centre to each side, as a part of the frame."""
_COMPACT = 0.85
"""Part of all that differs from the background which lies in one such window; else there are two objects or clutter."""
_MAX_COLOUR_ERROR = 32.0
_MAX_BACKGROUND_ERROR = 18.0
"""CIE76 colour differences in Lab, beyond which a colour or a background is none of the scenes'."""
_PURE = 0.7
_SAME = 60.0
"""Part of the object's core that must be so few levels from its colour; the scenes' colours are 84 and more apart."""
_MIN_OVERLAP = 0.62
"""Intersection over union of object and best template."""
_AREA_IN_RADII = {Shape.BALL: math.pi, Shape.SQUARE: 1.78**2, Shape.TRIANGLE: 1.995, Shape.RING: 2.678}
"""Radius 1 -> area; from `scenes.distance`."""
_CENTROID_BELOW = {Shape.BALL: 0.0, Shape.SQUARE: 0.0, Shape.TRIANGLE: 0.85 - 1.9 / 3, Shape.RING: 0.0}
"""From a shape's centre down to its centre of mass, in radii."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class VideoMeasurement:
    """What was seen; None is "nothing of the scenes' kind, or not for long enough"."""

    colour: Colour | None
    shape: Shape | None
    background: Background | None
    centres: np.ndarray
    """(T, 2), centre (x, y) of the object as parts of the frame; NaN where there is not one single object."""

    @property
    def presence(self) -> float:
        """Part of the frames that show one single object."""
        return float(np.isfinite(self.centres[:, 0]).mean())


def measure_video(frames: np.ndarray) -> VideoMeasurement:
    """Measure frames, uint8 (T, H, W, 3), RGB; a single frame will do."""
    frames = _scale_down(frames)
    looked_at = slice(None, None, _EVERY)
    difference = _difference(frames, _row_colours(frames))
    differs = difference > _DIFFERENT
    coverage = _coverage(difference, differs)
    centroids, areas = _find_object(coverage, differs)
    single = np.isfinite(areas)
    readable = differs.mean(axis=(1, 2)) < 0.4
    background = _agreed(
        _background_of(frame) if clear else None
        for frame, clear in zip(frames[looked_at], readable[looked_at], strict=True)
    )
    if single.mean() < PRESENCE:
        return VideoMeasurement(None, None, background, centroids)
    cores = _shrink_mask(differs[looked_at])
    colour = _agreed(
        _colour_of(frame[core]) if there else None
        for frame, core, there in zip(frames[looked_at], cores, single[looked_at], strict=True)
    )
    shape = _agreed(
        _shape_of(covered, centroid, area) if there else None
        for covered, centroid, area, there in zip(
            coverage[looked_at], centroids[looked_at], areas[looked_at], single[looked_at], strict=True
        )
    )
    return VideoMeasurement(colour, shape, background, _shape_centres(shape, centroids, areas))


# Where the object is


def _scale_down(frames: np.ndarray) -> np.ndarray:
    """Means of whole blocks, so that pictures of any size cost about the same."""
    factor = min(frames.shape[1:3]) // SIDE
    if factor < 2:
        return frames
    height, width = (side // factor for side in frames.shape[1:3])
    cut = frames[:, : height * factor, : width * factor]
    blocks = cut.reshape(len(frames), height, factor, width, factor, 3)
    return np.rint(blocks.mean(axis=(2, 4), dtype=np.float32)).astype(np.uint8)


def _row_colours(frames: np.ndarray) -> np.ndarray:
    """The background, float32 (H, 1, 3): no object covers half of a row."""
    some = frames[:: max(1, len(frames) // 12), :, ::2]
    rows = some.transpose(1, 3, 0, 2).reshape(frames.shape[1], 3, -1)
    return np.median(rows, axis=2)[:, None].astype(np.float32)


def _difference(frames: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Euclidean distance from the background in levels, float32 (T, H, W)."""
    squares = np.zeros(frames.shape[:3], np.float32)
    for channel in range(3):
        levels = frames[..., channel] - background[..., channel]
        squares += np.square(levels, out=levels)
    return np.sqrt(squares, out=squares)


def _coverage(difference: np.ndarray, differs: np.ndarray) -> np.ndarray:
    """How far each pixel belongs to the object, 0 to 1; half at the middle of an edge, however soft it is."""
    sparse = zip(difference[:, ::2, ::2], differs[:, ::2, ::2], strict=True)
    contrast = [np.median(values[mask]) if mask.any() else np.inf for values, mask in sparse]
    part = difference / np.array(contrast, np.float32)[:, None, None]
    return np.clip(2 * part - 0.5, 0, 1, out=part)


def _find_object(coverage: np.ndarray, differs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres of mass (T, 2) and areas (T,), parts of the frame; NaN where there is not one single object."""
    height, width = coverage.shape[1:]
    y, x = (np.arange(height, dtype=np.float32) + 0.5) / height, (np.arange(width, dtype=np.float32) + 0.5) / width
    mass = np.maximum(coverage.sum(axis=(1, 2)), 1e-6)
    centre_x = coverage.sum(axis=1) @ x / mass
    centre_y = coverage.sum(axis=2) @ y / mass
    for _ in range(3):
        near_x = (np.abs(x - centre_x[:, None]) < _WINDOW).astype(np.float32)
        near_y = (np.abs(y - centre_y[:, None]) < _WINDOW).astype(np.float32)
        columns = (near_y[:, None] @ coverage)[:, 0] * near_x
        rows = (coverage @ near_x[:, :, None])[:, :, 0] * near_y
        mass = np.maximum(columns.sum(axis=1), 1e-6)
        centre_x, centre_y = columns @ x / mass, rows @ y / mass
    different = differs.astype(np.float32)
    inside = (near_y[:, None] @ different @ near_x[:, :, None])[:, 0, 0]
    area = mass / (height * width)
    single = (area > _AREAS[0]) & (area < _AREAS[1]) & (inside >= _COMPACT * differs.sum(axis=(1, 2)))
    centres = np.stack([centre_x, centre_y], axis=1)
    return np.where(single[:, None], centres, np.nan), np.where(single, area, np.nan)


# What it looks like


def _shrink_mask(mask: np.ndarray) -> np.ndarray:
    """Without the pixels at its edge, which are soft."""
    inner = np.zeros_like(mask)
    inner[:, 1:-1, 1:-1] = (
        mask[:, 1:-1, 1:-1] & mask[:, :-2, 1:-1] & mask[:, 2:, 1:-1] & mask[:, 1:-1, :-2] & mask[:, 1:-1, 2:]
    )
    return inner


def _agreed(values: Iterable[T | None]) -> T | None:
    """The value that nearly all frames have."""
    values = list(values)
    value, count = Counter(values).most_common(1)[0]
    return value if count >= AGREEMENT * len(values) else None


def _background_of(frame: np.ndarray) -> Background | None:
    """The nearest pair of wall and floor, from parts of the picture that no object covers."""
    height, width = frame.shape[:2]
    margin = max(1, round(0.03 * width))
    above = frame[: int((FLOOR - 0.06) * height)]
    wall = [above[:margin, ::2], above[::2, :margin], above[::2, -margin:]]
    floor = frame[math.ceil((FLOOR + 0.04) * height) :, ::3]
    seen = [np.median(np.concatenate([part.reshape(-1, 3) for part in wall]), axis=0), np.median(floor, axis=(0, 1))]
    errors = np.linalg.norm(to_lab(np.array(seen)) - _BACKGROUNDS, axis=2).max(axis=1)
    nearest = int(errors.argmin())
    return list(WALL_AND_FLOOR)[nearest] if errors[nearest] < _MAX_BACKGROUND_ERROR else None


def _colour_of(pixels: np.ndarray) -> Colour | None:
    """The nearest colour to the median of pixels, uint8 (N, 3), if they have one colour."""
    if not len(pixels):
        return None
    median = np.median(pixels, axis=0)
    pure = (np.linalg.norm(pixels - median, axis=1) < _SAME).mean()
    errors = np.linalg.norm(to_lab(median) - _COLOURS, axis=1)
    nearest = int(errors.argmin())
    return list(RGB)[nearest] if pure > _PURE and errors[nearest] < _MAX_COLOUR_ERROR else None


def _shape_of(coverage: np.ndarray, centroid: np.ndarray, area: float) -> Shape | None:
    """The shape whose template, of the same area and centre of mass, overlaps most."""
    height, width = coverage.shape
    # A window, for speed; nothing of the object is outside.
    top, left = (max(0, round((part - _WINDOW) * side)) for part, side in ((centroid[1], height), (centroid[0], width)))
    bottom, right = (round((part + _WINDOW) * side) for part, side in ((centroid[1], height), (centroid[0], width)))
    window = coverage[top:bottom, left:right]
    # In units of the frame's height on both axes.
    aspect = width / height
    y = (np.arange(top, top + window.shape[0], dtype=np.float32)[:, None] + 0.5) / height - centroid[1]
    x = ((np.arange(left, left + window.shape[1], dtype=np.float32)[None] + 0.5) / width - centroid[0]) * aspect
    overlaps = {}
    for shape in Shape:
        radius = _radius(shape, area * aspect)
        template = np.clip(0.5 - height * distance(shape, x, y + _CENTROID_BELOW[shape] * radius, radius), 0, 1)
        overlaps[shape] = np.minimum(window, template).sum() / np.maximum(window, template).sum()
    best = max(overlaps, key=overlaps.get)
    return best if overlaps[best] > _MIN_OVERLAP else None


def _radius(shape: Shape, area: float) -> float:
    return math.sqrt(area / _AREA_IN_RADII[shape])


def _shape_centres(shape: Shape | None, centroids: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """From the centre of mass to the shape's own centre, as `scenes.path` gives it."""
    if shape is None:
        return centroids
    radius = _radius(shape, float(np.nanmedian(areas)))
    return centroids - [0, _CENTROID_BELOW[shape] * radius]


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB levels (..., 3), 0 to 255 -> CIE Lab under D65, where distances are as people see them."""
    values = np.asarray(rgb, np.float64) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / (_TO_XYZ.sum(axis=1))
    root = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_COLOURS = to_lab(np.array(list(RGB.values())))
_BACKGROUNDS = to_lab(np.array(list(WALL_AND_FLOOR.values())))
