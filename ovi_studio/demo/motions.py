"""What a path is: the kind of motion, and when a bouncing object meets the floor.

Paths are (T, 2), x and y as parts of the frame from the top left, `FRAME_RATE` a second; NaN where nothing was seen.
Kinds are told by how well a curve of each kind fits, so that a path in another order of frames is none of them.
Nothing here imports torch.
"""

import numpy as np

from ovi_studio.core.variants import FRAME_RATE
from ovi_studio.demo.scenes import BOUNCE_PERIOD, CIRCLE_PERIOD, Motion, bounce_height

_STILL = 0.06
"""Parts of the frame within which something that stands still may wander."""
_ASIDE = 0.12
"""Parts of the frame by which a motion along one axis may stray on the other."""
_MIN_TRAVEL = 0.25
_MIN_LINE_FIT = 0.9
_MIN_CURVE_FIT = 0.8
"""Parts of a path's variance that a curve must explain."""
_PERIODS = np.linspace(0.85, 1.15, 13)
"""Of a motion that goes round, in periods of the scenes'."""
_CIRCLE_RADII = (0.1, 0.35)
_CONTACT_WINDOW = 0.27
"""Seconds before and after a contact in which the path is looked at."""
_MIN_HOP = 0.1
"""By so much, as a part of the frame, an object is higher at the ends of that window."""
_CONTACT_GRID = np.linspace(-0.06, 0.06, 61)


def kind_of_motion(centres: np.ndarray) -> Motion | None:
    """The kind of motion of a path; None if it is none, or too little of it was seen."""
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
    """Seconds at which the object touches the floor and goes up again, between frames; empty if it does not hop."""
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
    """How far values reach, but for a few frames that were measured wrongly."""
    low, high = np.percentile(values, (2, 98))
    return float(high - low)


def _travel(time: np.ndarray, values: np.ndarray) -> float:
    """From start to end along a straight line, in parts of the frame; 0 if the motion is no steady one."""
    slope, start = np.polyfit(time, values, 1)
    fit = 1 - np.var(values - (start + slope * time)) / np.var(values)
    return float(slope * (time[-1] - time[0])) if fit > _MIN_LINE_FIT else 0.0


def _bounces(time: np.ndarray, y: np.ndarray) -> bool:
    """Whether parabolas of about the right period fit, wherever they begin."""
    periods = BOUNCE_PERIOD * _PERIODS[:, None, None]
    phases = np.linspace(0, 1, 40, endpoint=False)[None, :, None]
    # One bounce of the scenes' own period, stretched.
    heights = bounce_height(BOUNCE_PERIOD * (time / periods - phases))
    heights = heights - heights.mean(axis=2, keepdims=True)
    rest = y - y.mean()
    correlation = -(heights @ rest) / np.sqrt((heights**2).sum(axis=2) * (rest @ rest))
    return bool(correlation.max() > 0 and correlation.max() ** 2 > _MIN_CURVE_FIT)


def _circles(time: np.ndarray, x: np.ndarray, y: np.ndarray) -> bool:
    """Whether both axes swing alike, a quarter of a turn apart, at about the right pace."""
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
    """The moment near `frame` at which two arcs of one parabola meet best, in seconds."""
    nearby = np.arange(max(0, frame - reach), min(len(y), frame + reach + 1))
    since = np.abs(nearby / FRAME_RATE - (frame / FRAME_RATE + _CONTACT_GRID[:, None]))
    basis = np.stack([np.ones_like(since), since, since**2], axis=2)
    transposed = basis.transpose(0, 2, 1)
    weights = np.linalg.solve(transposed @ basis, (transposed @ y[nearby])[..., None])
    errors = np.square(y[nearby] - (basis @ weights)[..., 0]).sum(axis=1)
    return float(frame / FRAME_RATE + _CONTACT_GRID[errors.argmin()])
