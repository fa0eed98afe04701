"""Estimates of how long clips take on this machine, from the times of earlier ones.

All clips of a variant have about the same number of pixels and frames, whatever their aspect ratio, so its name
determines the size. A step takes about half the time without a negative pass, and less with a step cache, so the key
also includes both.
"""

from dataclasses import asdict, dataclass

from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.step_caches import OFF
from ovi_studio.queue.database import Database

_COMPILATION = "pace/compiling"
_MEASURED_COMPILATION = 17.0
"""Seconds on an H200 (docs/performance.md)."""


@dataclass(frozen=True)
class PhaseTimes:
    """Seconds that the phases of a clip took."""

    text: float
    """Without compiling."""
    step: float
    decode: float
    write: float

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
    database.put_setting(_key(spec.variant, spec.guided, spec.step_cache), asdict(pace))


def record_compilation(database: Database, seconds: float) -> None:
    """Store how long compiling took."""
    database.put_setting(_COMPILATION, seconds)


def recorded_compilation(database: Database) -> float:
    """Seconds that compiling took here when it was done last, or before that on the GPU where it was measured."""
    return database.setting(_COMPILATION, _MEASURED_COMPILATION)


def recorded_phase_times(database: Database, spec: ClipSpec) -> PhaseTimes | None:
    """The times of the last clip of this kind."""
    return _recall(database, spec.variant, spec.guided, spec.step_cache)


def estimate_clip(database: Database, spec: ClipSpec) -> float | None:
    """Seconds for one clip, without loading models; None if no clip of its kind was made on this machine."""
    pace = recorded_phase_times(database, spec)
    return None if pace is None else pace.seconds(spec.steps)


def estimate_queue(database: Database) -> QueueEstimate:
    """Seconds for all waiting jobs; the remaining time of running jobs is in their progress."""
    with database.read() as connection:
        kinds = connection.execute(
            "SELECT variant, guided, step_cache, COUNT(*) AS jobs, SUM(steps) AS steps FROM jobs "
            "WHERE state = 'queued' GROUP BY variant, guided, step_cache"
        ).fetchall()
    seconds, unmeasured = 0.0, 0
    for kind in kinds:
        pace = _recall(database, kind["variant"], bool(kind["guided"]), kind["step_cache"])
        if pace is None:
            unmeasured += kind["jobs"]
        else:
            seconds += pace.seconds(0) * kind["jobs"] + pace.step * kind["steps"]
    return QueueEstimate(seconds, unmeasured)


def _recall(database: Database, variant: str, guided: bool, step_cache: str) -> PhaseTimes | None:
    values = database.setting(_key(variant, guided, step_cache))
    return None if values is None else PhaseTimes(**values)


def _key(variant: str, guided: bool, step_cache: str) -> str:
    if not guided:
        return f"pace/{variant}/plain"
    return f"pace/{variant}/guided" if step_cache == OFF else f"pace/{variant}/guided/{step_cache}"
