"""Spans of a clip's time, in seconds: what of a source is kept. One text form for tables, JSON and the command line.

`all`, or spans such as `0-1.5,3-` (from the start to 1.5 s, and from 3 s to the end). A span keeps the latents that lie
completely inside it, so what is made again is rounded up.
"""

import itertools
import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import FRAME_RATE, FRAMES_PER_LATENT, SAMPLE_RATE, SAMPLES_PER_LATENT


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a clip. Raises `JobError` unless 0 <= start < end."""

    start: float
    """Seconds."""
    end: float | None = None
    """Seconds; None: the end of the clip."""

    def __post_init__(self) -> None:
        end = math.inf if self.end is None else self.end
        # NaN fails every comparison.
        if not (0 <= self.start < end and math.isfinite(self.start) and (self.end is None or math.isfinite(end))):
            raise JobError(f"A span must end after it starts, at 0 seconds or later, not {_format(self)}.")


Spans = tuple[Span, ...]
"""In order, without overlaps."""

NOTHING: Spans = ()
ALL: Spans = (Span(0.0),)
_ALL, _NONE = "all", "none"
_ROUNDING = 1e-6
"""Seconds."""


def parse_spans(value: Any) -> Spans:
    """Parse `all`, `none`, or `0-1.5,3-`; raises `JobError`."""
    if isinstance(value, tuple):
        return check_spans(value)
    text = value.strip().lower() if isinstance(value, str) else ""
    if text in (_ALL, _NONE):
        return ALL if text == _ALL else NOTHING
    try:
        spans = tuple(_parse_span(part) for part in text.replace(";", ",").split(","))
    except ValueError:
        sentence = f"{reprlib.repr(value)} is no span of time; write all, or seconds such as 0-1.5,3-."
        raise JobError(sentence) from None
    return check_spans(spans)


def format_spans(spans: Spans) -> str | None:
    """Return the inverse of `parse_spans`; None for nothing."""
    if spans == ALL:
        return _ALL
    return ",".join(map(_format, spans)) or None


def check_spans(spans: Spans) -> Spans:
    """Return the spans; raises `JobError` unless they are in order and apart."""
    for span, following in itertools.pairwise(spans):
        if span.end is None or span.end >= following.start:
            raise JobError(
                f"The spans {format_spans(spans)} overlap or are out of order; give each part once, from early to late."
            )
    return spans


def all_but(start: float, end: float | None) -> Spans:
    """Return everything except the time from `start` to `end`, which may be the end of the clip."""
    made = Span(start, end)
    before = (Span(0.0, made.start),) if made.start > 0 else ()
    return before if made.end is None else (*before, Span(made.end))


def kept_around(start: float, end: float | None, only: str | None) -> tuple[Spans, Spans]:
    """Return what is kept of picture and sound if the time from `start` to `end` is made again.

    Args:
        only: the half that is made again, `picture` or `sound`; None: both.
    """
    kept = all_but(start, end)
    return (ALL if only == "sound" else kept), (ALL if only == "picture" else kept)


def kept_of_picture(spans: Spans, latent_frames: int) -> list[bool]:
    """Return which latent frames of a video lie completely in the spans.

    The first one is a single frame, each other one the next `FRAMES_PER_LATENT`. Raises `JobError` for a span that
    keeps none.
    """
    ends = [(1 + FRAMES_PER_LATENT * index) / FRAME_RATE for index in range(latent_frames)]
    return _kept(spans, [0.0, *ends], "picture")


def kept_of_sound(spans: Spans, length: int) -> list[bool]:
    """Return which audio latents lie completely in the spans; raises `JobError` for a span that keeps none."""
    return _kept(spans, [index * SAMPLES_PER_LATENT / SAMPLE_RATE for index in range(length + 1)], "sound")


def _kept(spans: Spans, edges: Sequence[float], half: str) -> list[bool]:
    times = list(itertools.pairwise(edges))
    for span in spans:
        if not any(_within(span, *time) for time in times):
            raise JobError(
                f"{_format(span)} seconds keep nothing of the {half}, which lasts {edges[-1]:.2f} s and is kept in "
                f"steps of {edges[-1] - edges[-2]:.3f} s; choose a longer or an earlier span."
            )
    return [any(_within(span, *time) for span in spans) for time in times]


def _within(span: Span, start: float, end: float) -> bool:
    # Times such as 2.4 are no multiples of a frame in binary.
    return span.start <= start + _ROUNDING and (span.end is None or end <= span.end + _ROUNDING)


def _parse_span(text: str) -> Span:
    start, dash, end = text.partition("-")
    if not dash:
        raise ValueError
    return Span(float(start), float(end) if end.strip() else None)


def _format(span: Span) -> str:
    return f"{span.start:.12g}-{'' if span.end is None else f'{span.end:.12g}'}"
