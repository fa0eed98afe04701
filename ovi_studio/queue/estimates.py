"""Estimates of how long clips take on this machine, from the times of earlier ones.

Every phase is predicted from its own history: the median of the last few times, so that a clip during which the
machine did something else does not spoil the next estimate. All clips of a variant have about the same number of pixels
and frames, whatever their aspect ratio, so its name determines the size. A step takes about half the time without a
negative pass, and less with a step cache, so the key of steps also includes both; the other phases depend on neither.
"""

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ovi_studio.core.improvement import Improvement
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.step_caches import OFF
from ovi_studio.queue.database import Database
from ovi_studio.queue.model import ClipToImprove

_COMPILATION = "pace/compiling"
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
class QueueEstimate:
    """Seconds for all waiting jobs whose kind was measured before, and the number of the others."""

    seconds: float
    unmeasured: int


def record_phase_times(database: Database, spec: ClipSpec, pace: PhaseTimes) -> None:
    """Store the times of a clip."""
    times = asdict(pace)
    step = {"step": times.pop("step")}
    for key, new in ((_edges_key(spec.variant), times), (_key(spec.variant, spec.guided, spec.step_cache), step)):
        known = _history(database, key)
        database.put_setting(key, {name: [*known.get(name, ()), value][-_REMEMBERED:] for name, value in new.items()})


def record_compilation(database: Database, seconds: float) -> None:
    """Store how long compiling took."""
    database.put_setting(_COMPILATION, seconds)


def recorded_compilation(database: Database) -> float:
    """Seconds that compiling took here when it was done last, or before that on the GPU where it was measured."""
    return database.setting(_COMPILATION, _MEASURED_COMPILATION)


def recorded_phase_times(database: Database, spec: ClipSpec) -> PhaseTimes | None:
    """The times of clips of this kind; None if none was made on this machine."""
    return _recall(database, spec.variant, spec.guided, spec.step_cache)


def recorded_edges(database: Database, variant: str) -> EdgeTimes | None:
    """The times of the phases around the steps of this variant's clips, of whichever kind."""
    known = _medians(database, _edges_key(variant))
    return EdgeTimes(**known) if known else None


def estimate_clip(database: Database, spec: ClipSpec) -> float | None:
    """Seconds for one clip, without loading models; None if no clip of its kind was made on this machine."""
    pace = recorded_phase_times(database, spec)
    return None if pace is None else pace.seconds(spec.steps)


def record_improvement(database: Database, improves: ClipToImprove, seconds: float) -> None:
    """Store how long the improvement of a whole clip took."""
    key = _improvement_key(improves.improvement)
    times = [*_history(database, key).get("pixel", ()), seconds / max(1, improves.pixels)]
    database.put_setting(key, {"pixel": times[-_REMEMBERED:]})


def estimate_improvement(database: Database, improvement: Improvement, pixels: int) -> float | None:
    """Seconds for so many pixels of all frames; None if nothing was improved like this on this machine."""
    pace = _medians(database, _improvement_key(improvement)).get("pixel")
    return None if pace is None else pace * pixels


def estimate_queue(database: Database) -> QueueEstimate:
    """Seconds for all waiting jobs; the remaining time of running jobs is in their progress."""
    with database.read() as connection:
        kinds = connection.execute(
            "SELECT variant, guided, step_cache, COUNT(*) AS jobs, SUM(steps) AS steps FROM jobs "
            "WHERE state = 'queued' AND improvement IS NULL GROUP BY variant, guided, step_cache"
        ).fetchall()
        improvements = connection.execute(
            "SELECT improvement, COUNT(*) AS jobs, SUM(pixels) AS pixels FROM jobs "
            "WHERE state = 'queued' AND improvement IS NOT NULL GROUP BY improvement"
        ).fetchall()
    seconds, unmeasured = 0.0, 0
    for kind in improvements:
        taken = estimate_improvement(database, Improvement.from_dict(json.loads(kind["improvement"])), kind["pixels"])
        unmeasured += kind["jobs"] if taken is None else 0
        seconds += taken or 0.0
    for kind in kinds:
        pace = _recall(database, kind["variant"], bool(kind["guided"]), kind["step_cache"])
        if pace is None:
            unmeasured += kind["jobs"]
        else:
            seconds += pace.seconds(0) * kind["jobs"] + pace.step * kind["steps"]
    return QueueEstimate(seconds, unmeasured)


def _recall(database: Database, variant: str, guided: bool, step_cache: str) -> PhaseTimes | None:
    # A kind that an older version recorded has the times of all phases under its own key.
    known = _medians(database, _edges_key(variant)) | _medians(database, _key(variant, guided, step_cache))
    return PhaseTimes(**known) if "step" in known else None


def _medians(database: Database, key: str) -> dict[str, float]:
    return {name: statistics.median(times) for name, times in _history(database, key).items()}


def _history(database: Database, key: str) -> Mapping[str, list[float]]:
    """The times under a key, the latest last; an older version stored only the last one, and not in a list."""
    values = database.setting(key, {})
    return {name: times if isinstance(times, list) else [times] for name, times in values.items()}


def _improvement_key(improvement: Improvement) -> str:
    return f"pace/improvement/{improvement.sha256}/{improvement.fps}"


def _edges_key(variant: str) -> str:
    return f"pace/{variant}"


def _key(variant: str, guided: bool, step_cache: str) -> str:
    if not guided:
        return f"pace/{variant}/plain"
    return f"pace/{variant}/guided" if step_cache == OFF else f"pace/{variant}/guided/{step_cache}"
