"""How long clips take, from the times of earlier ones, for every engine and machine by itself.

Every phase is predicted from its own history: the median of the last few times, so that a clip during which the
machine did something else does not spoil the next estimate. All clips of a variant have about the same number of pixels
and frames, whatever their aspect ratio, so its name determines the size. A step takes about half the time without a
negative pass, and less with a step cache, so the key of steps also includes both; the other phases depend on neither.

An engine is named by its slot, which the engines after it have as well.
"""

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ovi_studio.core.drawing import Drawing
from ovi_studio.core.improvement import Improvement
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.step_caches import OFF
from ovi_studio.queue.database import Database
from ovi_studio.queue.model import FIRST_ENGINE, ClipPhase, ClipToImprove

_PACE = "pace"
_MADE = "made/"
_MEASURED_COMPILATION = 17.0
"""Seconds on an H200 (docs/performance.md)."""
_REMEMBERED = 5
"""Clips of which the times are kept."""


@dataclass(frozen=True)
class EdgeTimes:
    """Seconds that the phases before and after the steps took."""

    text: float
    """Without compiling."""
    decode: float
    write: float


@dataclass(frozen=True)
class PhaseTimes(EdgeTimes):
    """Seconds that the phases of a clip took."""

    step: float

    def seconds(self, steps: int) -> float:
        """Seconds for a whole clip, without loading models."""
        return self.text + steps * self.step + self.decode + self.write


@dataclass(frozen=True)
class DrawingTimes:
    """Seconds that drawing a first frame took, without loading the image model."""

    step: float
    rest: float
    """Before and after the steps."""
    steps: float
    """How many there were."""

    def seconds(self, steps: int | None) -> float:
        """Seconds for a picture; None for as many steps as before."""
        return self.rest + (self.steps if steps is None else steps) * self.step


@dataclass(frozen=True)
class ClipKind:
    """What the time of a clip depends on."""

    variant: str
    guided: bool
    step_cache: str
    steps: int
    """That are computed."""
    draws: str | None = None
    """The image model that draws the first frame; None: nothing is drawn."""
    draw_steps: int | None = None
    """None: the model's own number."""

    @classmethod
    def of(cls, spec: ClipSpec) -> "ClipKind":
        """Return the kind of a clip."""
        drawing = spec.to_draw
        drawn = (None, None) if drawing is None else (drawing.model, drawing.steps)
        return cls(spec.variant, spec.guided, spec.step_cache, spec.evaluated_steps, *drawn)


@dataclass(frozen=True)
class MadeClips:
    """What an engine has made, since this was first counted."""

    clips: int = 0
    seconds: Mapping[str, float] | None = None
    """By phase."""
    latest: ClipKind | None = None
    """The kind of its last clip."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "MadeClips":
        """From what was stored."""
        return cls(values["clips"], values["seconds"], ClipKind(**values["latest"]))

    def with_clip(self, kind: ClipKind, seconds: Mapping[ClipPhase, float]) -> "MadeClips":
        """Return the same after another clip."""
        sums = dict(self.seconds or {})
        for phase, taken in seconds.items():
            sums[phase] = sums.get(phase, 0.0) + taken
        return MadeClips(self.clips + 1, sums, kind)


class History:
    """The times of earlier clips of all engines, read at once."""

    def __init__(self, database: Database) -> None:
        self._stored = database.settings(_PACE)

    def phase_times(self, kind: ClipKind, maker: str) -> PhaseTimes | None:
        """The times of an engine's clips of a kind; None if it made none."""
        # A kind that an older version recorded has the times of all phases under its own key.
        known = self._medians(_edges_key(maker, kind.variant)) | self._medians(_step_key(maker, kind))
        return PhaseTimes(**known) if "step" in known else None

    def seconds(self, kind: ClipKind, maker: str) -> float | None:
        """Seconds that a clip takes an engine, without loading models; None if it made none of its kind."""
        times = self.phase_times(kind, maker)
        if times is None or kind.draws is None:
            return None if times is None else times.seconds(kind.steps)
        drawing = self.drawing(kind.draws, maker)
        return None if drawing is None else drawing.seconds(kind.draw_steps) + times.seconds(kind.steps)

    def drawing(self, model: str, maker: str) -> DrawingTimes | None:
        """The times of an engine's first frames by this image model; None if it drew none."""
        known = self._medians(_drawing_key(maker, model))
        return DrawingTimes(**known) if known else None

    def edges(self, variant: str, maker: str) -> EdgeTimes | None:
        """The times of the phases around the steps of a variant's clips, of whichever kind."""
        known = self._medians(_edges_key(maker, variant))
        return EdgeTimes(**known) if known else None

    def compilation(self, maker: str) -> float:
        """Seconds that compiling took an engine last, or before that on the GPU where it was measured."""
        stored = self._stored.get(_compilation_key(maker))
        return _MEASURED_COMPILATION if stored is None else json.loads(stored)

    def improvement(self, improvement: Improvement, pixels: float) -> float | None:
        """Seconds for so many pixels of all frames; None if nothing was improved like this on this machine."""
        pace = self._medians(_improvement_key(improvement)).get("pixel")
        return None if pace is None else pace * pixels

    def with_time(self, key: str, new: Mapping[str, float]) -> dict[str, list[float]]:
        """The times under a key with another one of each, without those that are too old."""
        known = self._times(key)
        return {name: [*known.get(name, ()), value][-_REMEMBERED:] for name, value in new.items()}

    def _medians(self, key: str) -> dict[str, float]:
        return {name: statistics.median(times) for name, times in self._times(key).items()}

    def _times(self, key: str) -> Mapping[str, list[float]]:
        """The times under a key, the latest last; an older version stored only the last one, and not in a list."""
        values = json.loads(self._stored.get(key, "{}"))
        return {name: times if isinstance(times, list) else [times] for name, times in values.items()}


def record_phase_times(
    database: Database,
    spec: ClipSpec,
    times: PhaseTimes,
    maker: str = FIRST_ENGINE,
    once: Mapping[ClipPhase, float] | None = None,
) -> None:
    """Store the times of a clip.

    Args:
        once: seconds of the phases that only some clips have.
    """
    history, kind = History(database), ClipKind.of(spec)
    edges = asdict(times)
    step = {"step": edges.pop("step") / (1 + spec.resamples)}
    phases = {ClipPhase.TEXT: times.text, ClipPhase.DENOISING: times.step * spec.made_steps}
    phases |= {ClipPhase.DECODING: times.decode, ClipPhase.WRITING: times.write, **(once or {})}
    made = made_clips(database).get(maker, MadeClips()).with_clip(kind, phases)
    database.put_settings(
        {
            _edges_key(maker, spec.variant): history.with_time(_edges_key(maker, spec.variant), edges),
            _step_key(maker, kind): history.with_time(_step_key(maker, kind), step),
            _MADE + maker: asdict(made),
        }
    )


def made_clips(database: Database) -> dict[str, MadeClips]:
    """What every engine has made, by its slot."""
    stored = database.settings(_MADE)
    return {key.removeprefix(_MADE): MadeClips.from_json(json.loads(value)) for key, value in stored.items()}


def record_compilation(database: Database, seconds: float, maker: str = FIRST_ENGINE) -> None:
    """Store how long compiling took."""
    database.put_setting(_compilation_key(maker), seconds)


def record_drawing(database: Database, drawing: Drawing, times: DrawingTimes, maker: str = FIRST_ENGINE) -> None:
    """Store how long drawing a first frame took."""
    key = _drawing_key(maker, drawing.model)
    database.put_setting(key, History(database).with_time(key, asdict(times)))


def record_improvement(database: Database, improves: ClipToImprove, seconds: float) -> None:
    """Store how long the improvement of a whole clip took; clips are only improved on this machine."""
    key = _improvement_key(improves.improvement)
    database.put_setting(key, History(database).with_time(key, {"pixel": seconds / max(1, improves.pixels)}))


def _improvement_key(improvement: Improvement) -> str:
    return f"{_PACE}/improvement/{improvement.sha256}/{improvement.fps}"


def _of(maker: str) -> str:
    # Before there were several, the only one had no name.
    return _PACE if maker == FIRST_ENGINE else f"{_PACE}@{maker}"


def _compilation_key(maker: str) -> str:
    return f"{_of(maker)}/compiling"


def _drawing_key(maker: str, model: str) -> str:
    return f"{_of(maker)}/drawing/{model}"


def _edges_key(maker: str, variant: str) -> str:
    return f"{_of(maker)}/{variant}"


def _step_key(maker: str, kind: ClipKind) -> str:
    key = _edges_key(maker, kind.variant)
    if not kind.guided:
        return f"{key}/plain"
    return f"{key}/guided" if kind.step_cache == OFF else f"{key}/guided/{kind.step_cache}"
