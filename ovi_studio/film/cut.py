"""`CutList`: what a film is joined from, and where in the film each shot lies.

Times are counted in frames, `FRAME_RATE` a second; the sample of a frame follows from its number alone, so that
picture and sound cannot drift apart, however long the film is.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import FRAME_RATE, SAMPLE_RATE

MAX_SHOTS = 500
MAX_FADE_MS = 5000


@dataclass(frozen=True)
class SpokenLine:
    """What somebody says in a shot."""

    who: str
    """May be empty."""
    said: str


@dataclass(frozen=True)
class CutShot:
    """One shot of a film: the chosen take and how it follows the shot before."""

    clip: Path
    title: str = ""
    """Of its chapter; empty: its number."""
    speech: tuple[SpokenLine, ...] = ()
    """In the order in which it is spoken."""
    fade_ms: int = 0
    """Milliseconds of cross-fade from the shot before; 0 is a cut."""
    continues: bool = False
    """Its first frame is the last frame of the shot before, and is left out."""


@dataclass(frozen=True)
class CutList:
    """A film: its shots in order. Raises `JobError` if they cannot follow each other."""

    title: str
    shots: tuple[CutShot, ...]

    def __post_init__(self) -> None:
        if not self.shots:
            raise JobError("The film has no shots; add one.")
        if len(self.shots) > MAX_SHOTS:
            raise JobError(f"The film has {len(self.shots)} shots; make several films of at most {MAX_SHOTS}.")
        if self.shots[0].fade_ms or self.shots[0].continues:
            raise JobError("The first shot follows no other; let it begin with a cut.")
        for number, shot in enumerate(self.shots, 1):
            if not 0 <= shot.fade_ms <= MAX_FADE_MS:
                raise JobError(f"Shot {number} fades in {shot.fade_ms} ms; choose 0 to {MAX_FADE_MS}.")


@dataclass(frozen=True)
class Placed:
    """Where a shot lies in the film, in frames."""

    shot: CutShot
    start: int
    """Of the film; its first frame, which may lie in a fade."""
    length: int
    """Frames that are seen, wholly or in a fade."""
    skipped: int
    """Frames at the clip's beginning that are left out."""
    fade_in: int
    """Frames that it shares with the shot before."""
    fade_out: int
    """Frames that it shares with the shot after it."""

    @property
    def end(self) -> int:
        """The film's first frame after it."""
        return self.start + self.length


def lay_out(cut: CutList, frames: Sequence[int]) -> list[Placed]:
    """Place the shots of a film, given the number of frames of each clip; raises `JobError` if fades do not fit."""
    fades = [round(shot.fade_ms * FRAME_RATE / 1000) for shot in cut.shots]
    placed: list[Placed] = []
    start = 0
    for number, (shot, count, (fade_in, fade_out)) in enumerate(
        zip(cut.shots, frames, itertools.pairwise([*fades, 0]), strict=True), 1
    ):
        skipped = int(shot.continues)
        length = count - skipped
        # Otherwise three shots would be seen at the same time.
        if length < max(1, fade_in + fade_out):
            raise JobError(
                f"Shot {number} has {max(0, length)} frames, which is less than its fades of {fade_in} and {fade_out} "
                f"frames; shorten them."
            )
        placed.append(Placed(shot, start - fade_in, length, skipped, fade_in, fade_out))
        start = placed[-1].end
    return placed


def sample_at(frame: int) -> int:
    """The first sample of a frame."""
    return round(frame * SAMPLE_RATE / FRAME_RATE)
