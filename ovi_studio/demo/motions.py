"""Classify the motion of a path, and find when a bouncing object hits the floor.

Paths are (T, 2), x and y as fractions of the frame from the top left, at `FRAME_RATE`; NaN where no object is seen. A
kind of motion is recognised by the fit of its curve, so that a path with shuffled frames is none of them. Imports no
torch.
"""

import numpy as np

from ovi_studio.core.variants import FRAME_RATE
from ovi_studio.demo.scenes import BOUNCE_PERIOD, CIRCLE_PERIOD, Motion, bounce_height

_STILL = 0.06
"""Maximum extent of a still object's path, as a fraction of the frame."""
_ASIDE = 0.12
"""Maximum extent on the other axis of a motion along one axis, as a fraction of the frame."""
_MIN_TRAVEL = 0.25
"""Minimum length of a motion, as a fraction of the frame."""
_MIN_LINE_FIT = 0.9
"""Minimum fraction of a path's variance explained by a line."""
_MIN_CURVE_FIT = 0.8
"""Minimum fraction of a path's variance explained by a parabola or circle."""
_PERIODS = np.linspace(0.85, 1.15, 13)
"""Accepted periods of a periodic motion, as multiples of the scenes' period."""
_CIRCLE_RADII = (0.1, 0.35)
"""Smallest and largest radius of a circle, as fractions of the frame."""
_CONTACT_WINDOW = 0.27
"""Seconds of the path that are used before and after a contact."""
_MIN_HOP = 0.1
"""Minimum height of the object at both ends of that window, as a fraction of the frame."""
_CONTACT_GRID = np.linspace(-0.06, 0.06, 61)
"""Candidate times of a contact, in seconds from the nearest frame."""


def kind_of_motion(centres: np.ndarray) -> Motion | None:
    """Return the kind of motion of a path, None if it matches none or if too little of it was seen."""
    seen = np.isfinite(centres[:, 0])
    if seen.mean() < 0.5 or seen.sum() < FRAME_RATE:
        return None
    x, y = centres[seen].T
    time = np.flatnonzero(seen) / FRAME_RATE
    wide, high = _extent(x), _extent(y)
    if wide < _STILL and high < _STILL:
        return Motion.STILL
    if high < _ASIDE and abs(travel := _travel(time, x)) > _MIN_TRAVEL:
        return Motion.RIGHT if travel > 0 else Motion.LEFT
    if wide < _ASIDE and _travel(time, y) < -_MIN_TRAVEL:
        return Motion.RISE
    if wide < _ASIDE and high > _MIN_TRAVEL and _bounces(time, y):
        return Motion.BOUNCE
    return Motion.CIRCLE if _circles(time, x, y) else None


def contacts(centres: np.ndarray) -> np.ndarray:
    """Return the times in seconds, with sub-frame precision, at which the object bounces off the floor."""
    seen = np.flatnonzero(np.isfinite(centres[:, 0]))
    if len(seen) < FRAME_RATE or _extent(centres[seen, 0]) > 2 * _ASIDE:
        return np.empty(0)
    y = np.interp(np.arange(len(centres)), seen, centres[seen, 1])
    smooth = np.convolve(np.pad(y, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
    reach = round(_CONTACT_WINDOW * FRAME_RATE)
    found = []
    for frame in range(2, len(y) - 2):
        before, after = smooth[max(0, frame - reach) : frame + 1], smooth[frame : frame + reach + 1]
        lowest = smooth[frame] == max(before.max(), after.max())
        hop = min(smooth[frame] - before.min(), smooth[frame] - after.min())
        if lowest and hop > _MIN_HOP:
            found.append(_contact(y, frame, reach))
    return np.array(found)


def _extent(values: np.ndarray) -> float:
    """Return the range of values, ignoring a few outliers."""
    low, high = np.percentile(values, (2, 98))
    return float(high - low)


def _travel(time: np.ndarray, values: np.ndarray) -> float:
    """Return the distance along a straight line as a fraction of the frame, 0 if the motion is not steady."""
    slope, start = np.polyfit(time, values, 1)
    fit = 1 - np.var(values - (start + slope * time)) / np.var(values)
    return float(slope * (time[-1] - time[0])) if fit > _MIN_LINE_FIT else 0.0


def _bounces(time: np.ndarray, y: np.ndarray) -> bool:
    """Whether parabolas of about the right period fit, with any phase."""
    periods = BOUNCE_PERIOD * _PERIODS[:, None, None]
    phases = np.linspace(0, 1, 40, endpoint=False)[None, :, None]
    # A bounce with the scenes' period, stretched.
    heights = bounce_height(BOUNCE_PERIOD * (time / periods - phases))
    heights = heights - heights.mean(axis=2, keepdims=True)
    rest = y - y.mean()
    correlation = -(heights @ rest) / np.sqrt((heights**2).sum(axis=2) * (rest @ rest))
    return bool(correlation.max() > 0 and correlation.max() ** 2 > _MIN_CURVE_FIT)


def _circles(time: np.ndarray, x: np.ndarray, y: np.ndarray) -> bool:
    """Whether both axes oscillate with about the right period and amplitude, a quarter of a turn apart."""
    path = np.stack([x, y], axis=1)
    for period in CIRCLE_PERIOD * _PERIODS:
        angle = 2 * np.pi * time / period
        basis = np.stack([np.ones_like(angle), np.cos(angle), np.sin(angle)], axis=1)
        weights, *_ = np.linalg.lstsq(basis, path, rcond=None)
        (cos_x, cos_y), (sin_x, sin_y) = weights[1:]
        radii = np.hypot(cos_x, sin_x), np.hypot(cos_y, sin_y)
        fits = 1 - (path - basis @ weights).var(axis=0) / path.var(axis=0)
        right_size = all(_CIRCLE_RADII[0] < radius < _CIRCLE_RADII[1] for radius in radii)
        apart = abs(cos_x * sin_y - sin_x * cos_y) / (radii[0] * radii[1])
        if right_size and fits.min() > _MIN_CURVE_FIT and apart > 0.7:
            return True
    return False


def _contact(y: np.ndarray, frame: int, reach: int) -> float:
    """Return the time in seconds near `frame` at which two arcs of one parabola meet best."""
    nearby = np.arange(max(0, frame - reach), min(len(y), frame + reach + 1))
    since = np.abs(nearby / FRAME_RATE - (frame / FRAME_RATE + _CONTACT_GRID[:, None]))
    basis = np.stack([np.ones_like(since), since, since**2], axis=2)
    transposed = basis.transpose(0, 2, 1)
    weights = np.linalg.solve(transposed @ basis, (transposed @ y[nearby])[..., None])
    errors = np.square(y[nearby] - (basis @ weights)[..., 0]).sum(axis=1)
    return float(frame / FRAME_RATE + _CONTACT_GRID[errors.argmin()])
