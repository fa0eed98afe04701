"""Measure the picture of a scene: the background, and the object's colour, shape and position in every frame.

Plain signal processing without a learned model, for pictures that went through codecs or come from a small generative
model: edges may be soft and colours off by some levels (about 30 dB). It is strict about time: a property must hold in
`AGREEMENT` of the frames, and unless `PRESENCE` of the frames show exactly one object there is no colour and no shape.
What fades, swells or has no edges is no object. Imports no torch.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ovi_studio.demo.scenes import FLOOR, RGB, SIDE, WALL_AND_FLOOR, Background, Colour, Shape, distance

AGREEMENT = 0.85
"""Fraction of the sampled frames that must show the same colour, shape or background."""
PRESENCE = 0.9
"""Fraction of all frames that must show exactly one object."""
_EVERY = 3
"""Colour, shape and background are measured in every third frame, the position in all frames."""
_DIFFERENT = 45.0
"""Minimum distance (Euclidean, RGB levels) from the background; objects are at least 91 away, noise at 30 dB 14."""
_AREAS = (0.03, 0.21)
"""Smallest and largest area of an object, as a fraction of the frame; scenes have 0.06 to 0.13."""
_WINDOW = 0.3
"""Distance from the object's centre to each side of its window, as a fraction of the frame."""
_COMPACT = 0.93
"""Fraction of the differing pixels that must lie in one window; otherwise there are several objects or clutter."""
_STEADY_CONTRAST, _STEADY_AREA = (0.7, 1.4), (0.7, 1.4)
"""How far contrast and area of an object may differ from their medians over the clip; otherwise it fades or swells."""
_MAX_COLOUR_ERROR = 32.0
"""Maximum colour difference (CIE76 in Lab) from one of the scenes' colours."""
_MAX_BACKGROUND_ERROR = 18.0
"""Maximum colour difference (CIE76 in Lab) from one of the scenes' backgrounds."""
_PURE = 0.7
"""Fraction of the object's core that must be near its median colour."""
_SAME = 60.0
"""Distance (Euclidean, RGB levels) that counts as near; the scenes' colours are at least 84 apart."""
_MIN_OVERLAP = 0.8
"""Minimum intersection over union of the object and the best template; an ellipse of 5 to 4 has 0.8 with a circle."""
_BAND, _NOISE = 4, 0.15
"""Edges are looked for within some pixels of an outline; below and above some coverage, differences are noise."""
_SHIFTS = np.array([[0.1, 0.0], [0.35, 0.25], [0.6, 0.5], [0.85, 0.75]], np.float32)
"""Positions within a pixel at which a shape is drawn for comparison."""
_MIN_SHARPNESS = 0.15
"""Minimum sharpness of an object; a smear has no shape."""
_AREA_IN_RADII = {Shape.BALL: math.pi, Shape.SQUARE: 1.78**2, Shape.TRIANGLE: 1.995, Shape.RING: 2.678}
"""Area of a shape with radius 1, from `scenes.distance`."""
_CENTROID_BELOW = {Shape.BALL: 0.0, Shape.SQUARE: 0.0, Shape.TRIANGLE: 0.85 - 1.9 / 3, Shape.RING: 0.0}
"""Distance from a shape's centre down to its centre of mass, in radii."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class VideoMeasurement:
    """What a clip shows; a property is None if it matches no scene or not in enough frames."""

    colour: Colour | None
    shape: Shape | None
    background: Background | None
    centres: np.ndarray
    """(T, 2), centre (x, y) of the object as fractions of the frame; NaN unless there is exactly one object."""
    sharpness: float
    """Width of a drawn shape's edges relative to that of the object's edges, at most 1; 0 without a shape."""

    @property
    def presence(self) -> float:
        """Fraction of the frames that show exactly one object."""
        return float(np.isfinite(self.centres[:, 0]).mean())


def measure_video(frames: np.ndarray) -> VideoMeasurement:
    """Measure one or more frames, uint8 (T, H, W, 3), RGB."""
    frames = _scale_down(frames)
    sampled = slice(None, None, _EVERY)
    rows = _row_colours(frames)
    difference = _difference(frames, rows)
    differs = difference > _DIFFERENT
    contrasts = _contrasts(frames, differs, rows)
    part = difference / contrasts[:, :, None]
    coverage = np.clip(2 * part - 0.5, 0, 1)  # half at the middle of an edge, however soft it is
    centroids, areas = _find_object(coverage, differs, np.median(contrasts, axis=1))
    single = np.isfinite(areas)
    readable = _counts(differs) / differs[0].size < 0.4
    background = _agreed(
        _background_of(frame) if clear else None
        for frame, clear in zip(frames[sampled], readable[sampled], strict=True)
    )
    if single.mean() < PRESENCE:
        return VideoMeasurement(None, None, background, centroids, 0.0)
    cores = _shrink_mask(differs[sampled])
    colour = _agreed(
        _colour_of(frame[core]) if present else None
        for frame, core, present in zip(frames[sampled], cores, single[sampled], strict=True)
    )
    shape = _agreed(
        _shape_of(covered, centroid, area) if present else None
        for covered, centroid, area, present in zip(
            coverage[sampled], centroids[sampled], areas[sampled], single[sampled], strict=True
        )
    )
    sharpness = 0.0 if shape is None else _sharpness(shape, part[sampled][single[sampled]])
    if sharpness < _MIN_SHARPNESS:
        shape = None
    return VideoMeasurement(colour, shape, background, _shape_centres(shape, centroids, areas), sharpness)


# The object's position


def _scale_down(frames: np.ndarray) -> np.ndarray:
    """Average blocks of pixels, so that pictures of any size cost about the same."""
    factor = min(frames.shape[1:3]) // SIDE
    if factor < 2:
        return frames
    height, width = (side // factor for side in frames.shape[1:3])
    cut = frames[:, : height * factor, : width * factor]
    blocks = cut.reshape(len(frames), height, factor, width, factor, 3)
    return np.rint(blocks.mean(axis=(2, 4), dtype=np.float32)).astype(np.uint8)


def _row_colours(frames: np.ndarray) -> np.ndarray:
    """Return the background as the median colour of each row, float32 (H, 1, 3): no object covers half of a row."""
    some = frames[:: max(1, len(frames) // 12), :, ::2]
    rows = some.transpose(1, 3, 0, 2).reshape(frames.shape[1], 3, -1)
    return np.median(rows, axis=2)[:, None].astype(np.float32)


def _difference(frames: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Return the Euclidean distance from the background in levels, float32 (T, H, W)."""
    difference = np.empty(frames.shape[:3], np.float32)
    # One frame at a time stays in the processor's cache.
    for frame, squares in zip(frames, difference, strict=True):
        red, green, blue = (frame[..., channel] - background[..., channel] for channel in range(3))
        np.square(red, out=squares)
        squares += np.square(green, out=green)
        squares += np.square(blue, out=blue)
        np.sqrt(squares, out=squares)
    return difference


def _contrasts(frames: np.ndarray, differs: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Return the distance of the object's median colour from the background of each row in levels, float32 (T, H).

    It is infinite without an object. An object before wall and floor has two contrasts.
    """
    contrasts = np.full(frames.shape[:2], np.inf, np.float32)
    for row, frame, mask in zip(contrasts, frames[:, ::2, ::2], differs[:, ::2, ::2], strict=True):
        if mask.any():
            row[:] = np.linalg.norm(np.median(frame[mask], axis=0) - background[:, 0], axis=1)
    return np.maximum(contrasts, _DIFFERENT)


def _find_object(coverage: np.ndarray, differs: np.ndarray, contrast: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return centres of mass (T, 2) and areas (T,) as fractions of the frame; NaN unless there is one steady object."""
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
    single = (area > _AREAS[0]) & (area < _AREAS[1]) & (inside >= _COMPACT * _counts(differs))
    single &= _near_median(area, single, _STEADY_AREA) & _near_median(contrast, single, _STEADY_CONTRAST)
    centres = np.stack([centre_x, centre_y], axis=1)
    return np.where(single[:, None], centres, np.nan), np.where(single, area, np.nan)


def _counts(masks: np.ndarray) -> np.ndarray:
    """Return how many pixels of each mask (T, H, W) are set; many times faster than their sum."""
    return np.array([np.count_nonzero(mask) for mask in masks])


def _near_median(values: np.ndarray, where: np.ndarray, factors: tuple[float, float]) -> np.ndarray:
    """Return whether each value (T,) lies within these factors of the median of those `where`."""
    if not where.any():
        return where
    median = np.median(values[where])
    return (values > factors[0] * median) & (values < factors[1] * median)


# The object's appearance


def _shrink_mask(mask: np.ndarray) -> np.ndarray:
    """Remove the pixels at the edges of a mask, which are soft."""
    inner = np.zeros_like(mask)
    inner[:, 1:-1, 1:-1] = (
        mask[:, 1:-1, 1:-1] & mask[:, :-2, 1:-1] & mask[:, 2:, 1:-1] & mask[:, 1:-1, :-2] & mask[:, 1:-1, 2:]
    )
    return inner


def _agreed(values: Iterable[T | None]) -> T | None:
    """Return the value that enough frames agree on, None if there is none."""
    counts = Counter(values)
    value, count = counts.most_common(1)[0]
    return value if count >= AGREEMENT * counts.total() else None


def _background_of(frame: np.ndarray) -> Background | None:
    """Return the nearest pair of wall and floor, from parts of the picture that no object covers."""
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
    """Return the colour nearest to the median of pixels, uint8 (N, 3), if they have one colour."""
    if not len(pixels):
        return None
    median = np.median(pixels, axis=0)
    pure = (np.linalg.norm(pixels - median, axis=1) < _SAME).mean()
    errors = np.linalg.norm(to_lab(median) - _COLOURS, axis=1)
    nearest = int(errors.argmin())
    return list(RGB)[nearest] if pure > _PURE and errors[nearest] < _MAX_COLOUR_ERROR else None


def _shape_of(coverage: np.ndarray, centroid: np.ndarray, area: float) -> Shape | None:
    """Return the shape whose template, of equal area and centre of mass, overlaps most."""
    height, width = coverage.shape
    # Only a window, for speed; the object lies inside.
    top, left = (max(0, round((part - _WINDOW) * side)) for part, side in ((centroid[1], height), (centroid[0], width)))
    bottom, right = (round((part + _WINDOW) * side) for part, side in ((centroid[1], height), (centroid[0], width)))
    window = coverage[top:bottom, left:right]
    # In units of the frame's height on both axes.
    aspect = width / height
    y = (np.arange(top, top + window.shape[0], dtype=np.float32)[:, None] + 0.5) / height - centroid[1]
    x = ((np.arange(left, left + window.shape[1], dtype=np.float32)[None] + 0.5) / width - centroid[0]) * aspect
    overlaps: dict[Shape, float] = {}
    for shape in Shape:
        radius = _radius(shape, area * aspect)
        template = np.clip(0.5 - height * distance(shape, x, y + _CENTROID_BELOW[shape] * radius, radius), 0, 1)
        overlaps[shape] = np.minimum(window, template).sum() / np.maximum(window, template).sum()
    best = max(overlaps, key=overlaps.__getitem__)
    return best if overlaps[best] > _MIN_OVERLAP else None


def _sharpness(shape: Shape, part: np.ndarray) -> float:
    """Return the width of a drawn shape's edges relative to that of the object's edges, at most 1.

    Args:
        part: (T, H, W), distance from the background as a fraction of the object's.
    """
    height, width = part.shape[1:]
    inner, outer = _around_outline(part)
    covered = np.clip(part, 0, 1) * outer
    areas = np.maximum(covered.sum(axis=(1, 2)), 1e-6)
    y, x = ((np.arange(side, dtype=np.float32) + 0.5) / height for side in (height, width))
    centroids = np.stack([covered.sum(axis=1) @ x / areas, covered.sum(axis=2) @ y / areas], axis=1)
    radius = _radius(shape, float(np.median(areas)) / height**2)

    def drawn(centres: np.ndarray) -> np.ndarray:
        across, down = x - centres[:, :1], y - centres[:, 1:]
        return np.clip(0.5 - height * distance(shape, across[:, None, :], down[:, :, None], radius), 0, 1)

    # An edge between two pixels is sharper than others. So the shape is drawn where the object is; and at other places,
    # because an object that happens to lie between pixels need not be sharper than usual.
    here = drawn((centroids - [0, _CENTROID_BELOW[shape] * radius]).astype(np.float32))
    elsewhere = drawn(np.array([width, height]) / (2 * height) + _SHIFTS / height)
    expected = max(_softness(each, *_around_outline(each)) for each in (here, elsewhere))
    return min(1.0, expected / max(_softness(part, inner, outer), 1e-6))


def _around_outline(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the object without some pixels at its outline, and with some beyond it, as masks (T, H, W)."""
    inner = outer = part > 0.5
    for _ in range(_BAND):
        inner, outer = _shrink_mask(inner), ~_shrink_mask(~outer)
    return inner, outer


def _softness(part: np.ndarray, inner: np.ndarray, outer: np.ndarray) -> float:
    """Return how many pixels of a frame's outlines, (T, H, W), are neither object nor background, on average."""
    within = np.clip((part - _NOISE) / (1 - 2 * _NOISE), 0, 1)
    return float((within * (1 - within) * (outer & ~inner)).sum() / len(part))


def _radius(shape: Shape, area: float) -> float:
    return math.sqrt(area / _AREA_IN_RADII[shape])


def _shape_centres(shape: Shape | None, centroids: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """Convert centres of mass to the centres of the shape, as in `scenes.path`."""
    if shape is None:
        return centroids
    radius = _radius(shape, float(np.nanmedian(areas)))
    return centroids - [0, _CENTROID_BELOW[shape] * radius]


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """Convert sRGB levels (..., 3), 0 to 255, to CIE Lab under D65, where distances match perception."""
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
