"""A sink that keeps all frames of a clip. Imports neither torch nor PyAV, so that models run without them."""

from types import TracebackType
from typing import Self

import numpy as np


class FrameArray:
    """A `FrameSink` (`core.clip`): for short clips, and for those who look at every frame."""

    def __init__(self, count: int, height: int, width: int) -> None:
        self._frames = np.empty((count, height, width, 3), np.uint8)
        self._added = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def add(self, frames: np.ndarray) -> None:
        """See `FrameSink`."""
        self._frames[self._added : self._added + len(frames)] = frames
        self._added += len(frames)

    def result(self) -> np.ndarray:
        """See `FrameSink`."""
        return self._frames
