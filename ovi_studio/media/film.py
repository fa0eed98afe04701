"""A sink for the frames of a clip, which encodes them while the next ones are decoded.

Ten seconds at 960x960 are 660 MB of pixels. A film holds a few pieces of the clip that wait for the encoder, a few
single frames, and packets of H.264. Nothing here imports torch.
"""

import queue
import threading
from types import TracebackType
from typing import Self

import numpy as np

from ovi_studio.core.clip import Frames, Picture
from ovi_studio.media.frames import poster_index, spread_frames
from ovi_studio.media.mp4_encoder import Mp4Encoder

WAITING = 2
"""Pieces of a clip, of a few frames each, that may wait for the encoder; the decoder then waits for it."""


class Film:
    """A `FrameSink` and the `Frames` that it results in: an H.264 stream that is encoded in a thread of its own.

    Of the frames it keeps the poster's and those that previews learn from. An error of the encoder is raised by the
    next `add`, or at the end of the block.
    """

    def __init__(self, count: int, height: int, width: int) -> None:
        self.shape = (count, height, width, 3)
        self._kept: dict[int, np.ndarray | None] = dict.fromkeys([poster_index(count), *spread_frames(count)])
        self._encoder = Mp4Encoder(height, width)
        self._added = 0
        self._waiting: queue.Queue[np.ndarray | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._encode, name="film", daemon=True)
        self._discarded = False
        self._error: BaseException | None = None

    @classmethod
    def of(cls, frames: Frames) -> "Film":
        """Return the film of frames that are all there already, or the film itself."""
        if isinstance(frames, Film):
            return frames
        count, height, width, _ = frames.shape
        with cls(count, height, width) as film:
            for index in range(count):
                film.add(frames[index][np.newaxis])
        return film

    def __getitem__(self, index: int, /) -> np.ndarray:
        frame = self._kept.get(index)
        if frame is None:
            raise IndexError(f"frame {index} was encoded and not kept")
        return frame

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._discarded = error is not None
        self._waiting.put(None)
        self._thread.join()
        if error is None:
            self._raise()

    def add(self, frames: np.ndarray) -> None:
        """See `FrameSink`; waits while `WAITING` pieces wait."""
        self._raise()
        for index in self._kept.keys() & range(self._added, self._added + len(frames)):
            self._kept[index] = frames[index - self._added].copy()
        self._added += len(frames)
        self._waiting.put(frames)

    def result(self) -> "Film":
        """See `FrameSink`."""
        return self

    def mp4(self, samples: np.ndarray, recipe: str, picture: Picture | None, cover: bytes | None) -> bytes:
        """Return the whole file, once; see `Mp4Encoder.finish`."""
        return self._encoder.finish(samples, recipe, picture, cover)

    def _encode(self) -> None:
        """Encode what comes until None; goes on taking it after an error, so that nobody waits for room."""
        while (frames := self._waiting.get()) is not None:
            self._attempt(frames)
        self._attempt(None)

    def _attempt(self, frames: np.ndarray | None) -> None:
        if self._discarded or self._error is not None:
            return
        try:
            if frames is None:
                self._encoder.end_frames()
            else:
                for frame in frames:
                    self._encoder.add(frame)
        except BaseException as error:  # raised in the thread that adds frames
            self._error = error

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
