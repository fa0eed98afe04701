"""Writes a film's mp4 as its frames and its sound come: to a part file, which becomes the film when it is complete."""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import av
import numpy as np
from av.video.frame import PictureType

from ovi_studio.core.variants import FRAME_RATE, SAMPLE_RATE
from ovi_studio.media.mp4_encoder import add_audio, add_video, sound_frame
from ovi_studio.media.small_files import part_path

if TYPE_CHECKING:
    from av.container.core import Chapter as StoredChapter


@dataclass(frozen=True)
class Chapter:
    """A part of the film that players can jump to, in frames."""

    title: str
    start: int
    end: int


class FilmFile:
    """A film that is being written, within a `with` block; an error in the block leaves no file behind."""

    def __init__(self, path: Path, height: int, width: int, *, comment: str, chapters: Sequence[Chapter]) -> None:
        self._path, self._part = path, part_path(path)
        # The length of the sound is in units of the whole file; in milliseconds it would be rounded up to 16 samples.
        options = {"movflags": "faststart", "movie_timescale": str(math.lcm(FRAME_RATE, SAMPLE_RATE))}
        self._container = av.open(str(self._part), "w", format="mp4", options=options)
        self._container.metadata["comment"] = comment
        self._container.set_chapters([_chapter(number, chapter) for number, chapter in enumerate(chapters)])
        self._video = add_video(self._container, height, width)
        self._audio = add_audio(self._container)
        self._frames = 0
        self._samples = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._container.close()
        finally:
            self._part.unlink(missing_ok=True)

    def add_frame(self, frame: av.VideoFrame) -> None:
        """Encode the next frame: 8-bit 4:2:0 in the film's size."""
        frame.pts, frame.time_base = self._frames, Fraction(1, FRAME_RATE)
        # What it was in the clip is of no use here.
        frame.pict_type = PictureType.NONE
        self._frames += 1
        self._container.mux(self._video.encode(frame))

    def add_sound(self, samples: np.ndarray) -> None:
        """Encode the next samples, float32 (N,)."""
        if len(samples):
            self._container.mux(self._audio.encode(sound_frame(samples, self._samples)))
            self._samples += len(samples)

    def finish(self, boxes: Iterable[bytes]) -> None:
        """Append boxes that players skip, and give the film its name; the last call in the block."""
        for stream in (self._video, self._audio):
            self._container.mux(stream.encode(None))
        self._container.close()
        with self._part.open("ab") as file:
            file.writelines(boxes)
            file.flush()
            # Without this, the rename could survive a power cut and the data not.
            os.fsync(file.fileno())
        self._part.replace(self._path)


def _chapter(number: int, chapter: Chapter) -> "StoredChapter":
    return {
        "id": number,
        "start": chapter.start,
        "end": chapter.end,
        "time_base": Fraction(1, FRAME_RATE),
        "metadata": {"title": chapter.title},
    }
