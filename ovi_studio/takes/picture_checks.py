"""Faults of a take's picture: frames that are black, frozen or no numbers, and a jump from the shot that it continues.

Frames are (H, W, 3) RGB, uint8 or floating point on the same scale, and are looked at one by one.
"""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from ovi_studio.core.variants import FRAME_RATE
from ovi_studio.takes.faults import Fault, FaultKind

_BLACK = 24
"""Level (0 to 255) that 99 of 100 values of a black frame are below; dark scenes have lights."""
_STILL = 6.0
"""Levels by which the most-changed 0.2 % of a frame may change while it is the same picture: H.264 refines a repeated
frame by up to 3 at a time (measured), and what moves, however small, soon changes by more."""
_LONGEST_BLACK = FRAME_RATE // 4
_LONGEST_STILL = FRAME_RATE
_JUMP = 6.0
"""Mean change between two frames, in levels, below which nobody sees a jump."""
_JUMP_RATIO = 4.0
"""Change at a cut, relative to the largest change between two frames of the shots beside it."""


def picture_faults(frames: Iterable[np.ndarray]) -> Iterator[Fault]:
    """Faults of a clip's frames in order."""
    broken, black, still = 0, _LongestRun(), _LongestRun()
    first: np.ndarray | None = None
    for frame in frames:
        if not np.isfinite(frame).all():
            broken += 1
            frame = np.nan_to_num(frame, posinf=0, neginf=0)
        black.add(float(np.percentile(frame[::2, ::2], 99)) < _BLACK)
        # From where the run began, so that a slow fade is no standstill.
        same = first is not None and _largest_change(first, frame) <= _STILL
        still.add(same)
        first = first if same else frame
    if broken:
        yield Fault(FaultKind.NOT_FINITE, f"{broken} frames contain NaN or infinite values.")
    if black.longest > _LONGEST_BLACK:
        yield Fault(FaultKind.BLACK, f"The picture is black for {black.longest / FRAME_RATE:.1f} s.")
    # A black picture stands still, too.
    elif still.longest > _LONGEST_STILL:
        yield Fault(FaultKind.FROZEN, f"The picture is frozen for {still.longest / FRAME_RATE:.1f} s.")


def jump_fault(before: Iterable[np.ndarray], after: Iterable[np.ndarray]) -> Fault | None:
    """Whether the picture jumps from a shot to the one that continues it; None if it does not.

    Args:
        before: the last frames of the first shot.
        after: the first frames of the second one; the first of them is to equal the last of `before`.
    """
    first, second = list(before), list(after)
    cut = frame_change(first[-1], second[0])
    pairs = itertools.chain(itertools.pairwise(first), itertools.pairwise(second))
    usual = max((frame_change(*pair) for pair in pairs), default=0.0)
    if cut < max(_JUMP, _JUMP_RATIO * usual):
        return None
    return Fault(
        FaultKind.JUMP,
        f"The picture jumps from the shot before: it changes by {cut:.0f} levels, and by {usual:.1f} in the shots.",
    )


def frame_change(first: np.ndarray, second: np.ndarray) -> float:
    """Mean absolute difference of two frames, in levels of 0 to 255."""
    return float(_difference(first, second).mean())


def _largest_change(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.percentile(_difference(first, second), 99.8))


def _difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    # Every second row and column: a quarter of the work, and enough for what is asked here.
    return np.abs(first[::2, ::2].astype(np.float32) - second[::2, ::2].astype(np.float32))


class _LongestRun:
    """The longest run of something that is true."""

    def __init__(self) -> None:
        self.longest = 0
        self._now = 0

    def add(self, holds: bool) -> None:
        self._now = self._now + 1 if holds else 0
        self.longest = max(self.longest, self._now)
