"""More frames a second by interpolating motion. Imports no torch."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Protocol

import av
from av.filter import Graph


class Interpolator(Protocol):
    """Makes frames between frames; a learned model can take the place of `Minterpolate`."""

    name: str
    """For the record of a clip."""
    before: int
    """Frames that it needs before the first time at which it makes one."""
    after: int
    """Frames that it needs after the last one."""

    def __call__(self, frames: Iterable[av.VideoFrame], rate: int, fps: int) -> Iterator[av.VideoFrame]:
        """Yield frames whose `pts` count `1 / fps` seconds, of the same format as the given ones.

        Args:
            frames: with `pts` that count `1 / rate` seconds, without gaps.
        """


class Minterpolate:
    """libavfilter's motion-compensated interpolation; where the scene changes, it repeats a frame.

    A frame at the time of a given one is that frame, unchanged.
    """

    name = "minterpolate"
    before = 2
    after = 2

    def __call__(self, frames: Iterable[av.VideoFrame], rate: int, fps: int) -> Iterator[av.VideoFrame]:
        """See `Interpolator`."""
        graph: Graph | None = None
        for frame in frames:
            if graph is None:
                graph = _graph(frame, rate, fps)
            graph.vpush(frame)
            yield from _ready(graph)


def _graph(frame: av.VideoFrame, rate: int, fps: int) -> Graph:
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, rate))
    filter_ = graph.add("minterpolate", f"fps={fps}")
    sink = graph.add("buffersink")
    source.link_to(filter_)
    filter_.link_to(sink)
    graph.configure()
    return graph


def _ready(graph: Graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            frame = graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
        yield frame
